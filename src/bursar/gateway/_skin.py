"""The skins: what a client's protocol looks like on the outside. Inside there is one form, chat completions in OpenAI's shape.

A skin reads a body into a `ChatRequest`, and writes answers, streams and refusals; the pipeline knows none of their fields. The
chat skin is the inside turned out.
"""

from typing import Any, Protocol

from bursar.catalog import Operation
from bursar.gateway._door import ChatRequest, Headers, parse_chat
from bursar.gateway._wire import Refusal, encode, error_object, json_refusal
from bursar.kernel.errors import BursarError
from bursar.providers import Chunk

EVENT_STREAM_COMMENT = b": OPENROUTER PROCESSING\n\n"


class Writer(Protocol):
    """Writes one event stream. Each method returns the bytes to send, maybe none."""

    keepalive: bytes
    """What is sent after a while without output."""
    splices: bool
    """Whether chunks go out as they are: their events may then be handed on without `chunk`."""

    def chunk(self, chunk: Chunk) -> bytes:
        """A chunk in our form: our ids in it, a finish reason in the last, no usage."""
        ...

    def failed(self, error: BursarError) -> bytes:
        """An error after output began; `end` follows."""
        ...

    def end(self, closing: dict[str, Any] | None) -> bytes:
        """The end. `closing` is a chunk without choices that carries the usage; None where nothing was dispatched."""
        ...


class Skin(Protocol):
    """One protocol of clients."""

    api_type: str
    """What the activity calls it: OpenRouter's `api_type`."""
    operation: Operation
    """What is asked of the provider."""

    def parse(self, body: bytes, headers: Headers) -> ChatRequest:
        """Raises `InvalidRequest`, naming the field."""
        ...

    def whole(self, request: ChatRequest, answer: dict[str, Any]) -> bytes:
        """The whole answer from a `chat.completion` (or a list of embeddings) in our form, usage included."""
        ...

    def writer(self, request: ChatRequest, generation: str, created: int) -> Writer: ...

    def refusal(self, error: BursarError, generation: str) -> Refusal:
        """Instead of an answer."""
        ...


class ChatWriter:
    """Server-sent events of `chat.completion.chunk`s, `[DONE]` at the end."""

    splices = True
    keepalive = EVENT_STREAM_COMMENT

    def __init__(self, request: ChatRequest, generation: str, created: int) -> None:
        self._head = {
            "id": generation,
            "object": "chat.completion.chunk",
            "created": created,
            "model": request.models[0],
        }

    def chunk(self, chunk: Chunk) -> bytes:
        return b"data: " + chunk.raw + b"\n\n"

    def failed(self, error: BursarError) -> bytes:
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "native_finish_reason": None}
        return _event({**self._head, "error": error_object(error), "choices": [choice]})

    def end(self, closing: dict[str, Any] | None) -> bytes:
        return (_event(closing) if closing is not None else b"") + b"data: [DONE]\n\n"


class ChatSkin:
    api_type = "completions"
    operation: Operation = "chat"

    def parse(self, body: bytes, headers: Headers) -> ChatRequest:
        return parse_chat(body, headers)

    def whole(self, request: ChatRequest, answer: dict[str, Any]) -> bytes:
        del request
        return encode(answer)

    def writer(self, request: ChatRequest, generation: str, created: int) -> Writer:
        return ChatWriter(request, generation, created)

    def refusal(self, error: BursarError, generation: str) -> Refusal:
        del generation
        return json_refusal(error)


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + encode(value) + b"\n\n"
