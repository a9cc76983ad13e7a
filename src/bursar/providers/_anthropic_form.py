"""Chat completions in our form ⇄ Anthropic's Messages (version 2023-06-01). Pure: no I/O, no clock, the input is not changed.

What a chat completion can say and Messages cannot:

1. Fields that only steer chance or taste (`seed`, penalties, `logit_bias`, `min_p`, `prediction`, …) are left out, as
   Anthropic's own OpenAI-compatible address and OpenRouter do.
2. What changes the kind of answer (`n` above 1, log probabilities, sound, tools that a provider runs itself) is
   `UpstreamUnable`, which names the field: another provider may have it. What makes no sense anywhere is `UpstreamRefused`.
3. System and developer messages are gathered in front, in order. White space alone is no text there and is left out.
4. `response_format` of type json_schema becomes `output_config.format`, which constrains the decoding (models that lack it say
   so); json_object becomes a sentence in the system prompt.

Thinking depends on the model, read from its name (OpenRouter's migration guides for Claude 4.6 and 4.7):

| model                     | `reasoning`                                              | temperature, top_p, top_k         |
|---------------------------|----------------------------------------------------------|-----------------------------------|
| before 4.6, or no Claude  | a budget: `max_tokens`, or a share of the answer's limit | left out while it thinks          |
| 4.6                       | a budget for `max_tokens`, else adaptive with the effort | left out while it thinks          |
| after                     | adaptive with the effort; `max_tokens` is no budget      | left out, as the model has none   |

A budget never lifts the limit that the client set: the hold covers so many tokens and no more. Where the client set none, ours
grows by the budget.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bursar.providers._errors import UpstreamRefused, UpstreamUnable, failure_in, junk_answer

MAX_TOKENS_DEFAULT = 4_096
"""Of an answer whose client set no limit: Messages requires one, and what the model could write is not known here."""
BUDGET_TOKENS_MIN = 1_024
"""Anthropic's own bound."""
BUDGET_TOKENS_MAX = 128_000
"""OpenRouter's."""
BETAS_MAX = 16
REASONING_FORMAT = "anthropic-claude-v1"

_SHARES_PERCENT = {"minimal": 10, "low": 20, "medium": 50, "high": 80, "xhigh": 95, "max": 95}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_SERVICE_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_TOOL_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_JSON_HINT = "Answer with one valid JSON object and nothing else: no prose around it and no code fence."

_VERSION = re.compile(r"claude-(?:[a-z]+-)*(\d+)(?:[-.](\d{1,2}))?(?!\d)")
_ADAPTIVE_SINCE = (4, 6)
_NEWEST = (99, 0)
_ALWAYS_THINKS = re.compile(r"fable|mythos")
_BETA = re.compile(r"[A-Za-z0-9._-]{1,80}")
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")

Block = dict[str, Any]
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """`body` without `stream`; `betas` for the header `anthropic-beta`; whether the client wants no reasoning in the answer."""

    body: dict[str, Any]
    betas: tuple[str, ...]
    hides_reasoning: bool


def messages_request(chat: Mapping[str, Any], model: str) -> MessagesRequest:
    """A chat completion's body → a body of `POST /v1/messages`. Raises `UpstreamRefused`, naming the field."""
    try:
        return _messages_request({name: value for name, value in chat.items() if value is not None}, model)
    except RecursionError:
        raise UpstreamRefused("The request is nested too deeply.", remedy="Send flatter JSON.") from None


def _messages_request(chat: Mapping[str, Any], model: str) -> MessagesRequest:
    _require_sayable(chat)
    version = _version(model)
    system, turns = _conversation(chat.get("messages"))
    thought = _thinking(chat, version, _off(model, version))
    output, hint = _output_format(chat.get("response_format"))
    if hint is not None:
        system = [*system, hint]
    if thought.effort is not None:
        output["effort"] = thought.effort
    if not turns and system:
        system, turns = [], [{"role": "user", "content": system}]
    if not turns:
        raise UpstreamRefused("messages: at least one message with some text in it is required.")
    optional = {
        "system": system,
        "thinking": thought.config,
        "output_config": output,
        "stop_sequences": _stop_sequences(chat.get("stop")),
        "metadata": {"user_id": chat["user"]} if isinstance(chat.get("user"), str) else None,
        "service_tier": _service_tier(chat.get("service_tier")),
        "cache_control": _cache_control(chat),
    }
    body = {
        "model": model,
        "max_tokens": thought.max_tokens,
        "messages": turns,
        **{name: value for name, value in optional.items() if value},
        **_sampling(chat, version, thinks=thought.thinks),
        **_tools(chat),
    }
    return MessagesRequest(body, _betas(chat.get("anthropic_beta")), thought.hidden)


