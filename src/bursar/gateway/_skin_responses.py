"""OpenAI's Responses, with OpenRouter's fields: `POST /api/v1/responses`. Inside it is a chat completion.

One class, `Output`, turns what the model said into output items and tells every step as an event. A stream sends the events; a
whole answer is the same class with nobody listening, so the two cannot differ.

Shapes: the models of the `openrouter` and `openai` clients, which are generated from the two services' own descriptions.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from bursar.catalog import Operation
from bursar.gateway._door import ChatRequest, Headers, chat_request, parse_object
from bursar.gateway._skin import EVENT_STREAM_COMMENT, Writer
from bursar.gateway._skin_responses_form import echo, to_chat
from bursar.gateway._wire import Refusal, encode, error_object, json_refusal
from bursar.kernel.errors import BursarError
from bursar.providers import Chunk

_UNFINISHED = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ERROR_CODES = {400: "invalid_prompt", 403: "permission_denied", 404: "invalid_prompt", 429: "rate_limit_exceeded"}
"""OpenAI's closed set of codes; whatever is not in it is a `server_error`."""


class _Kind(NamedTuple):
    """A kind of text: in which item it stands, in which list there, under which key, and what its events are called."""

    item: str
    place: str
    key: str
    part_event: str
    text_event: str


_KINDS = {
    "output_text": _Kind("message", "content", "text", "response.content_part", "response.output_text"),
    "refusal": _Kind("message", "content", "refusal", "response.content_part", "response.refusal"),
    "reasoning_text": _Kind("reasoning", "content", "text", "response.content_part", "response.reasoning_text"),
    "summary_text": _Kind(
        "reasoning", "summary", "text", "response.reasoning_summary_part", "response.reasoning_summary_text"
    ),
}

Tell = Callable[..., None]
"""`tell(type, **fields)`: one event, without its number. Fields that are lists or objects may change after the call."""


class _Text:
    """The part of an item that is being written."""

    def __init__(self, name: str, at: int, mark: object) -> None:
        self.name = name
        self.kind = _KINDS[name]
        self.at = at
        self.mark = mark
        self.pieces: list[str] = []
        self.logprobs: list[dict[str, Any]] = []

    def value(self) -> dict[str, Any]:
        made = {"type": self.name, self.kind.key: "".join(self.pieces)}
        return {**made, "annotations": [], "logprobs": self.logprobs} if self.name == "output_text" else made


class _Call:
    """A function call that is being written."""

    def __init__(self, at: int, item: dict[str, Any], given_id: str | None) -> None:
        self.at = at
        self.item = item
        self.given_id = given_id
        self.pieces: list[str] = []


