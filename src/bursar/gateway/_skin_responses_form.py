"""What a request for a response asks, as a chat completion. OpenAI's Responses, with the fields that OpenRouter adds.

Pure: fields in, fields out. The chat completion then goes through the same door as any other, so its bounds, preferences and
errors are one piece of code. Nothing is stored here: whatever refers to something stored is refused, and says so.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from bursar.gateway._door import MAX_TOKENS_MAX, InvalidRequest

METADATA_PAIRS_MAX = 16
METADATA_KEY_CHARACTERS_MAX = 64
METADATA_VALUE_CHARACTERS_MAX = 512
ITEMS_MAX = 20_000
OWN_REASONING_PREFIX = "rs_gen-"
"""Begins the ids of reasoning items that no provider named: they mean nothing to a provider."""

_PASSED = (
    "model",
    "models",
    "provider",
    "stream",
    "session_id",
    "user",
    "plugins",
    "trace",
    "cache_control",
    "temperature",
    "top_p",
    "top_k",
    "top_a",
    "min_p",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "modalities",
    "image_config",
)
"""Fields that mean the same in a chat completion."""

_STORED = ("previous_response_id", "conversation", "prompt")
_STATELESS = "this gateway stores no responses, so every request is complete in itself."

_Fields = Mapping[str, Any]


def to_chat(fields: _Fields) -> dict[str, Any]:
    """The fields of a chat completion. Raises `InvalidRequest`, naming the field."""
    _require_stateless(fields)
    chat = {name: fields[name] for name in _PASSED if fields.get(name) is not None}
    chat["messages"] = _messages(fields)
    for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty"):
        _optional(fields, name, _is_number, "a number")
    for name in ("prompt_cache_key", "safety_identifier", "service_tier", "truncation"):
        _optional(fields, name, _is_text, "a string")
    _optional(fields, "parallel_tool_calls", _is_boolean, "true or false")
    _optional(fields, "max_tool_calls", _is_count, "a whole number of at least 1")
    most = _optional(fields, "max_output_tokens", _is_count, f"a whole number from 1 to {MAX_TOKENS_MAX}")
    if most is not None:
        chat["max_completion_tokens"] = most
    _add_logprobs(chat, fields)
    _add_tools(chat, fields)
    _add_text(chat, fields)
    _add_reasoning(chat, fields)
    return chat


def echo(fields: _Fields) -> dict[str, Any]:
    """What every response repeats of its request; `to_chat` has read it already. Raises `InvalidRequest` for the metadata."""
    reasoning = fields.get("reasoning") or {}
    text = fields.get("text") or {}
    return {
        "background": False,
        "frequency_penalty": fields.get("frequency_penalty"),
        "instructions": fields.get("instructions"),
        "max_output_tokens": fields.get("max_output_tokens"),
        "max_tool_calls": fields.get("max_tool_calls"),
        "metadata": _metadata(fields),
        "parallel_tool_calls": fields.get("parallel_tool_calls") is not False,
        "presence_penalty": fields.get("presence_penalty"),
        "previous_response_id": None,
        "prompt_cache_key": fields.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": fields.get("safety_identifier"),
        "service_tier": fields.get("service_tier"),
        "store": False,
        "temperature": fields.get("temperature"),
        "text": {"format": text.get("format") or {"type": "text"}, "verbosity": text.get("verbosity")},
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": [
            {"type": "function", "description": None, "parameters": None, "strict": None, **tool}
            for tool in fields.get("tools") or []
        ],
        "top_logprobs": fields.get("top_logprobs") or 0,
        "top_p": fields.get("top_p"),
        "truncation": fields.get("truncation") or "disabled",
        "user": fields.get("user"),
    }


def _require_stateless(fields: _Fields) -> None:
    if fields.get("store") is not None and fields["store"] is not False:
        _refuse("store", f"{_STATELESS} Send false, or leave it out.")
    if fields.get("background") is not None and fields["background"] is not False:
        _refuse("background", f"{_STATELESS} Leave it out.")
    for name in _STORED:
        if fields.get(name) is not None:
            _refuse(name, f"{_STATELESS} Send the earlier items again in input.")


# The input: items → messages.


def _messages(fields: _Fields) -> list[dict[str, Any]]:
    given = fields.get("input")
    messages = _Messages()
    instructions = _optional(fields, "instructions", _is_text, "a string")
    if instructions:
        messages.add({"role": "system", "content": instructions})
    if isinstance(given, str):
        messages.add({"role": "user", "content": given})
    elif isinstance(given, list) and 0 < len(given) <= ITEMS_MAX:
        for number, item in enumerate(given):
            _read_item(messages, item, f"input[{number}]")
    else:
        _refuse("input", f"a string, or a list of 1 to {ITEMS_MAX} items, is required.")
    messages.end_turn()
    return messages.made


class _Messages:
    """The messages so far. Reasoning, text and function calls that follow one another are one turn of the assistant."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self._turn: dict[str, Any] = {}

    def add(self, message: dict[str, Any]) -> None:
        self.end_turn()
        self.made.append(message)

    def end_turn(self) -> None:
        if self._turn:
            self.made.append({"role": "assistant", "content": None, **self._turn})
        self._turn = {}

    def say(self, said: dict[str, Any]) -> None:
        """A message of the assistant; a second one in a row begins another turn."""
        if "content" in self._turn or "tool_calls" in self._turn:
            self.end_turn()
        self._turn.update(said)

    def think(self, details: list[dict[str, Any]]) -> None:
        """Comes before what it led to."""
        if self._turn.keys() - {"reasoning_details"}:
            self.end_turn()
        self._turn.setdefault("reasoning_details", []).extend(details)

    def call(self, call: dict[str, Any]) -> None:
        self._turn.setdefault("tool_calls", []).append(call)