def _require_sayable(chat: Mapping[str, Any]) -> None:
    if chat.get("n", 1) != 1:
        raise UpstreamUnable("n: this provider makes one choice per request.", remedy="Leave n out, or ask n times.")
    if chat.get("logprobs") or chat.get("top_logprobs"):
        raise UpstreamUnable("logprobs: this provider reports no log probabilities.", remedy="Leave logprobs out.")
    if "audio" in chat or chat.get("modalities", ["text"]) != ["text"]:
        field = "audio" if "audio" in chat else "modalities"
        raise UpstreamUnable(f"{field}: this provider answers with text only.", remedy=f"Leave {field} out.")
    for field, instead in (("functions", "tools"), ("function_call", "tool_choice"), ("web_search_options", "tools")):
        if chat.get(field):
            raise UpstreamUnable(f"{field} is not supported by this provider.", remedy=f"Use {instead}.")


def _version(model: str) -> Version | None:
    """Of a Claude, as far as the name tells; None for other models. A Claude without a number is as new as can be."""
    name = model.lower()
    if "claude" not in name:
        return None
    found = _VERSION.search(name)
    return (int(found[1]), int(found[2] or 0)) if found else _NEWEST


# Messages.


def _conversation(messages: Any) -> tuple[list[Block], list[dict[str, Any]]]:
    """System blocks and turns; neighbours of one role become one turn, as results of parallel tool calls must."""
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages if isinstance(messages, list) else []):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role in ("system", "developer"):
            system += _system_blocks(message, where)
        elif role == "user":
            _say(turns, "user", _marked(_blocks(message.get("content"), f"{where}.content"), message))
        elif role == "assistant":
            _say(turns, "assistant", _assistant_blocks(message, where))
        elif role == "tool":
            _say(turns, "user", [_tool_result(message, where)])
        else:
            raise UpstreamRefused(f"{where}.role: system, developer, user, assistant or tool is required.")
    for turn in turns:  # Anthropic wants results before anything else that the user says
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    _trim_prefill(turns)
    return system, turns


def _say(turns: list[dict[str, Any]], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _trim_prefill(turns: list[dict[str, Any]]) -> None:
    """The beginning of an answer that the model is to go on from must not end in white space."""
    if turns and turns[-1]["role"] == "assistant" and turns[-1]["content"][-1]["type"] == "text":
        last = turns[-1]["content"][-1]
        last["text"] = last["text"].rstrip()


def _system_blocks(message: Mapping[str, Any], where: str) -> list[Block]:
    blocks = _blocks(message.get("content"), f"{where}.content")
    if any(block["type"] != "text" for block in blocks):
        raise UpstreamUnable(f"{where}.content: this provider's system prompt is text only.")
    return _marked(blocks, message)


def _assistant_blocks(message: Mapping[str, Any], where: str) -> list[Block]:
    for field in ("function_call", "audio"):
        if message.get(field):
            raise UpstreamUnable(f"{where}.{field} is not supported by this provider.", remedy="Use tool_calls.")
    calls = message.get("tool_calls")
    if not isinstance(calls, list | None):
        raise UpstreamRefused(f"{where}.tool_calls: a list is required.")
    said = _blocks(message.get("content"), f"{where}.content")
    uses = [_tool_use(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls or [])]
    return _thoughts(message.get("reasoning_details")) + _marked(said + uses, message)


def _thoughts(details: Any) -> list[Block]:
    """Thinking to give back. Only what Anthropic signed or sealed: it refuses anybody else's.

    A client that collected a stream may send the pieces as they came: text by text, the signature in the last.
    """
    blocks: list[Block] = []
    text, index = "", None
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, dict) or detail.get("format", REASONING_FORMAT) not in (REASONING_FORMAT, None):
            continue
        if detail.get("type") == "reasoning.encrypted" and isinstance(detail.get("data"), str) and detail["data"]:
            blocks.append({"type": "redacted_thinking", "data": detail["data"]})
        if detail.get("type") != "reasoning.text":
            continue
        if detail.get("index") != index:
            text, index = "", detail.get("index")
        text += detail["text"] if isinstance(detail.get("text"), str) else ""
        if isinstance(detail.get("signature"), str) and detail["signature"]:
            blocks.append({"type": "thinking", "thinking": text, "signature": detail["signature"]})
            text = ""
    return blocks


