"""What upstreams of the two protocols say on their wires, and a gateway that speaks to them through real sockets."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bursar.catalog import Catalog, Pricing
from bursar.keys import KeyChecker
from bursar.providers import ChatCall, Chunk, Providers, Timeouts, Upstream
from bursar.storage import Database
from tests.conftest import Cast
from tests.gateway.world import PRIME, World, endpoint, provider
from tests.support.loopback import Line

QUICK = Timeouts(connect_seconds=5, first_byte_seconds=0.5, idle_seconds=0.5)
Json = dict[str, Any]


def sse(*events: Json | str) -> bytes:
    """As OpenAI-compatible providers write events."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return b"".join(b"data: " + text.encode() + b"\n\n" for text in texts)


def named(*events: Json) -> bytes:
    """As Anthropic writes them."""
    return b"".join(b"event: " + event["type"].encode() + b"\n" + sse(event) for event in events)


def response(status: int, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    """A whole HTTP answer."""
    told = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def framed(content: bytes) -> bytes:
    """One chunk of HTTP's own."""
    return b"%x\r\n%s\r\n" % (len(content), content) if content else b""


@dataclass(frozen=True)
class Wire:
    """One protocol. Texts go out word by word; usage is prompt and completion tokens."""

    name: str
    opening: bytes
    """Who speaks, and no word yet."""
    whole: Callable[[str, int, int], bytes]
    words: Callable[[Sequence[str]], bytes]
    ending: Callable[[int, int], bytes]
    error: Callable[[int], bytes]
    """The body of an answer with this status."""
    error_event: Callable[[int], bytes]
    """The same failure in the middle of a stream."""

    def stream(self, words: Sequence[str], prompt: int, completion: int) -> bytes:
        return self.opening + self.words(words) + self.ending(prompt, completion)


def _chat_chunk(delta: Json, finish: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "prime-1", "choices": [choice]}


def _chat_usage(prompt: int, completion: int) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chat_whole(text: str, prompt: int, completion: int) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": "up-1", "choices": [choice], "usage": _chat_usage(prompt, completion)}).encode()


OPENAI = Wire(
    name="openai",
    opening=sse(_chat_chunk({"role": "assistant", "content": ""})),
    whole=_chat_whole,
    words=lambda words: sse(*(_chat_chunk({"content": word}) for word in words)),
    ending=lambda prompt, completion: sse(
        _chat_chunk({}, "stop"), {"id": "up-1", "choices": [], "usage": _chat_usage(prompt, completion)}, "[DONE]"
    ),
    error=lambda status: json.dumps({"error": {"message": "Its own words.", "code": status}}).encode(),
    error_event=lambda status: sse({"error": {"message": "Its own words.", "code": status}}),
)

_WORDS_OF_STATUS = {
    400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error",
    500: "api_error", 503: "overloaded_error",
}  # fmt: skip


def _message(content: list[Json], prompt: int, completion: int) -> Json:
    usage = {"input_tokens": prompt, "output_tokens": completion}
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "prime-1", "content": content,
        "stop_reason": "end_turn", "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def _text_delta(word: str) -> Json:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}


def _anthropic_ending(prompt: int, completion: int) -> bytes:
    usage = {"input_tokens": prompt, "output_tokens": completion}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}
    return named({"type": "content_block_stop", "index": 0}, end, {"type": "message_stop"})


def _anthropic_error(status: int) -> Json:
    return {"type": "error", "error": {"type": _WORDS_OF_STATUS[status], "message": "Its own words."}}


ANTHROPIC = Wire(
    name="anthropic",
    opening=named(
        {"type": "message_start", "message": {**_message([], 5, 1), "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ),
    whole=lambda text, prompt, completion: json.dumps(
        _message([{"type": "text", "text": text}], prompt, completion)
    ).encode(),
    words=lambda words: named(*map(_text_delta, words)),
    ending=_anthropic_ending,
    error=lambda status: json.dumps(_anthropic_error(status)).encode(),
    error_event=lambda status: named(_anthropic_error(status)),
)
WIRES = {wire.name: wire for wire in (OPENAI, ANTHROPIC)}


async def silent(_line: Line) -> None:
    await asyncio.sleep(60)


class Impatient(Providers):
    """The real upstreams, with less time to answer than anybody has in earnest."""

    def upstream_for(self, protocol: str) -> Upstream:
        return _InAHurry(super().upstream_for(protocol))


class _InAHurry:
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def complete(self, call: ChatCall) -> Awaitable[Json]:
        return self._upstream.complete(replace(call, timeouts=QUICK))

    def stream(self, call: ChatCall) -> AsyncGenerator[list[Chunk], None]:
        return self._upstream.stream(replace(call, timeouts=QUICK))

    def embed(self, call: ChatCall) -> Awaitable[Json]:
        return self._upstream.embed(replace(call, timeouts=QUICK))

    async def close(self) -> None:
        await self._upstream.close()


def catalog(protocol: str, *addresses: str, pricing: Pricing | None = None, **more: Any) -> Catalog:
    """`acme/prime` (with `more` of its own) at alpha (7 and 13 nanos) and, where there is a second address, at beta (70 and 130)."""
    prices = ((7, 13), (70, 130))
    slugs = ("alpha", "beta")
    providers = [provider(slug, protocol=protocol, base_url=url) for slug, url in zip(slugs, addresses, strict=False)]
    model = replace(PRIME, **more)
    offers = [endpoint(model, at, *price) for at, price in zip(providers, prices, strict=False)]
    if pricing is not None:
        offers = [replace(offer, pricing=pricing) for offer in offers]
    return Catalog(providers, [model], offers)


async def impatient_world(database: Database, cast: Cast, checker: KeyChecker, offers: Catalog) -> World:
    world = World(database, cast, checker, providers=Impatient(clock=database.clock), catalog=offers)
    world.key = await world.make_key()
    return world