def _read_item(messages: _Messages, item: Any, path: str) -> None:
    if not isinstance(item, dict):
        _refuse(path, "an object is required.")
    kind = item.get("type") or "message"
    readers = {
        "message": _read_message,
        "function_call": _read_call,
        "function_call_output": _read_output,
        "reasoning": _read_reasoning,
    }
    if kind == "item_reference":
        _refuse(path, f"{_STATELESS} Send the item itself.")
    if not isinstance(kind, str) or kind not in readers:
        _refuse(f"{path}.type", f"{_shown(kind)} is not supported. Supported: {', '.join(readers)}.")
    readers[kind](messages, item, path)


def _read_message(messages: _Messages, item: _Fields, path: str) -> None:
    role, content = item.get("role"), item.get("content")
    if role not in ("user", "system", "developer", "assistant"):
        _refuse(f"{path}.role", "user, assistant, system or developer is required.")
    if not isinstance(content, str | list | None):
        _refuse(f"{path}.content", "a string or a list of parts is required.")
    if role == "assistant":
        messages.say(_said(content, path))
        return
    parts = content if isinstance(content, str | None) else _parts(content, f"{path}.content")
    # A developer's message is a system message: the name that every provider knows.
    messages.add({"role": "user" if role == "user" else "system", "content": parts})


def _said(content: Any, path: str) -> dict[str, Any]:
    if not isinstance(content, list):
        return {"content": content}
    texts, refusals = [], []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "refusal":
            refusals.append(_required(part, "refusal", f"{path}.content[{number}]"))
        elif kind in ("output_text", "input_text"):
            texts.append(_required(part, "text", f"{path}.content[{number}]"))
        else:
            where = f"{path}.content[{number}]"
            _refuse(where, "an object whose type is output_text or refusal is required of the assistant.")
    said: dict[str, Any] = {"content": "".join(texts) if texts else None}
    return {**said, "refusal": "".join(refusals)} if refusals else said


def _parts(content: list[Any], path: str) -> list[dict[str, Any]]:
    return [_part(part, f"{path}[{number}]") for number, part in enumerate(content)]