def _tool_use(call: Any, where: str) -> Block:
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise UpstreamRefused(f"{where}: a call of a function with a name is required.")
    return {
        "type": "tool_use",
        "id": _id(call.get("id"), f"{where}.id"),
        "name": name,
        "input": _arguments(function.get("arguments"), f"{where}.function.arguments"),
    }


def _arguments(arguments: Any, where: str) -> dict[str, Any]:
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return {}
    try:
        decoded = msgspec.json.decode(arguments) if isinstance(arguments, str) else arguments
    except (msgspec.MsgspecError, UnicodeError):
        decoded = None
    if not isinstance(decoded, dict):
        raise UpstreamRefused(f"{where}: a JSON object in a string is required.")
    return decoded


def _tool_result(message: Mapping[str, Any], where: str) -> Block:
    blocks = _blocks(message.get("content"), f"{where}.content")
    result: Block = {"type": "tool_result", "tool_use_id": _id(message.get("tool_call_id"), f"{where}.tool_call_id")}
    if blocks:
        result["content"] = blocks
    return _marked([result], message)[0]


def _id(value: Any, where: str) -> str:
    """Other providers' ids may hold what Anthropic's may not, such as `functions.weather:0`; a call and its result change alike."""
    if not isinstance(value, str) or not value:
        raise UpstreamRefused(f"{where}: a string is required.")
    return _NOT_IN_IDS.sub("_", value)


# Content parts.


def _blocks(content: Any, where: str) -> list[Block]:
    if not isinstance(content, list):
        return [] if content is None else _text_block(content, where)
    return [block for number, part in enumerate(content) for block in _part_blocks(part, f"{where}[{number}]")]


def _part_blocks(part: Any, where: str) -> list[Block]:
    """One block, or none for text without any."""
    if not isinstance(part, dict):
        return [] if part is None else _text_block(part, where)
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return _marked(_text_block(part.get(kind), f"{where}.{kind}"), part)
    if kind == "image_url":
        return _marked([{"type": "image", "source": _image_source(part.get("image_url"), f"{where}.image_url")}], part)
    if kind == "file":
        return _marked([_document(part.get("file"), f"{where}.file")], part)
    if kind in ("input_audio", "video_url", "input_video"):
        raise UpstreamUnable(f"{where}: this provider takes no part of type {kind}.")
    raise UpstreamRefused(f"{where}.type: text, image_url or file is required.")


def _text_block(text: Any, where: str) -> list[Block]:
    if not isinstance(text, str):
        raise UpstreamRefused(f"{where}: a string is required.")
    return [{"type": "text", "text": text}] if text.strip() else []


def _image_source(image: Any, where: str) -> dict[str, Any]:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise UpstreamRefused(f"{where}.url: a string is required.")
    return _source(url, f"{where}.url")


def _source(url: str, where: str) -> dict[str, Any]:
    if url[:8].lower().startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    media_type, data = _data_url(url, where)
    return {"type": "base64", "media_type": media_type, "data": data}


def _data_url(url: str, where: str) -> tuple[str, str]:
    head, comma, data = url.partition(",")
    scheme, _, described = head.partition(":")
    media_type, *parameters = described.lower().split(";")
    if scheme.lower() != "data" or not comma or not media_type or "base64" not in parameters:
        raise UpstreamRefused(f"{where}: a URL is required: https://…, or data:<media type>;base64,<data>.")
    return media_type, data


