"""Anthropic's Messages ↔ our form (chat completions): plain functions over JSON, without input or output.

Follows Anthropic's Messages reference (as typed by its Python SDK 2.13) and OpenRouter's extensions of both sides:
`reasoning`, `reasoning_details` and `cache_control` here, `models`, `fallbacks`, `provider`, `session_id` and `user` there.

Fields that only steer Anthropic's own service (`context_management`, `diagnostics`, `speed`, …) are left out, and so are
fields nobody knows, so that a client newer than this page is still served. What would change what the answer means or where it
is made (tools that Anthropic runs, files it stores, `inference_geo`, citations) is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bursar.gateway._door import InvalidRequest
from bursar.gateway._wire import encode

Json = dict[str, Any]

FALLBACKS_MAX = 3
CLAUDE = "anthropic-claude-v1"
"""`format` of reasoning details whose signature only Anthropic can read; what a thinking block is without another word."""

_PASSED = (
    "model", "models", "provider", "stream", "max_tokens", "temperature", "top_p", "top_k", "session_id", "user", "plugins",
    "preset", "trace", "route", "transforms", "cache_control",
)  # fmt: skip
_EFFORTS = ("low", "medium", "high", "xhigh", "max")

_NATIVE_STOPS = frozenset(
    ["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"]
)
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


# The request


def chat_fields(fields: Mapping[str, Any]) -> Json:
    """The fields of a chat completion that asks the same. Raises `InvalidRequest`, naming the field as the client wrote it.

    Model, limits, preferences and whatever else both protocols call by one name are handed on unread: `chat_request` judges them.
    """
    _refuse_what_only_anthropic_runs(fields)
    if fields.get("max_tokens") is None:
        raise _wrong("max_tokens", "a whole number is required: the most tokens to write.")
    chat = {name: fields[name] for name in _PASSED if fields.get(name) is not None}
    chat["messages"] = _messages(fields)
    _put(chat, "models", _fallbacks(fields))
    _put(chat, "user", _user(fields))
    _put(chat, "stop", _texts(fields, "stop_sequences"))
    _put(chat, "tools", _tools(fields))
    _put(chat, "reasoning", _reasoning(fields))
    _put(chat, "response_format", _response_format(fields))
    if fields.get("service_tier") == "standard_only":
        chat["service_tier"] = "default"
    return chat | _tool_choice(fields)


def _refuse_what_only_anthropic_runs(fields: Mapping[str, Any]) -> None:
    for name in ("container", "mcp_servers"):
        if fields.get(name):
            raise _wrong(name, "is not offered; run tools on your side and send their results.")
    if fields.get("inference_geo") not in (None, "global"):
        raise _wrong("inference_geo", "is not offered; choose providers by `provider.only`.")


def _fallbacks(fields: Mapping[str, Any]) -> list[str] | None:
    """OpenRouter's `fallbacks` for this protocol: up to three `{"model": …}`, in place of `models`."""
    listed = fields.get("fallbacks")
    if listed is None:
        return None
    if fields.get("models") is not None:
        raise _wrong("fallbacks", "cannot be sent together with models.")
    found = [item.get("model") if isinstance(item, dict) else None for item in _list(listed, "fallbacks")]
    if len(found) > FALLBACKS_MAX or not all(isinstance(model, str) for model in found):
        raise _wrong("fallbacks", f'at most {FALLBACKS_MAX} objects like {{"model": "demo/echo-1"}} are required.')
    return [model for model in found if model is not None]


def _user(fields: Mapping[str, Any]) -> Any:
    metadata = _object_or_none(fields, "metadata")
    if fields.get("user") is not None or metadata is None or metadata.get("user_id") is None:
        return None
    user = metadata["user_id"]
    if not isinstance(user, str) or len(user) > 256 or "\0" in user:
        raise _wrong("metadata.user_id", "a string of at most 256 characters, none of them NUL, is required.")
    return user


