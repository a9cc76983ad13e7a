"""The skin of Anthropic's Messages: `POST /api/v1/messages`, as Anthropic's own clients and Claude Code speak it.

Streams are its named events; refusals come in its envelope with their real status (openrouter.md 2.4).
"""

from collections.abc import Iterable
from typing import Any

from bursar.catalog import Operation
from bursar.gateway import _skin_messages_form as form
from bursar.gateway._door import ChatRequest, Headers, chat_request, parse_object
from bursar.gateway._skin import Writer
from bursar.gateway._wire import Refusal, encode, error_object, refusal
from bursar.kernel.errors import BursarError, NotFound
from bursar.providers import Chunk

_ERROR_TYPES = {
    "authentication": "authentication_error",
    "permission_denied": "permission_error",
    "payment_required": "billing_error",
    "not_found": "not_found_error",
    "rate_limit_exceeded": "rate_limit_error",
    "provider_overloaded": "overloaded_error",
    "timeout": "timeout_error",
}
"""Our `error_type` → Anthropic's `error.type`; the rest is `invalid_request_error` below 500 and `api_error` from there on."""


class NotOffered(NotFound):
    """A part of Anthropic's API that this installation does not have."""


class MessagesWriter:
    """Anthropic's events: message_start, the blocks' start, deltas and stop, message_delta with the usage, message_stop."""

    splices = False
    keepalive = b'event: ping\ndata: {"type":"ping"}\n\n'

    def __init__(self, request: ChatRequest, generation: str) -> None:
        self._model = request.models[0]
        self._stops = request.body.get("stop")
        self._generation = generation
        self._blocks = form.Blocks(generation)
        self._begun = False
        self._failed = False
        self._last: dict[str, Any] = {}
        """The choice that said why it ended."""

    def chunk(self, chunk: Chunk) -> bytes:
        value = chunk.value
        events = self._begin(value.get("model"), value.get("provider"))
        # Anthropic has no second choice; the first is the only one that was asked for.
        for choice in value.get("choices") or []:
            if choice.get("index") != 0:
                continue
            delta = choice.get("delta")
            events += self._blocks.take(delta if isinstance(delta, dict) else {})
            if choice.get("finish_reason") is not None:
                self._last = choice
        return _events(events)

    def failed(self, error: BursarError) -> bytes:
        self._failed = True
        return _events([_error(error, self._generation)])

    def end(self, closing: dict[str, Any] | None) -> bytes:
        if self._failed:
            return b""  # Anthropic's clients raise at the error; nothing is expected after it
        events = self._begin(None, None) + list(self._blocks.finish())
        stopped = form.stop(self._last, self._stops, called=self._blocks.called)
        usage = form.usage(None if closing is None else closing["usage"])
        events.append({"type": "message_delta", "delta": stopped, "usage": usage, **form.routed(closing)})
        events.append({"type": "message_stop"})
        return _events(events)

    def _begin(self, model: Any, provider: Any) -> list[dict[str, Any]]:
        if self._begun:
            return []
        self._begun = True
        begun = form.head(self._generation, model or self._model, provider)
        return [{"type": "message_start", "message": begun}]


class MessagesSkin:
    api_type = "completions"
    operation: Operation = "chat"

    def parse(self, body: bytes, headers: Headers) -> ChatRequest:
        return chat_request(form.chat_fields(parse_object(body)), headers)

    def whole(self, request: ChatRequest, answer: dict[str, Any]) -> bytes:
        return encode(form.message(answer, request.body.get("stop")))

    def writer(self, request: ChatRequest, generation: str, created: int) -> Writer:
        del created
        return MessagesWriter(request, generation)

    def refusal(self, error: BursarError, generation: str) -> Refusal:
        return refusal(error, encode(_error(error, generation)))


class CountTokensSkin(MessagesSkin):
    """Refuses. What an answer's usage says was counted by the provider; a guess before would be believed and be wrong."""

    def parse(self, body: bytes, headers: Headers) -> ChatRequest:
        """Raises `NotOffered`."""
        del body, headers
        raise NotOffered(
            "Counting tokens is not offered here.",
            remedy="The usage of an answer to /api/v1/messages says what was counted.",
        )


def _error(error: BursarError, generation: str) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(error.error_type) or ("api_error" if error.status >= 500 else "invalid_request_error")
    told = {"type": kind, "message": error_object(error)["message"], "error_type": error.error_type}
    return {"type": "error", "error": told, "request_id": generation}


def _events(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(b"event: " + event["type"].encode() + b"\ndata: " + encode(event) + b"\n\n" for event in events)