def _document(file: Any, where: str) -> Block:
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(file, dict) or not isinstance(data, str):
        if isinstance(file, dict) and file.get("file_id"):
            raise UpstreamUnable(f"{where}.file_id: files are sent to this provider by value.", remedy="Use file_data.")
        raise UpstreamRefused(f"{where}.file_data: a string is required.")
    block: Block = {"type": "document", "source": _document_source(data, f"{where}.file_data")}
    if isinstance(file.get("filename"), str) and file["filename"]:
        block["title"] = file["filename"]
    return block


def _document_source(data: str, where: str) -> dict[str, Any]:
    source = _source(data, where)
    if source["type"] == "url" or source["media_type"] == "application/pdf":
        return source
    if source["media_type"] != "text/plain":
        raise UpstreamUnable(f"{where}: this provider reads PDF and plain text.")
    try:
        text = base64.b64decode(source["data"], validate=True).decode()
    except ValueError:
        raise UpstreamRefused(f"{where}: this is no UTF-8 text in base64.") from None
    return {"type": "text", "media_type": "text/plain", "data": text}


def _marked(blocks: list[Block], by: Mapping[str, Any]) -> list[Block]:
    """The last block with the cache mark of its part or message, unless it has one."""
    mark = _cache_control(by)
    if mark is None or not blocks or "cache_control" in blocks[-1]:
        return blocks
    return [*blocks[:-1], {**blocks[-1], "cache_control": mark}]


def _cache_control(of: Mapping[str, Any]) -> dict[str, Any] | None:
    mark = of.get("cache_control")
    return mark if isinstance(mark, dict) else None


# Tools.


def _tools(chat: Mapping[str, Any]) -> dict[str, Any]:
    """`tools` and `tool_choice`; a choice without tools means nothing there and is left out."""
    tools = chat.get("tools", [])
    if not isinstance(tools, list):
        raise UpstreamRefused("tools: a list is required.")
    if not tools:
        return {}
    said: dict[str, Any] = {"tools": [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]}
    choice = _tool_choice(chat.get("tool_choice"))
    if chat.get("parallel_tool_calls") is False and choice != {"type": "none"}:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        said["tool_choice"] = choice
    return said


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise UpstreamRefused(f"{where}: an object is required.")
    if tool.get("type", "function") != "function":
        raise UpstreamUnable(f"{where}.type: only functions are passed on to this provider.")
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UpstreamRefused(f"{where}.function: an object with a name is required.")
    schema = function.get("parameters") or {"properties": {}}
    if not isinstance(schema, dict):
        raise UpstreamRefused(f"{where}.function.parameters: a JSON schema is required.")
    said: dict[str, Any] = {"name": function["name"], "input_schema": {"type": "object", **schema}}
    if isinstance(function.get("description"), str):
        said["description"] = function["description"]
    if function.get("strict") is True:
        said["strict"] = True
    mark = _cache_control(tool) or _cache_control(function)
    return said if mark is None else {**said, "cache_control": mark}


def _tool_choice(choice: Any) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _TOOL_CHOICES:
        return {"type": _TOOL_CHOICES[choice]}
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return {"type": "tool", "name": function["name"]}
    raise UpstreamUnable("tool_choice: auto, none, required or one function by name is required.")


# Thinking, sampling, output.


@dataclass(frozen=True, slots=True)
class _Thought:
    config: dict[str, Any] | None
    effort: str | None
    max_tokens: int
    hidden: bool

    @property
    def thinks(self) -> bool:
        return self.config is not None and self.config.get("type") != "disabled"