def _reasoning(fields: Mapping[str, Any]) -> Json | None:
    thinking, effort = _object_or_none(fields, "thinking"), _effort(fields)
    kind = None if thinking is None else thinking.get("type")
    if thinking is None or kind == "between_tools":
        return None if effort is None else {"effort": effort}
    if kind == "disabled":
        return {"enabled": False}
    if kind == "adaptive":
        return {"enabled": True} if effort is None else {"enabled": True, "effort": effort}
    if kind != "enabled":
        raise _wrong("thinking.type", "enabled, disabled or adaptive is required.")
    budget = thinking.get("budget_tokens")
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise _wrong("thinking.budget_tokens", "a whole number of at least 1 is required.")
    return {"max_tokens": budget}


def _effort(fields: Mapping[str, Any]) -> str | None:
    config = _object_or_none(fields, "output_config")
    effort = None if config is None else config.get("effort")
    if effort is None or effort in _EFFORTS:
        return effort
    raise _wrong("output_config.effort", f"one of {', '.join(_EFFORTS)} is required.")


def _response_format(fields: Mapping[str, Any]) -> Json | None:
    config = _object_or_none(fields, "output_config")
    wanted = None if config is None else config.get("format")
    if wanted is None:
        return None
    if (
        not isinstance(wanted, dict)
        or wanted.get("type") != "json_schema"
        or not isinstance(wanted.get("schema"), dict)
    ):
        raise _wrong("output_config.format", 'an object like {"type": "json_schema", "schema": {…}} is required.')
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": wanted["schema"]}}


def _tools(fields: Mapping[str, Any]) -> list[Json] | None:
    listed = fields.get("tools")
    if listed is None:
        return None
    return [_tool(tool, f"tools[{number}]") for number, tool in enumerate(_list(listed, "tools"))] or None


def _tool(tool: Any, where: str) -> Json:
    tool = _object(tool, where)
    if tool.get("type") not in (None, "custom"):
        raise _wrong(
            f"{where}.type", "only tools that you describe and run yourself (custom) are offered, with an input_schema."
        )
    function: Json = {"name": _text(tool, "name", where)}
    if tool.get("description") is not None:
        function["description"] = _text(tool, "description", where)
    function["parameters"] = _object(tool.get("input_schema"), f"{where}.input_schema")
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"] is True
    return _cached({"type": "function", "function": function}, tool)


def _tool_choice(fields: Mapping[str, Any]) -> Json:
    choice = _object_or_none(fields, "tool_choice")
    if choice is None:
        return {}
    kind = choice.get("type")
    if kind == "tool":
        wanted: Any = {"type": "function", "function": {"name": _text(choice, "name", "tool_choice")}}
    elif kind in ("auto", "any", "none"):
        wanted = "required" if kind == "any" else kind
    else:
        raise _wrong("tool_choice.type", "auto, any, tool or none is required.")
    alone = choice.get("disable_parallel_tool_use")
    if alone is not None and not isinstance(alone, bool):
        raise _wrong("tool_choice.disable_parallel_tool_use", "true or false is required.")
    return {"tool_choice": wanted, **({} if alone is None else {"parallel_tool_calls": not alone})}


# The messages of a request


def _messages(fields: Mapping[str, Any]) -> list[Json]:
    listed = fields.get("messages")
    if not isinstance(listed, list) or not listed:
        raise _wrong("messages", "a list with at least one message is required.")
    found: list[Json] = []
    if fields.get("system") is not None:
        found.append({"role": "system", "content": _system(fields["system"], "system")})
    for number, item in enumerate(listed):
        where = f"messages[{number}]"
        message = _object(item, where)
        content = message.get("content")
        at = f"{where}.content"
        if message.get("role") == "user":
            found += _user_messages(content, at)
        elif message.get("role") == "assistant":
            found.append(_assistant_message(content, at))
        elif message.get("role") == "system":
            found.append({"role": "system", "content": _system(content, at)})
        else:
            raise _wrong(f"{where}.role", "user or assistant is required.")
    return found


def _system(content: Any, where: str) -> str | list[Json]:
    if isinstance(content, str):
        return content
    return _tidy([_text_part(block, at) for block, at in _blocks(content, where)])