class Output:
    """Output items from messages or deltas in our form. Whatever a provider writes there, it raises nothing."""

    def __init__(self, generation: str, tell: Tell) -> None:
        self.items: list[dict[str, Any]] = []
        self._generation = generation
        self._tell = tell
        self._item: dict[str, Any] | None = None
        self._at = 0
        self._text: _Text | None = None
        self._thought_id: str | None = None
        self._calls: dict[int, _Call] = {}

    def take(self, said: Mapping[str, Any], logprobs: Any = None) -> None:
        """One message, or the next delta of one."""
        self._think(said)
        text = _plain(said.get("content"))
        if text:
            self._write("output_text", text, logprobs=_logprobs(logprobs))
        if isinstance(said.get("refusal"), str) and said["refusal"]:
            self._write("refusal", said["refusal"])
        for image in _objects(said.get("images")):
            self._show(image)
        for position, call in enumerate(_objects(said.get("tool_calls"))):
            self._ask(position, call)

    def end(self, *, complete: bool) -> None:
        """Closes what is open; unless the answer is complete, what was written last is marked as cut."""
        last = "completed" if complete else "incomplete"
        calls = list(self._calls.values())
        self._calls = {}
        for call in calls:
            is_last = call is calls[-1] and self._item is None
            self._end_call(call, last if is_last else "completed")
        self._end_item(last)

    def _think(self, said: Mapping[str, Any]) -> None:
        details = _objects(said.get("reasoning_details"))
        # Providers send the same thought twice: as text for people, and as details to send back.
        if not any(_thought(detail)[1] for detail in details):
            text = next((said[name] for name in ("reasoning", "reasoning_content") if _is_some(said.get(name))), None)
            if text is not None:
                self._reason({})
                self._write("reasoning_text", text)
        for detail in details:
            name, text = _thought(detail)
            sealed, signature = detail.get("data"), detail.get("signature")
            if not (text or _is_some(sealed) or _is_some(signature)):
                continue
            item = self._reason(detail)
            if text:
                self._write(name, text, mark=detail.get("index"))
            if _is_some(signature):
                item["signature"] = signature
            if _is_some(sealed):
                item["encrypted_content"] = sealed
            if _is_some(detail.get("format")):
                item["format"] = detail["format"]

    def _reason(self, detail: Mapping[str, Any]) -> dict[str, Any]:
        """The reasoning item that a detail belongs to. One that was signed or sealed takes no more, except by its own id."""
        identity = detail["id"] if _is_some(detail.get("id")) else None
        item = self._item
        if item is not None and item["type"] == "reasoning":
            sealed = item["encrypted_content"] is not None or "signature" in item
            is_same = identity is not None and identity == self._thought_id
            if is_same or (identity is None and not sealed):
                return item
        self._thought_id = identity
        return self._begin_item("reasoning", identity)

    def _write(
        self, name: str, text: str, *, mark: object = None, logprobs: list[dict[str, Any]] | None = None
    ) -> None:
        """Goes on with the open part, or begins another where the kind or the provider's mark changes."""
        kind = _KINDS[name]
        if self._item is None or self._item["type"] != kind.item:
            self._begin_item(kind.item)
        if self._text is None or self._text.name != name or self._text.mark != mark:
            self._begin_text(name, mark)
        assert self._text is not None
        self._text.pieces.append(text)
        more = {}
        if name == "output_text":
            self._text.logprobs += logprobs or []
            more = {"logprobs": logprobs or []}
        self._tell(f"{kind.text_event}.delta", **self._place(), delta=text, **more)

    def _place(self) -> dict[str, Any]:
        assert self._item is not None
        assert self._text is not None
        index = "summary_index" if self._text.kind.place == "summary" else "content_index"
        return {"item_id": self._item["id"], "output_index": self._at, index: self._text.at}

    def _begin_text(self, name: str, mark: object) -> None:
        self._end_text()
        assert self._item is not None
        self._text = text = _Text(name, len(self._item[_KINDS[name].place]), mark)
        self._tell(f"{text.kind.part_event}.added", **self._place(), part=text.value())

    def _end_text(self) -> None:
        text, item = self._text, self._item
        if text is None or item is None:
            return
        part = text.value()
        done = {text.kind.key: part[text.kind.key]}
        if text.name == "output_text":
            done["logprobs"] = text.logprobs
        self._tell(f"{text.kind.text_event}.done", **self._place(), **done)
        self._tell(f"{text.kind.part_event}.done", **self._place(), part=part)
        item[text.kind.place].append(part)
        self._text = None

    def _begin_item(self, kind: str, identity: str | None = None) -> dict[str, Any]:
        self._end_item()
        if kind == "message":
            item = self._add("msg", {"type": kind, "role": "assistant", "content": []})
        else:
            fields: dict[str, Any] = {"type": kind, "summary": [], "content": [], "encrypted_content": None}
            item = self._add("rs", fields, identity)
        self._item, self._at = item, len(self.items) - 1
        return item

    def _end_item(self, status: str = "completed") -> None:
        self._end_text()
        item, self._item = self._item, None
        if item is not None:
            self._done(self._at, item, status)

    def _ask(self, position: int, said: Mapping[str, Any]) -> None:
        given = said.get("index")
        index = given if isinstance(given, int) and not isinstance(given, bool) else position
        function = said["function"] if isinstance(said.get("function"), dict) else {}
        identity = said["id"] if _is_some(said.get("id")) else None
        call = self._calls.get(index)
        if call is None or (identity is not None and call.given_id not in (None, identity)):
            self._end_item()
            if call is not None:
                self._end_call(self._calls.pop(index), "completed")
            call = self._calls[index] = self._begin_call(identity, function.get("name"))
        elif not call.item["name"] and isinstance(function.get("name"), str):
            call.item["name"] = function["name"]
        written = function.get("arguments")
        text = encode(written).decode() if isinstance(written, dict) else written
        if isinstance(text, str) and text:
            call.pieces.append(text)
            self._tell(
                "response.function_call_arguments.delta", item_id=call.item["id"], output_index=call.at, delta=text
            )

    def _begin_call(self, identity: str | None, name: Any) -> _Call:
        at = len(self.items)
        fields = {
            "type": "function_call",
            "call_id": identity or f"call_{self._generation}_{at}",
            "name": name if isinstance(name, str) else "",
            "arguments": "",
        }
        return _Call(at, self._add("fc", fields), identity)

    def _end_call(self, call: _Call, status: str) -> None:
        call.item["arguments"] = "".join(call.pieces)
        named = {name: call.item[name] for name in ("name", "arguments")}
        self._tell("response.function_call_arguments.done", item_id=call.item["id"], output_index=call.at, **named)
        self._done(call.at, call.item, status)

    def _show(self, image: Mapping[str, Any]) -> None:
        found = image.get("image_url")
        url = found.get("url") if isinstance(found, dict) else None
        if not isinstance(url, str):
            return
        self._end_item()
        item = self._add("ig", {"type": "image_generation_call", "result": None})
        item["result"] = url.partition(";base64,")[2] or url
        self._done(len(self.items) - 1, item, "completed")

    def _add(self, prefix: str, fields: dict[str, Any], identity: str | None = None) -> dict[str, Any]:
        at = len(self.items)
        item = {"id": identity or f"{prefix}_{self._generation}_{at}", "status": "in_progress", **fields}
        self.items.append(item)
        self._tell("response.output_item.added", output_index=at, item=item)
        return item

    def _done(self, at: int, item: dict[str, Any], status: str) -> None:
        item["status"] = status
        self._tell("response.output_item.done", output_index=at, item=item)