def _thinking(chat: Mapping[str, Any], version: Version | None, off: dict[str, Any] | None) -> _Thought:
    """By the table in this module's docstring; `off` is what says no. `verbosity` is OpenRouter's name for the effort and wins over `reasoning`'s."""
    reasoning = chat.get("reasoning", {})
    if not isinstance(reasoning, dict):
        raise UpstreamRefused("reasoning: an object is required.")
    limit = _whole(chat.get("max_completion_tokens", chat.get("max_tokens")), "max_tokens")
    wanted = reasoning.get("effort")
    effort = _effort(chat.get("reasoning_effort") if wanted is None else wanted, "reasoning.effort")
    budget = _whole(reasoning.get("max_tokens"), "reasoning.max_tokens")
    if effort not in (None, "none") and budget is not None:
        raise UpstreamRefused("reasoning: effort and max_tokens exclude each other.", remedy="Keep one of them.")
    hidden = reasoning.get("exclude") is True or chat.get("include_reasoning") is False
    adaptive = version is not None and version >= _ADAPTIVE_SINCE
    stated = _effort(chat.get("verbosity"), "verbosity") if adaptive else None
    config: dict[str, Any] | None
    if reasoning.get("enabled") is False or effort == "none":
        return _Thought(off, _graded(stated, version), limit or MAX_TOKENS_DEFAULT, hidden)
    if effort is None and budget is None and reasoning.get("enabled") is not True:
        return _Thought(None, _graded(stated, version), limit or MAX_TOKENS_DEFAULT, hidden)
    if adaptive and (budget is None or version != _ADAPTIVE_SINCE):
        config = {"type": "adaptive", "display": "omitted" if hidden else "summarized"}
        return _Thought(config, _graded(stated or effort, version), limit or MAX_TOKENS_DEFAULT, hidden)
    config, max_tokens = _budgeted(budget, effort or "medium", limit)
    return _Thought(config, _graded(stated, version), max_tokens, hidden)