def _user_messages(content: Any, where: str) -> list[Json]:
    """Results of tools come first, as the answers to the calls before them: each is a message of its own in our form."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[Json] = []
    parts: list[Json] = []
    for block, at in _blocks(content, where):
        if block.get("type") == "tool_result":
            results.append(_tool_message(block, at))
        else:
            parts.append(_part(block, at))
    if not results and not parts:
        raise _wrong(where, "at least one block is required.")
    return [*results, *([{"role": "user", "content": _tidy(parts)}] if parts else [])]


def _tool_message(block: Json, where: str) -> Json:
    content = block.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else []
    if content is not None and not isinstance(content, str):
        parts = [_part(inner, at) for inner, at in _blocks(content, f"{where}.content")]
    if block.get("is_error") is True:
        parts = _as_error(parts)
    result = {"role": "tool", "tool_call_id": _text(block, "tool_use_id", where), "content": _tidy(parts)}
    return _cached(result, block)


def _as_error(parts: list[Json]) -> list[Json]:
    """Our form has no word for a tool that failed, and providers refuse words they do not know: so the text says it."""
    first = parts[0] if parts else {}
    if "error" in str(first.get("text", ""))[:40].casefold():
        return parts
    if first.get("type") == "text":
        return [{**first, "text": f"Error: {first['text']}"}, *parts[1:]]
    return [{"type": "text", "text": "Error"}, *parts]


def _assistant_message(content: Any, where: str) -> Json:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    parts: list[Json] = []
    details: list[Json] = []
    calls: list[Json] = []
    mark: Json = {}
    for block, at in _blocks(content, where):
        kind = block.get("type")
        if kind in ("thinking", "redacted_thinking"):
            details.append({**_detail(block, at), "index": len(details)})
        elif kind == "tool_use":
            calls.append(_tool_call(block, at))
            mark = block
        elif kind == "text":
            parts.append(_text_part(block, at))
        else:
            raise _unknown_block(kind, at)
    message: Json = {"role": "assistant", "content": _tidy(parts) if parts or not calls else None}
    _put(message, "reasoning_details", details or None)
    _put(message, "tool_calls", calls or None)
    return _cached(message, mark)


def _detail(block: Json, where: str) -> Json:
    """OpenRouter's `reasoning_details` entry of a thinking block; `format` and `id` are words of ours, see `_thinking_block`."""
    shape = block.get("format")
    detail: Json = {"format": shape if isinstance(shape, str) else CLAUDE}
    if isinstance(block.get("id"), str):
        detail["id"] = block["id"]
    if block.get("type") == "redacted_thinking":
        return {"type": "reasoning.encrypted", "data": _text(block, "data", where), **detail}
    detail = {"type": "reasoning.text", "text": _text(block, "thinking", where), **detail}
    if block.get("signature"):
        detail["signature"] = _text(block, "signature", where)
    return detail


def _tool_call(block: Json, where: str) -> Json:
    arguments = _arguments(_object(block.get("input"), f"{where}.input"))
    function = {"name": _text(block, "name", where), "arguments": arguments}
    return {"id": _text(block, "id", where), "type": "function", "function": function}


def _part(block: Json, where: str) -> Json:
    reader = _PARTS.get(str(block.get("type")))
    if reader is None:
        raise _unknown_block(block.get("type"), where)
    return reader(block, where)


def _text_part(block: Json, where: str) -> Json:
    if block.get("type") != "text":
        raise _unknown_block(block.get("type"), where)
    return _cached({"type": "text", "text": _text(block, "text", where)}, block)


def _image_part(block: Json, where: str) -> Json:
    source = _object(block.get("source"), f"{where}.source")
    return _cached({"type": "image_url", "image_url": {"url": _address(source, f"{where}.source")}}, block)


def _document_part(block: Json, where: str) -> Json:
    at = f"{where}.source"
    source = _object(block.get("source"), at)
    citations = block.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        raise _wrong(f"{where}.citations", "is not offered.")
    title, context = (
        _text(block, name, where) if block.get(name) is not None else None for name in ("title", "context")
    )
    kind = source.get("type")
    if kind == "text" or (kind == "content" and isinstance(source.get("content"), str)):
        text = _text(source, "data" if kind == "text" else "content", at)
        said = "\n\n".join(piece for piece in (title, context, text) if piece)
        return _cached({"type": "text", "text": said}, block)
    if kind == "content":
        raise _wrong(at, "send the blocks of this document as blocks of the message.")
    file = {"filename": title or "document.pdf", "file_data": _address(source, at)}
    return _cached({"type": "file", "file": file}, block)