def _part(part: Any, path: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text"):
        made: dict[str, Any] = {"type": "text", "text": _required(part, "text", path)}
    elif kind == "input_image":
        url = {"url": _required(part, "image_url", path, "file_id")}
        detail = part.get("detail")
        made = {"type": "image_url", "image_url": {**url, "detail": detail} if _is_text(detail) else url}
    elif kind == "input_file":
        made = {"type": "file", "file": _file(part, path)}
    elif kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        where = f"{path}.input_audio"
        audio = {name: _required(part["input_audio"], name, where) for name in ("data", "format")}
        made = {"type": "input_audio", "input_audio": audio}
    elif kind == "input_video":
        made = {"type": "video_url", "video_url": {"url": _required(part, "video_url", path)}}
    else:
        _refuse(path, "a part of type input_text, input_image, input_file, input_audio or input_video is required.")
    cache_control = _optional(part, "cache_control", _is_object, "an object", path)
    if cache_control is not None:
        where = f"{path}.cache_control"
        marks = {name: _optional(cache_control, name, _is_text, "a string", where) for name in ("type", "ttl")}
        made["cache_control"] = {name: value for name, value in marks.items() if value is not None}
    return made


def _file(part: _Fields, path: str) -> dict[str, Any]:
    name = "file_url" if part.get("file_data") is None and part.get("file_url") is not None else "file_data"
    file = {"file_data": _required(part, name, path, "file_id")}
    return {"filename": part["filename"], **file} if _is_text(part.get("filename")) else file


def _read_call(messages: _Messages, item: _Fields, path: str) -> None:
    function = {"name": _required(item, "name", path), "arguments": _required(item, "arguments", path)}
    messages.call({"id": _required(item, "call_id", path), "type": "function", "function": function})


def _read_output(messages: _Messages, item: _Fields, path: str) -> None:
    output = item.get("output")
    if not isinstance(output, str | list):
        _refuse(f"{path}.output", "a string or a list of parts is required.")
    content = output if isinstance(output, str) else _parts(output, f"{path}.output")
    messages.add({"role": "tool", "tool_call_id": _required(item, "call_id", path), "content": content})


def _read_reasoning(messages: _Messages, item: _Fields, path: str) -> None:
    """As `reasoning_details`: what the model gets back of its own thoughts, signatures and sealed ones included."""
    details: list[dict[str, Any]] = []
    details += [{"type": "reasoning.summary", "summary": text} for text in _thoughts(item, "summary", path)]
    texts: list[dict[str, Any]] = [
        {"type": "reasoning.text", "text": text} for text in _thoughts(item, "content", path)
    ]
    details += texts
    if _is_text(item.get("signature")):
        if not texts:
            texts = [{"type": "reasoning.text", "text": ""}]
            details += texts
        texts[-1]["signature"] = item["signature"]
    if item.get("encrypted_content") is not None:
        details.append({"type": "reasoning.encrypted", "data": _required(item, "encrypted_content", path)})
    identity = item.get("id")
    for index, detail in enumerate(details):
        detail["index"] = index
        if isinstance(identity, str) and not identity.startswith(OWN_REASONING_PREFIX):
            detail["id"] = identity
        if _is_text(item.get("format")):
            detail["format"] = item["format"]
    messages.think(details)


def _thoughts(item: _Fields, name: str, path: str) -> list[str]:
    parts = item.get(name)
    if not isinstance(parts, list | None):
        _refuse(f"{path}.{name}", "a list of texts is required.")
    for number, part in enumerate(parts or []):
        if not isinstance(part, dict):
            _refuse(f"{path}.{name}[{number}]", "an object with a text is required.")
    return [_required(part, "text", f"{path}.{name}[{number}]") for number, part in enumerate(parts or [])]


# The rest: tools, text, reasoning, log probabilities.


def _add_tools(chat: dict[str, Any], fields: _Fields) -> None:
    tools = fields.get("tools")
    if not isinstance(tools, list | None):
        _refuse("tools", "a list of functions is required.")
    if tools:
        chat["tools"] = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]
    choice = fields.get("tool_choice")
    if choice is None:
        return
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        chat["tool_choice"] = choice
    elif isinstance(choice, dict) and choice.get("type") == "function":
        function = {"name": _required(choice, "name", "tool_choice")}
        chat["tool_choice"] = {"type": "function", "function": function}
    else:
        _refuse("tool_choice", 'auto, none, required or {"type": "function", "name": …} is required.')


def _tool(tool: Any, path: str) -> dict[str, Any]:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind != "function":
        _refuse(
            f"{path}.type", f"{_shown(kind)} is not supported: no tools run here. Send functions that you run yourself."
        )
    function: dict[str, Any] = {"name": _required(tool, "name", path)}
    for name, is_right, wanted in (
        ("description", _is_text, "a string"),
        ("parameters", _is_object, "a JSON schema"),
        ("strict", _is_boolean, "true or false"),
    ):
        value = _optional(tool, name, is_right, wanted, path)
        if value is not None:
            function[name] = value
    return {"type": "function", "function": function}