def _budgeted(budget: int | None, effort: str, limit: int | None) -> tuple[dict[str, Any] | None, int]:
    """The thinking and `max_tokens`. No thinking where the client's limit leaves no room for an effort's share."""
    if limit is None:
        wanted = budget if budget is not None else MAX_TOKENS_DEFAULT * _SHARES_PERCENT[effort] // 100
        wanted = min(max(wanted, BUDGET_TOKENS_MIN), BUDGET_TOKENS_MAX)
        return {"type": "enabled", "budget_tokens": wanted}, MAX_TOKENS_DEFAULT + wanted
    if budget is not None:
        wanted = min(max(budget, BUDGET_TOKENS_MIN), BUDGET_TOKENS_MAX)
        if wanted >= limit:
            remedy = f"Set max_tokens above {wanted}, or a smaller reasoning.max_tokens (at least {BUDGET_TOKENS_MIN})."
            raise UpstreamRefused("reasoning.max_tokens: it leaves no room in max_tokens for an answer.", remedy=remedy)
        return {"type": "enabled", "budget_tokens": wanted}, limit
    if limit <= BUDGET_TOKENS_MIN:
        return None, limit
    wanted = min(max(limit * _SHARES_PERCENT[effort] // 100, BUDGET_TOKENS_MIN), BUDGET_TOKENS_MAX)
    return {"type": "enabled", "budget_tokens": wanted}, limit


def _off(model: str, version: Version | None) -> dict[str, Any] | None:
    """Before Claude 5, not thinking is what happens anyway; some models refuse to be told."""
    may_be_told = version is not None and (5, 0) <= version < _NEWEST and not _ALWAYS_THINKS.search(model.lower())
    return {"type": "disabled"} if may_be_told else None


def _effort(value: Any, where: str) -> str | None:
    if value is None or (isinstance(value, str) and value in {*_SHARES_PERCENT, "none"}):
        return value
    raise UpstreamRefused(f"{where}: none, {', '.join(_SHARES_PERCENT)} is required.")


def _graded(effort: str | None, version: Version | None) -> str | None:
    """The effort as `output_config` takes it: Claude 4.6 knows no xhigh."""
    if effort in {None, "none"}:
        return None
    assert effort is not None
    return "high" if effort == "xhigh" and version == _ADAPTIVE_SINCE else _EFFORTS[effort]


def _sampling(chat: Mapping[str, Any], version: Version | None, *, thinks: bool) -> dict[str, Any]:
    wanted = {name: _number(chat[name], name) for name in ("temperature", "top_p", "top_k") if name in chat}
    if thinks or (version is not None and version > _ADAPTIVE_SINCE):
        return {}
    if "temperature" in wanted:
        wanted["temperature"] = min(wanted["temperature"], 1)  # OpenAI's goes to 2
        if version is not None:  # a Claude takes one of the two
            wanted.pop("top_p", None)
    return wanted


def _number(value: Any, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UpstreamRefused(f"{where}: a number is required.")
    return value


def _whole(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UpstreamRefused(f"{where}: a whole number of at least 1 is required.")
    return value


def _stop_sequences(stop: Any) -> list[str] | None:
    if stop is None:
        return None
    sequences = [stop] if isinstance(stop, str) else stop
    if not isinstance(sequences, list) or not all(isinstance(each, str) for each in sequences):
        raise UpstreamRefused("stop: a string or a list of strings is required.")
    if not all(each.strip() for each in sequences):
        raise UpstreamUnable("stop: this provider takes no sequence that is white space only.")
    return sequences


def _service_tier(tier: Any) -> str | None:
    """Those that cost what the price list says; others are left out."""
    return _SERVICE_TIERS.get(tier) if isinstance(tier, str) else None


def _betas(betas: Any) -> tuple[str, ...]:
    if betas is None:
        return ()
    if not isinstance(betas, list) or len(betas) > BETAS_MAX:
        raise UpstreamRefused(f"anthropic_beta: a list of at most {BETAS_MAX} names is required.")
    if not all(isinstance(beta, str) and _BETA.fullmatch(beta) for beta in betas):
        raise UpstreamRefused("anthropic_beta: names of letters, digits, dots, dashes and underscores are required.")
    return tuple(betas)


def _output_format(wanted: Any) -> tuple[dict[str, Any], Block | None]:
    """`output_config` and a sentence for the system prompt."""
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    if kind in (None, "text"):
        return {}, None
    if kind == "json_object":
        return {}, {"type": "text", "text": _JSON_HINT}
    if kind != "json_schema" or not isinstance(wanted, dict):
        raise UpstreamUnable("response_format.type: text, json_object or json_schema is required.")
    described = wanted.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise UpstreamRefused("response_format.json_schema.schema: a JSON schema is required.")
    return {"format": {"type": "json_schema", "schema": _closed(schema)}}, None


def _closed(schema: Any) -> Any:
    """Anthropic wants said of every object that it has no other properties; OpenAI does only where `strict` is set."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


# Answers.


def completion(
    message: Any, *, created: int, hides_reasoning: bool = False, credential: str | None = None
) -> dict[str, Any]:
    """A whole Message → a `chat.completion`; `finish_reason` is Anthropic's own word. Raises `UpstreamFailed` for anything else."""
    if isinstance(message, dict) and message.get("type") == "error":
        raise failure_in(message.get("error"), credential=credential)
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(content, list):
        raise junk_answer()
    blocks = [block for block in content if isinstance(block, dict)]
    choice = {"index": 0, "message": _said(message, blocks, hides_reasoning=hides_reasoning), "logprobs": None}
    reason = message.get("stop_reason")
    answer = {
        "id": _text(message.get("id")),
        "object": "chat.completion",
        "created": created,
        "model": _text(message.get("model")),
        "choices": [
            {**choice, "finish_reason": reason if isinstance(reason, str) else "end_turn", **_stopped_at(message)}
        ],
    }
    return _accounted(answer, message.get("usage"))


def _said(message: Mapping[str, Any], blocks: list[Block], *, hides_reasoning: bool) -> dict[str, Any]:
    text = "".join(_text(block.get("text")) for block in blocks if block.get("type") == "text")
    calls = [_tool_call(block) for block in blocks if block.get("type") == "tool_use"]
    said: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    said["refusal"] = _refusal(message)
    details = [] if hides_reasoning else _details(blocks)
    if details:
        said["reasoning"] = "".join(detail.get("text", "") for detail in details)
        said["reasoning_details"] = details
    if calls:
        said["tool_calls"] = calls
    return said


def _details(blocks: list[Block]) -> list[dict[str, Any]]:
    thoughts = [block for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
    return [_detail(block, index) for index, block in enumerate(thoughts)]


def _detail(block: Mapping[str, Any], index: int) -> dict[str, Any]:
    if block.get("type") == "redacted_thinking":
        return {
            "type": "reasoning.encrypted",
            "data": _text(block.get("data")),
            "format": REASONING_FORMAT,
            "index": index,
        }
    detail = {
        "type": "reasoning.text",
        "text": _text(block.get("thinking")),
        "format": REASONING_FORMAT,
        "index": index,
    }
    if isinstance(block.get("signature"), str) and block["signature"]:
        detail["signature"] = block["signature"]
    return detail


def _tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": _text(block.get("name")), "arguments": _encoded(block.get("input"))}
    return {"id": _text(block.get("id")), "type": "function", "function": function}


def _encoded(arguments: Any) -> str:
    return msgspec.json.encode(arguments if isinstance(arguments, dict) else {}).decode()


def _refusal(of: Mapping[str, Any]) -> str | None:
    details = of.get("stop_details")
    explanation = details.get("explanation") if isinstance(details, dict) else None
    return explanation if of.get("stop_reason") == "refusal" and isinstance(explanation, str) else None


def _stopped_at(of: Mapping[str, Any]) -> dict[str, str]:
    """`stop_sequence` of a choice, which OpenAI has no word for: which of the client's sequences ended the answer."""
    return {"stop_sequence": of["stop_sequence"]} if isinstance(of.get("stop_sequence"), str) else {}


def _accounted(answer: dict[str, Any], usage: Any) -> dict[str, Any]:
    counted = usage_of(usage)
    if counted is not None:
        answer["usage"] = counted
    if isinstance(usage, dict) and isinstance(usage.get("service_tier"), str):
        answer["service_tier"] = usage["service_tier"]
    return answer


def usage_of(usage: Any) -> dict[str, Any] | None:
    """In OpenAI's shape. Anthropic counts what was read from and written to a cache beside `input_tokens`; we count it inside."""
    if not isinstance(usage, dict):
        return None
    prompt, completion_tokens = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    if prompt is None or completion_tokens is None:
        return None
    read = _count(usage.get("cache_read_input_tokens")) or 0
    written = _count(usage.get("cache_creation_input_tokens")) or 0
    details = usage.get("output_tokens_details")
    thinking = _count(details.get("thinking_tokens")) if isinstance(details, dict) else None
    return {
        "prompt_tokens": prompt + read + written,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt + read + written + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written, **_for_an_hour(usage)},
        "completion_tokens_details": {"reasoning_tokens": min(thinking or 0, completion_tokens)},
    }


def _for_an_hour(usage: Mapping[str, Any]) -> dict[str, int]:
    """The part of what was written that is kept for an hour, where there is one; it costs more."""
    created = usage.get("cache_creation")
    tokens = _count(created.get("ephemeral_1h_input_tokens")) if isinstance(created, dict) else None
    return {"cache_write_1h_tokens": tokens} if tokens else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# Streams.


@dataclass(slots=True)
class _OpenBlock:
    """`number`: which tool call, or which reasoning detail. `begun`: whether any of the arguments were passed on."""

    kind: str
    number: int
    whole: str = ""
    begun: bool = False


class MessageStream:
    """The events of one streamed Message → `chat.completion.chunk`s: `take` each event's data, decoded, in order.

    The finish reason and the whole usage, which Anthropic counts up as it goes, come with the last event; the first has that of the
    prompt. `is_complete` says that the last was there; without it the answer was cut.
    """

    def __init__(self, *, created: int, hides_reasoning: bool = False, credential: str | None = None) -> None:
        self.is_complete = False
        self._head: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": created, "model": ""}
        self._hides_reasoning = hides_reasoning
        self._credential = credential
        self._usage: dict[str, Any] = {}
        self._end: dict[str, Any] = {}
        self._open: dict[int, _OpenBlock] = {}
        self._calls = 0
        self._thoughts = 0

    def take(self, event: Any) -> list[dict[str, Any]]:
        """The chunks that this event makes, maybe none. Raises `UpstreamFailed` for an error event and for what is no event."""
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise junk_answer()
        chunks: list[dict[str, Any]] = []
        match event["type"]:
            case "message_start":
                chunks = self._start(_object(event, "message"))
            case "content_block_start":
                chunks = self._open_block(_index(event), _object(event, "content_block"))
            case "content_block_delta":
                chunks = self._grow(_index(event), _object(event, "delta"))
            case "content_block_stop":
                chunks = self._close_block(_index(event))
            case "message_delta":
                self._end.update(_object(event, "delta"))
                self._count_up(event.get("usage"))
            case "message_stop":
                chunks = self._finish()
            case "error":
                raise failure_in(event.get("error"), credential=self._credential)
            # A ping, or what Anthropic adds later: its documentation asks for tolerance.
        return chunks

    def _start(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        self._head |= {"id": _text(message.get("id")), "model": _text(message.get("model"))}
        self._count_up(message.get("usage"))
        # Already here: of a prompt that was paid for, whatever becomes of the answer, this says what came from a cache.
        return [_accounted(self._chunk({"role": "assistant", "content": ""}), self._usage)]

    def _count_up(self, usage: Any) -> None:
        """Later counts replace earlier ones; a null says nothing."""
        if isinstance(usage, dict):
            self._usage.update({name: value for name, value in usage.items() if value is not None})

    def _open_block(self, index: int, block: Mapping[str, Any]) -> list[dict[str, Any]]:
        kind = block.get("type")
        if kind == "text":
            return self._write(_text(block.get("text")))
        if kind in ("thinking", "redacted_thinking"):
            self._open[index] = _OpenBlock("thinking", self._thoughts)
            self._thoughts += 1
            if kind == "redacted_thinking" or block.get("thinking") or block.get("signature"):
                return self._think(_detail(block, self._open[index].number))
        elif kind == "tool_use":
            whole = _encoded(block.get("input"))
            self._open[index] = _OpenBlock("tool_use", self._calls, whole)
            self._calls += 1
            function = {"name": _text(block.get("name")), "arguments": ""}
            return self._call(
                self._open[index], {"id": _text(block.get("id")), "type": "function", "function": function}
            )
        return []

    def _grow(self, index: int, delta: Mapping[str, Any]) -> list[dict[str, Any]]:
        block = self._open.get(index)
        kind = delta.get("type")
        if kind == "text_delta":
            return self._write(_text(delta.get("text")))
        if kind == "input_json_delta" and block is not None and block.kind == "tool_use":
            return self._argue(block, _text(delta.get("partial_json")))
        if kind in ("thinking_delta", "signature_delta") and block is not None and block.kind == "thinking":
            name = "thinking" if kind == "thinking_delta" else "signature"
            detail = _detail({name: delta.get(name)}, block.number)
            if name == "signature":
                del detail["text"]
            return self._think(detail)
        return []

    def _write(self, text: str) -> list[dict[str, Any]]:
        return [self._chunk({"content": text})] if text else []

    def _think(self, detail: dict[str, Any]) -> list[dict[str, Any]]:
        if self._hides_reasoning:
            return []
        delta: dict[str, Any] = {"reasoning_details": [detail]}
        if detail.get("text"):
            delta["reasoning"] = detail["text"]
        return [self._chunk(delta)]

    def _argue(self, block: _OpenBlock, arguments: str) -> list[dict[str, Any]]:
        if not arguments:
            return []
        block.begun = True
        return self._call(block, {"function": {"arguments": arguments}})

    def _call(self, block: _OpenBlock, call: dict[str, Any]) -> list[dict[str, Any]]:
        return [self._chunk({"tool_calls": [{"index": block.number, **call}]})]

    def _close_block(self, index: int) -> list[dict[str, Any]]:
        """A call without arguments streams none; clients parse what they collected, and `{}` is what it means."""
        block = self._open.pop(index, None)
        if block is None or block.kind != "tool_use" or block.begun:
            return []
        return self._argue(block, block.whole)

    def _finish(self) -> list[dict[str, Any]]:
        self.is_complete = True
        chunks = [chunk for index in list(self._open) for chunk in self._close_block(index)]
        reason = self._end.get("stop_reason")
        refusal = _refusal(self._end)
        last = self._chunk({} if refusal is None else {"refusal": refusal})
        last["choices"][0] |= {
            "finish_reason": reason if isinstance(reason, str) else "end_turn",
            **_stopped_at(self._end),
        }
        counted = _accounted({**self._head, "choices": []}, self._usage)
        return [*chunks, last, counted]

    def _chunk(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {
            **self._head,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}],
        }


def _object(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    if not isinstance(value, dict):
        raise junk_answer()
    return value


def _index(event: Mapping[str, Any]) -> int:
    index = _count(event.get("index"))
    if index is None:
        raise junk_answer()
    return index