def _address(source: Json, where: str) -> str:
    if source.get("type") == "base64":
        return f"data:{_text(source, 'media_type', where)};base64,{_text(source, 'data', where)}"
    if source.get("type") == "url":
        return _text(source, "url", where)
    raise _wrong(f"{where}.type", "base64 or url is required; stored files are not offered.")


_PARTS: Mapping[str, Callable[[Json, str], Json]] = {
    "text": _text_part,
    "image": _image_part,
    "document": _document_part,
}


def _tidy(parts: list[Json]) -> str | list[Json]:
    """One plain text is a string: some servers know nothing else."""
    if not parts:
        return ""
    [first, *others] = parts
    return first["text"] if not others and first.keys() == {"type", "text"} else parts


def _cached(part: Json, block: Json) -> Json:
    """With the block's `cache_control`; on a message it means the message's last block."""
    mark = block.get("cache_control")
    return part if mark is None else {**part, "cache_control": mark}


# The answer


def message(answer: Mapping[str, Any], stops: Any) -> Json:
    """Anthropic's message of a `chat.completion` in our form. `stops` is what the request said under `stop`."""
    choices = answer.get("choices") or [{}]
    choice = choices[0]
    blocks = Blocks(str(answer["id"]))
    said = _object_or_none(choice, "message") or {}
    calls = said.get("tool_calls")
    if isinstance(calls, list):
        # In a whole answer each call stands for itself; only in a stream do several pieces make one.
        said = {**said, "tool_calls": [{**call, "index": n} for n, call in enumerate(calls) if isinstance(call, dict)]}
    content = assemble([*blocks.take(said), *blocks.finish()])
    return {
        **head(str(answer["id"]), answer.get("model"), answer.get("provider")),
        "content": content,
        **stop(choice, stops, called=blocks.called),
        "usage": usage(answer.get("usage")),
        **routed(answer),
    }


def routed(ours: Mapping[str, Any] | None) -> Json:
    """How the request was routed, where the client asked for it."""
    name = "openrouter_metadata"
    return {} if ours is None or name not in ours else {name: ours[name]}


def head(identity: str, model: Any, provider: Any) -> Json:
    """A message that has just begun."""
    return {
        "id": identity,
        "type": "message",
        "role": "assistant",
        "model": model,
        "provider": provider,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage(None),
    }


def stop(choice: Mapping[str, Any], stops: Any, *, called: bool) -> Json:
    """`stop_reason` and `stop_sequence` of a choice that ended: the provider's own word where it is one of Anthropic's, else what
    our word means there.

    `called`: a tool was called, which some servers end with a mere stop. Which sequence it was is known where the provider tells,
    or where there was only one.
    """
    native, sequences = choice.get("native_finish_reason"), stops if isinstance(stops, list) else []
    known = isinstance(native, str) and native in _NATIVE_STOPS
    reason = native if known else _STOPS.get(str(choice.get("finish_reason")))
    hit = choice.get("stop_sequence") if choice.get("stop_sequence") in sequences else None
    if hit is not None and reason == "end_turn" and not known:
        reason = "stop_sequence"
    if called and reason == "end_turn":
        reason = "tool_use"
    if reason != "stop_sequence":
        hit = None
    elif hit is None and len(sequences) == 1:
        hit = sequences[0]
    return {"stop_reason": reason, "stop_sequence": hit}