def _add_text(chat: dict[str, Any], fields: _Fields) -> None:
    text = _optional(fields, "text", _is_object, "an object")
    if text is None:
        return
    verbosity = _optional(text, "verbosity", _is_text, "a string", "text")
    if verbosity is not None:
        chat["verbosity"] = verbosity
    wanted = _optional(text, "format", _is_object, "an object", "text")
    kind = None if wanted is None else wanted.get("type")
    if wanted is None or kind == "text":
        return
    if kind == "json_object":
        chat["response_format"] = {"type": "json_object"}
    elif kind == "json_schema":
        schema: dict[str, Any] = {"name": _required(wanted, "name", "text.format")}
        if not isinstance(wanted.get("schema"), dict):
            _refuse("text.format.schema", "a JSON schema is required.")
        for name, is_right, what in (
            ("schema", _is_object, "a JSON schema"),
            ("strict", _is_boolean, "true or false"),
            ("description", _is_text, "a string"),
        ):
            value = _optional(wanted, name, is_right, what, "text.format")
            if value is not None:
                schema[name] = value
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    else:
        _refuse("text.format.type", "text, json_object or json_schema is required.")


def _add_reasoning(chat: dict[str, Any], fields: _Fields) -> None:
    reasoning = _optional(fields, "reasoning", _is_object, "an object")
    if reasoning is None:
        return
    for name, is_right, wanted in (
        ("effort", _is_text, "a string like low, medium or high"),
        ("summary", _is_text, "auto, concise or detailed"),
        ("enabled", _is_boolean, "true or false"),
        ("max_tokens", _is_count, "a whole number of at least 1"),
    ):
        value = _optional(reasoning, name, is_right, wanted, "reasoning")
        if value is not None:
            chat.setdefault("reasoning", {})[name] = value


def _add_logprobs(chat: dict[str, Any], fields: _Fields) -> None:
    most = _optional(fields, "top_logprobs", lambda value: value in range(21), "a whole number from 0 to 20")
    include = fields.get("include")
    if not isinstance(include, list | None):
        _refuse("include", "a list of names is required.")
    if most or "message.output_text.logprobs" in (include or []):
        chat["logprobs"] = True
    if most:
        chat["top_logprobs"] = most


def _metadata(fields: _Fields) -> dict[str, str]:
    given = fields.get("metadata")
    good = (
        isinstance(given, dict | None)
        and len(given or {}) <= METADATA_PAIRS_MAX
        and all(
            len(name) <= METADATA_KEY_CHARACTERS_MAX
            and isinstance(value, str)
            and len(value) <= METADATA_VALUE_CHARACTERS_MAX
            for name, value in (given or {}).items()
        )
    )
    if not good:
        _refuse(
            "metadata",
            f"an object of at most {METADATA_PAIRS_MAX} strings, names up to {METADATA_KEY_CHARACTERS_MAX} and values up to "
            f"{METADATA_VALUE_CHARACTERS_MAX} characters long, is required.",
        )
    return given or {}


# What a value has to be.


def _refuse(path: str, wanted: str) -> NoReturn:
    raise InvalidRequest(f"{path}: {wanted}", field=path.partition(".")[0].partition("[")[0])


def _optional(fields: _Fields, name: str, is_right: Callable[[Any], bool], wanted: str, path: str = "") -> Any:
    value = fields.get(name)
    if value is not None and not is_right(value):
        _refuse(f"{path}.{name}" if path else name, f"{wanted} is required.")
    return value


def _required(fields: _Fields, name: str, path: str, stored: str | None = None) -> str:
    """A string. `stored` is the field that would name an uploaded file instead."""
    value = fields.get(name)
    if stored is not None and value is None and fields.get(stored) is not None:
        _refuse(f"{path}.{stored}", "this gateway stores no files. Send its URL or its content.")
    if not isinstance(value, str):
        _refuse(f"{path}.{name}", "a string is required.")
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TOKENS_MAX


def _shown(value: Any) -> str:
    """A client's word in a sentence of ours, cut to what fits."""
    return value[:60] if isinstance(value, str) and value.isprintable() else "this"