class ResponsesWriter:
    """Numbered events, each with its `event:` line; `[DONE]` at the end, which OpenRouter adds."""

    splices = False
    keepalive = EVENT_STREAM_COMMENT

    def __init__(self, request: ChatRequest, generation: str, created: int) -> None:
        self._head = {"id": generation, "object": "response", "created_at": created, "model": request.models[0]}
        self._echo = request.echo
        self._out: list[bytes] = []
        self._number = 0
        self._output = Output(generation, self._tell)
        self._finish: Any = None
        self._failure: BursarError | None = None

    def chunk(self, chunk: Chunk) -> bytes:
        value = chunk.value
        self._begin(value)
        for choice in value["choices"]:
            if choice["index"] == 0:  # a response has one voice
                self._output.take(choice["delta"], choice["logprobs"])
                self._finish = choice["finish_reason"] or self._finish
        return self._flush()

    def failed(self, error: BursarError) -> bytes:
        self._begin({})
        self._failure = error
        told = error_object(error)
        self._output.end(complete=False)
        self._tell("error", code=_error_code(error), message=told["message"], param=None)
        return self._flush()

    def end(self, closing: dict[str, Any] | None) -> bytes:
        self._begin(closing or {})
        status, more = _outcome(self._finish, self._failure)
        self._output.end(complete=status == "completed")
        usage = None if closing is None else _usage(closing["usage"])
        self._tell(f"response.{status}", response=self._response(status, usage, more))
        return self._flush() + b"data: [DONE]\n\n"

    def _begin(self, ours: Mapping[str, Any]) -> None:
        if self._number:
            return
        # Known with the first answer only: a fallback may have been asked for more than one model.
        self._head |= {name: ours[name] for name in ("model", "provider") if name in ours}
        for kind in ("response.created", "response.in_progress"):
            self._tell(kind, response=self._response("in_progress", None, {}))

    def _response(self, status: str, usage: dict[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
        return _response(self._head, self._echo, status, self._output.items, usage, more)

    def _tell(self, kind: str, **fields: Any) -> None:
        event = encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        self._out.append(b"event: " + kind.encode() + b"\ndata: " + event + b"\n\n")

    def _flush(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)


class ResponsesSkin:
    api_type = "completions"
    operation: Operation = "chat"

    def parse(self, body: bytes, headers: Headers) -> ChatRequest:
        fields = parse_object(body)
        chat, repeated = to_chat(fields), echo(fields)
        return replace(chat_request(chat, headers), echo=repeated)

    def whole(self, request: ChatRequest, answer: dict[str, Any]) -> bytes:
        output = Output(answer["id"], _nobody)
        choice = next((each for each in answer["choices"] if each["index"] == 0), answer["choices"][0])
        output.take(choice["message"], choice["logprobs"])
        status, more = _outcome(choice["finish_reason"], None)
        output.end(complete=status == "completed")
        head = {name: answer[name] for name in ("id", "model", "provider")}
        # The answer's own time is when the provider had written all of it.
        times = {"created_at": answer["created"], "completed_at": answer["created"] if status == "completed" else None}
        head |= {"object": "response", **times}
        return encode(_response(head, request.echo, status, output.items, _usage(answer["usage"]), more))

    def writer(self, request: ChatRequest, generation: str, created: int) -> Writer:
        return ResponsesWriter(request, generation, created)

    def refusal(self, error: BursarError, generation: str) -> Refusal:
        del generation
        return json_refusal(error)


def _response(
    head: Mapping[str, Any],
    repeated: Mapping[str, Any],
    status: str,
    output: list[dict[str, Any]],
    usage: dict[str, Any] | None,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    own = {"completed_at": None, "status": status, "error": None, "incomplete_details": None, "output": output}
    return {**repeated, **own, "usage": usage, **head, **more}


def _outcome(finish: Any, failure: BursarError | None) -> tuple[str, dict[str, Any]]:
    """The status, and the fields that explain it."""
    if failure is not None:
        error = {"code": _error_code(failure), "message": error_object(failure)["message"]}
        return "failed", {"error": error, "error_type": failure.error_type}
    if finish == "error":
        error = {"code": "server_error", "message": "The provider ended its answer with an error."}
        return "failed", {"error": error, "error_type": "provider_unavailable"}
    if finish in _UNFINISHED:
        return "incomplete", {"incomplete_details": {"reason": _UNFINISHED[finish]}}
    return "completed", {}


def _error_code(error: BursarError) -> str:
    # An upstream that limits this installation is its fault, not the client's: the status says so, the code does not exist.
    return _ERROR_CODES.get(error.status, "server_error")


def _usage(chat: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion's usage under the names of a response."""
    inputs, outputs, costs = (
        chat[name] for name in ("prompt_tokens_details", "completion_tokens_details", "cost_details")
    )
    return {
        "input_tokens": chat["prompt_tokens"],
        "input_tokens_details": {name: inputs[name] for name in ("cached_tokens", "cache_write_tokens")},
        "output_tokens": chat["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": outputs["reasoning_tokens"]},
        "total_tokens": chat["total_tokens"],
        "cost": chat["cost"],
        "is_byok": chat["is_byok"],
        "cost_details": {
            "upstream_inference_cost": costs["upstream_inference_cost"],
            "upstream_inference_input_cost": costs["upstream_inference_prompt_cost"],
            "upstream_inference_output_cost": costs["upstream_inference_completions_cost"],
        },
    }


def _nobody(kind: str, **fields: Any) -> None:
    """Listens to nothing."""
    del kind, fields


def _thought(detail: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and text of a reasoning detail; the text is empty where it has none."""
    name, key = ("summary_text", "summary") if detail.get("type") == "reasoning.summary" else ("reasoning_text", "text")
    text = detail.get(key)
    return name, text if isinstance(text, str) else ""


def _plain(content: Any) -> str:
    """A message's text, also where it is a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in _objects(content) if isinstance(part.get("text"), str))


def _logprobs(given: Any) -> list[dict[str, Any]]:
    found = given.get("content") if isinstance(given, dict) else None
    return [
        {**_logprob(each), "top_logprobs": [_logprob(other) for other in _objects(each.get("top_logprobs"))]}
        for each in _objects(found)
    ]


def _logprob(given: Mapping[str, Any]) -> dict[str, Any]:
    token, value, raw = (given.get(name) for name in ("token", "logprob", "bytes"))
    return {
        "token": token if isinstance(token, str) else "",
        "logprob": value if isinstance(value, int | float) else 0,
        "bytes": raw if isinstance(raw, list) else [],
    }


def _objects(given: Any) -> list[dict[str, Any]]:
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _is_some(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