def usage(ours: Any) -> Json:
    """Anthropic counts read and written cache tokens beside `input_tokens`, we count them inside `prompt_tokens`.

    None: nothing is known yet.
    """
    if ours is None:
        return {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    read = ours["prompt_tokens_details"]["cached_tokens"]
    written = ours["prompt_tokens_details"]["cache_write_tokens"]
    hour = ours["prompt_tokens_details"].get("cache_write_1h_tokens", 0)
    return {
        "input_tokens": max(0, ours["prompt_tokens"] - read - written),
        "output_tokens": ours["completion_tokens"],
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_creation": {"ephemeral_5m_input_tokens": written - hour, "ephemeral_1h_input_tokens": hour},
        "output_tokens_details": {"thinking_tokens": ours["completion_tokens_details"]["reasoning_tokens"]},
        **{name: ours[name] for name in ("cost", "is_byok", "cost_details") if name in ours},
    }


# The answer's blocks, whole or in pieces


@dataclass(slots=True)
class _Call:
    """A tool call that is arriving. `block` is its index once its name is known; `waiting` holds arguments until then."""

    id: str
    name: str = ""
    waiting: str = ""
    block: int | None = None


class Blocks:
    """Deltas in our form → events that start, fill and stop content blocks, one block open at a time."""

    def __init__(self, generation: str) -> None:
        self._generation = generation
        self._open: tuple[str, Any] | None = None
        """Kind and key of the open block, which is the last one started."""
        self._signed = False
        self._count = 0
        self._calls: dict[int | str, _Call] = {}
        self._latest: _Call | None = None
        self._all_calls: list[_Call] = []

    @property
    def called(self) -> bool:
        """Whether a tool was called so far."""
        return bool(self._all_calls)

    def take(self, delta: Mapping[str, Any]) -> Iterator[Json]:
        """Whatever the provider wrote there: what makes no sense is passed over."""
        yield from self._think(delta)
        yield from self._write(delta.get("content"))
        yield from self._write(delta.get("refusal"))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            if isinstance(call, dict):
                yield from self._call(call)

    def finish(self) -> Iterator[Json]:
        for call in self._all_calls:
            if call.block is None:
                yield from self._start_call(call)
        yield from self._stop()

    def _write(self, content: Any) -> Iterator[Json]:
        for piece in content if isinstance(content, list) else [content]:
            text = piece.get("text") if isinstance(piece, dict) else piece
            if isinstance(text, str) and text:
                yield from self._start(("text", None), {"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})

    def _think(self, delta: Mapping[str, Any]) -> Iterator[Json]:
        details = delta.get("reasoning_details")
        told = False
        for detail in details if isinstance(details, list) else []:
            for event in self._detail(detail if isinstance(detail, dict) else {}):
                told = True
                yield event
        # The same words again, for clients that know no details; alone where the provider has none.
        plain = delta.get("reasoning") or delta.get("reasoning_content")
        if not told and isinstance(plain, str) and plain:
            yield from self._detail({"type": "reasoning.text", "text": plain})

    def _detail(self, detail: Json) -> Iterator[Json]:
        if detail.get("type") == "reasoning.encrypted" and isinstance(detail.get("data"), str):
            yield from self._stop()
            yield from self._start(
                ("redacted", self._count),
                _thinking_block({"type": "redacted_thinking", "data": detail["data"]}, detail),
            )
            yield from self._stop()
            return
        text, signature = detail.get("text") or detail.get("summary"), detail.get("signature")
        has_text, is_signed = isinstance(text, str) and bool(text), isinstance(signature, str) and bool(signature)
        if not has_text and not is_signed:
            return
        number = detail.get("index")
        key = ("thinking", number if isinstance(number, int) else None)
        if self._open is not None and self._open[0] == "thinking":
            if has_text and self._signed:
                yield from self._stop()
            elif key[1] is None or self._open[1] is None:
                key = self._open
        block = {"type": "thinking", "thinking": "", "signature": ""}
        yield from self._start(key, _thinking_block(block, detail))
        if has_text:
            yield self._delta({"type": "thinking_delta", "thinking": text})
        if is_signed:
            self._signed = True
            yield self._delta({"type": "signature_delta", "signature": signature})

    def _call(self, piece: Json) -> Iterator[Json]:
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        call = self._find(piece)
        if not call.name and isinstance(function.get("name"), str):
            call.name = function["name"]
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            arguments = _arguments(arguments)
        arguments = arguments if isinstance(arguments, str) else ""
        if call.block is not None:
            # Calls that arrive by turns are rare; a piece for one already stopped still names its block.
            if arguments:
                yield self._delta({"type": "input_json_delta", "partial_json": arguments}, call.block)
            return
        call.waiting += arguments
        if call.name:
            yield from self._start_call(call)

    def _find(self, piece: Json) -> _Call:
        """By its index; by its id where several calls came under one index or under none."""
        number, identity = piece.get("index"), piece.get("id")
        identity = identity if isinstance(identity, str) and identity else None
        key: int | str | None = number if isinstance(number, int) else identity
        known = self._latest if key is None else self._calls.get(key)
        if known is None or (identity is not None and identity != known.id):
            known = _Call(identity or f"toolu_{self._generation.removeprefix('gen-')}_{len(self._all_calls)}")
            self._all_calls.append(known)
        if key is not None:
            self._calls[key] = known
        self._latest = known
        return known

    def _start_call(self, call: _Call) -> Iterator[Json]:
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        yield from self._start(("tool", call.id), block)
        call.block = self._count - 1
        if call.waiting:
            yield self._delta({"type": "input_json_delta", "partial_json": call.waiting})
            call.waiting = ""

    def _start(self, key: tuple[str, Any], block: Json) -> Iterator[Json]:
        if self._open == key:
            return
        yield from self._stop()
        self._open, self._signed = key, False
        self._count += 1
        yield {"type": "content_block_start", "index": self._count - 1, "content_block": block}

    def _stop(self) -> Iterator[Json]:
        if self._open is not None:
            self._open = None
            yield {"type": "content_block_stop", "index": self._count - 1}

    def _delta(self, delta: Json, block: int | None = None) -> Json:
        return {"type": "content_block_delta", "index": self._count - 1 if block is None else block, "delta": delta}


def _thinking_block(block: Json, detail: Json) -> Json:
    """With the detail's `format` and `id` where it is not Anthropic's: a client sends blocks back as they came, and the provider
    that made them needs both."""
    shape, identity = detail.get("format"), detail.get("id")
    if not isinstance(shape, str) or shape == CLAUDE:
        return block
    return {**block, "format": shape, **({"id": identity} if isinstance(identity, str) else {})}


def assemble(events: Iterable[Json]) -> list[Json]:
    """The content that these events of `Blocks` write."""
    content: list[Json] = []
    inputs: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start":
            content.append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta":
            delta, block = event["delta"], content[event["index"]]
            if delta["type"] == "input_json_delta":
                inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
            else:
                [name] = delta.keys() - {"type"}
                block[name] += delta[name]
    for number, text in inputs.items():
        content[number]["input"] = _input(text)
    return content


def _input(arguments: str) -> Json:
    """An object, as Anthropic promises. What is none (cut short, or a model's mistake) is kept as its documentation advises."""
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": arguments}


def _arguments(value: Json) -> str:
    return encode(value).decode()


# Reading what a client sent


def _wrong(where: str, sentence: str) -> InvalidRequest:
    colon = "" if sentence.startswith("is not offered") else ":"
    return InvalidRequest(f"{where}{colon} {sentence}", field=where.partition("[")[0].partition(".")[0])


def _unknown_block(kind: Any, where: str) -> InvalidRequest:
    name = f" ({kind[:64]})" if isinstance(kind, str) and kind.isprintable() else ""
    return _wrong(f"{where}.type", f"this kind of block{name} is not offered here.")


def _put(fields: Json, name: str, value: Any) -> None:
    if value is not None:
        fields[name] = value


def _blocks(content: Any, where: str) -> Iterator[tuple[Json, str]]:
    """Each block and where it stands."""
    if not isinstance(content, list):
        raise _wrong(where, "a string or a list of blocks is required.")
    for number, block in enumerate(content):
        at = f"{where}[{number}]"
        yield _object(block, at), at


def _object(value: Any, where: str) -> Json:
    if not isinstance(value, dict):
        raise _wrong(where, "an object is required.")
    return value


def _object_or_none(fields: Mapping[str, Any], name: str) -> Json | None:
    return None if fields.get(name) is None else _object(fields[name], name)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, "a list is required.")
    return value


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _wrong(f"{where}.{name}", "a string is required.")
    return value


def _texts(fields: Mapping[str, Any], name: str) -> list[str] | None:
    value = fields.get(name)
    if value is None:
        return None
    found = [text for text in _list(value, name) if isinstance(text, str)]
    if len(found) != len(value):
        raise _wrong(name, "a list of strings is required.")
    return found or None
