"""How an upstream that speaks Anthropic's Messages is spoken to, against a raw server on loopback that speaks its wire."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from bursar.kernel.clock import FixedClock
from bursar.providers import (
    AnthropicUpstream,
    ChatCall,
    Chunk,
    Providers,
    Timeouts,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimedOut,
    UpstreamUnable,
)
from bursar.providers._errors import UpstreamNeedsOperator
from tests.providers.anthropic_wire import events_of, reassembled, wire

pytestmark = pytest.mark.anyio

CREDENTIAL = "sk-ant-api03-0123456789abcdef"
QUICK = Timeouts(connect_seconds=1, first_byte_seconds=0.5, idle_seconds=0.5)
CLOCK = FixedClock(datetime(2026, 11, 24, 12, tzinfo=UTC))
USAGE = {"input_tokens": 12, "cache_read_input_tokens": 5, "output_tokens": 9}
MESSAGE = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [
        {"type": "thinking", "thinking": "A greeting. Été, ☃.", "signature": "c2ln"},
        {"type": "text", "text": "Hello, ☃!"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"town": "Tromsø"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": USAGE,
}
EVENTS = events_of(MESSAGE)


class Asked:
    """One request as it arrived, and the way to answer it."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter, port: int) -> None:
        line, *lines = head.decode("latin-1").split("\r\n")
        self.line = line
        self.headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines if each)}
        self.body: dict[str, Any] = json.loads(body)
        self.writer = writer
        self.port = port

    async def whole(self, status: int, body: object, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._head(status, {"content-type": "application/json", "content-length": str(len(content)), **headers})
        self.writer.write(content)
        await self.writer.drain()

    async def begin(self) -> None:
        self._head(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"})
        await self.writer.drain()

    async def send(self, piece: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())


Handler = Callable[[Asked], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[AnthropicUpstream, str]]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length")
                )
                asked = Asked(head, await reader.readexactly(length), writer, writer.get_extra_info("peername")[1])
                await handler(asked)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    upstream = AnthropicUpstream(clock=CLOCK)
    try:
        yield upstream, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await upstream.close()
        server.close()


def call(base_url: str | None, **arguments: Any) -> ChatCall:
    body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5, "model": "a/b", "stream": True}
    arguments = {"upstream_model": "claude-sonnet-4-5", "body": body, "credential": CREDENTIAL, "timeouts": QUICK, **arguments}  # fmt: skip
    return ChatCall(base_url=base_url, **arguments)


async def collected(batches: AsyncIterator[list[Chunk]]) -> list[dict[str, Any]]:
    return [chunk.value async for batch in batches for chunk in batch]


async def failure(of: Awaitable[object]) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as caught:
        await of
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
    assert CREDENTIAL not in shown
    return caught.value


def streaming(*pieces: bytes, ends: bool = True) -> Handler:
    async def handler(asked: Asked) -> None:
        await asked.begin()
        for piece in pieces:
            await asked.send(piece)
        if ends:
            await asked.end()
        else:
            asked.writer.transport.abort()

    return handler


def answering(status: int, body: object, **headers: str) -> Handler:
    async def handler(asked: Asked) -> None:
        await asked.whole(status, body, **headers)

    return handler


async def test_a_whole_answer_is_asked_for_in_anthropics_way() -> None:
    seen: list[Asked] = []

    async def handler(asked: Asked) -> None:
        seen.append(asked)
        await asked.whole(200, MESSAGE)

    async with serving(handler) as (upstream, url):
        answer = await upstream.complete(call(url))
    asked = seen[0]
    assert asked.line == "POST /v1/messages HTTP/1.1"
    assert asked.headers["x-api-key"] == CREDENTIAL
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert not {"authorization", "anthropic-beta"} & asked.headers.keys()
    assert asked.body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "temperature": 0.5,
    }
    said = answer["choices"][0]["message"]
    assert (said["content"], said["reasoning"]) == ("Hello, ☃!", "A greeting. Été, ☃.")
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"town": "Tromsø"}
    assert answer["usage"]["prompt_tokens"] == 17
    assert answer["created"] == int(CLOCK.now().timestamp())


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/"])
async def test_an_address_with_its_version_is_the_same_address(path: str) -> None:
    seen: list[Asked] = []

    async def handler(asked: Asked) -> None:
        seen.append(asked)
        await asked.whole(200, MESSAGE)

    async with serving(handler) as (upstream, url):
        await upstream.complete(call(url + path))
    assert seen[0].line == "POST /v1/messages HTTP/1.1"


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
async def test_a_stream_says_what_the_whole_answer_says(size: int, ending: bytes) -> None:
    seen: list[Asked] = []
    content = b": hello\n\n" + wire(EVENTS)
    content = content.replace(b"\n", ending)
    pieces = [content[start : start + size] for start in range(0, len(content), size)]

    async def handler(asked: Asked) -> None:
        seen.append(asked)
        await (streaming(*pieces)(asked) if asked.body.get("stream") else asked.whole(200, MESSAGE))

    async with serving(handler) as (upstream, url):
        chunks = await collected(upstream.stream(call(url)))
        whole = await upstream.complete(call(url))
    assert reassembled(chunks) == whole
    assert (seen[0].body["stream"], seen[0].headers["accept"]) == (True, "text/event-stream")
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]].count("tool_use") == 1


async def test_chunks_are_handed_on_as_they_arrive() -> None:
    go = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await asked.begin()
        await asked.send(wire(EVENTS[:4]))
        await go.wait()
        await asked.send(wire(EVENTS[4:]))
        await asked.end()

    async with serving(handler) as (upstream, url), aclosing(upstream.stream(call(url))) as batches:
        first = await anext(batches)
        assert first[0].value["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert first[-1].value["choices"][0]["delta"]["reasoning"] == "A g"
        go.set()
        rest = await collected(batches)
    assert rest[-1]["usage"]["completion_tokens"] == 9


async def test_beta_features_are_passed_on_as_a_header() -> None:
    seen: list[Asked] = []

    async def handler(asked: Asked) -> None:
        seen.append(asked)
        await asked.whole(200, MESSAGE)

    async with serving(handler) as (upstream, url):
        body = {**call(url).body, "anthropic_beta": ["one-2025-01-01", "two"]}
        await upstream.complete(call(url, body=body, credential=None))
    assert seen[0].headers["anthropic-beta"] == "one-2025-01-01,two"
    assert "x-api-key" not in seen[0].headers


async def test_connections_are_used_again_after_answers_and_streams() -> None:
    ports: list[int] = []

    async def handler(asked: Asked) -> None:
        ports.append(asked.port)
        if asked.body.get("stream"):
            await asked.begin()
            await asked.send(wire(EVENTS))
            await asyncio.sleep(0.02)  # the end comes after whoever reads has left
            await asked.end()
        else:
            await asked.whole(200, MESSAGE)

    async with serving(handler) as (upstream, url):
        for _ in range(2):
            await upstream.complete(call(url))
            await collected(upstream.stream(call(url)))
            await asyncio.sleep(0.05)
    assert len(ports) == 4
    assert len(set(ports)) == 1


ERRORS = [
    (400, "invalid_request_error", "max_tokens: too large", UpstreamRefused, 400, "max_tokens: too large"),
    (401, "authentication_error", f"bad key {CREDENTIAL}", UpstreamNeedsOperator, 404, "refused this installation's credential"),
    (402, "billing_error", "pay", UpstreamNeedsOperator, 404, "wants to be paid"),
    (403, "permission_error", "no", UpstreamNeedsOperator, 404, "refused this installation's credential"),
    (404, "not_found_error", "model: claude-0", UpstreamNeedsOperator, 404, "does not know this model"),
    (413, "request_too_large", "too many bytes", UpstreamRefused, 400, "too many bytes"),
    (429, "rate_limit_error", "slow down", UpstreamOverloaded, 503, "limiting"),
    (500, "api_error", "oops", UpstreamFailed, 502, "returned an error"),
    (504, "timeout_error", "slow", UpstreamTimedOut, 504, "in time"),
    (529, "overloaded_error", "busy", UpstreamOverloaded, 503, "overloaded"),
    (307, "x", "x", UpstreamNeedsOperator, 404, "sent us elsewhere"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "word", "said", "kind", "shown", "words"), ERRORS)
async def test_a_status_becomes_a_failure(
    status: int, word: str, said: str, kind: type, shown: int, words: str
) -> None:
    body = {"type": "error", "error": {"type": word, "message": said}, "request_id": "req_1"}
    async with serving(answering(status, body, retry_after="7")) as (upstream, url):
        for error in (
            await failure(upstream.complete(call(url))),
            await failure(collected(upstream.stream(call(url)))),
        ):
            assert type(error) is kind
            assert (error.status, error.before_output) == (shown, True)
            assert words in error.sentence
            assert error.retry_after_seconds == (7 if kind is UpstreamOverloaded else None)


@pytest.mark.parametrize("after", [0, 1, 4, len(EVENTS) - 2, len(EVENTS) - 1])
@pytest.mark.parametrize("ends", [True, False])
async def test_a_stream_without_its_end_is_cut(after: int, ends: bool) -> None:
    async with serving(streaming(wire(EVENTS[:after]), b": still here\n\n", ends=ends)) as (upstream, url):
        chunks: list[Chunk] = []

        async def read() -> None:
            async for batch in upstream.stream(call(url)):
                chunks.extend(batch)

        error = await failure(read())
    assert error.provider_code == "cut"
    assert error.before_output is (after < 4)
    assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk.value["choices"])


async def test_an_event_that_the_end_cut_short_is_no_junk() -> None:
    content = wire(EVENTS)
    async with serving(streaming(content[: len(content) // 2])) as (upstream, url):
        assert (await failure(collected(upstream.stream(call(url))))).provider_code == "cut"


async def test_a_stream_whose_last_event_lacks_its_empty_line_is_whole() -> None:
    async with serving(streaming(wire(EVENTS)[:-1])) as (upstream, url):
        assert (await collected(upstream.stream(call(url))))[-1]["usage"]


async def test_what_follows_the_end_of_a_message_is_not_read() -> None:
    """Some providers that speak this protocol end with OpenAI's `[DONE]`."""
    async with serving(streaming(wire(EVENTS) + b"data: [DONE]\n\n")) as (upstream, url):
        assert (await collected(upstream.stream(call(url))))[-1]["usage"]


@pytest.mark.parametrize(("after", "before_output"), [(1, True), (4, False)])
async def test_an_error_in_a_stream_comes_after_what_came_before_it(after: int, before_output: bool) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    async with serving(streaming(wire([*EVENTS[:after], error, *EVENTS[after:]]))) as (upstream, url):
        chunks: list[Chunk] = []

        async def read() -> None:
            async for batch in upstream.stream(call(url)):
                chunks.extend(batch)

        failed = await failure(read())
    assert type(failed) is UpstreamOverloaded
    assert failed.before_output is before_output
    assert len(chunks) == {1: 1, 4: 2}[after]


JUNK = [b"<html>", b"[]", b'{"type": 7}', b"null", b"\xff", b'"a"', b"[[[["]


@pytest.mark.parametrize("junk", JUNK)
async def test_junk_is_a_failure(junk: bytes) -> None:
    async with serving(answering(200, junk)) as (upstream, url):
        assert (await failure(upstream.complete(call(url)))).provider_code == "junk"
    async with serving(streaming(wire(EVENTS[:4]) + b"data: " + junk + b"\n\n")) as (upstream, url):
        error = await failure(collected(upstream.stream(call(url))))
    assert (error.provider_code, error.before_output) == ("junk", False)


async def test_an_error_instead_of_an_answer_is_a_failure_whatever_the_status() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    async with serving(answering(200, body)) as (upstream, url):
        for error in (
            await failure(upstream.complete(call(url))),
            await failure(collected(upstream.stream(call(url)))),
        ):
            assert type(error) is UpstreamOverloaded


async def test_a_whole_answer_instead_of_a_stream_is_junk() -> None:
    async with serving(answering(200, MESSAGE)) as (upstream, url):
        assert (await failure(collected(upstream.stream(call(url))))).provider_code == "junk"


async def test_a_provider_that_says_nothing_in_time_timed_out() -> None:
    async def silent(asked: Asked) -> None:
        await asyncio.sleep(5)

    async def silent_after_the_first_words(asked: Asked) -> None:
        await asked.begin()
        await asked.send(wire(EVENTS[:4]))
        await asyncio.sleep(5)

    for handler, before_output in ((silent, True), (silent_after_the_first_words, False)):
        async with serving(handler) as (upstream, url):
            error = await failure(collected(upstream.stream(call(url))))
            assert (type(error), error.before_output) == (UpstreamTimedOut, before_output)


async def test_a_provider_that_is_not_there_is_a_failure() -> None:
    async with serving(answering(200, MESSAGE)) as (upstream, url):
        pass
    upstream = AnthropicUpstream(clock=CLOCK)
    error = await failure(upstream.complete(call(url)))
    assert (type(error), error.provider_code) == (UpstreamFailed, "refused")
    assert type(await failure(upstream.complete(call(None)))) is UpstreamNeedsOperator
    assert type(await failure(upstream.complete(call(url, credential=CREDENTIAL + "\n")))) is UpstreamNeedsOperator
    await upstream.close()


@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_leaving_a_stream_closes_the_connection(way: str) -> None:
    gone = asyncio.Event()
    begun = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await asked.begin()
        try:
            while True:
                await asked.send(wire(EVENTS[:4]))
                begun.set()
                await asyncio.sleep(0.005)
        finally:
            gone.set()

    async with serving(handler) as (upstream, url):
        if way == "close":
            batches = upstream.stream(call(url))
            await anext(batches)
            await batches.aclose()
        else:
            reading = asyncio.create_task(collected(upstream.stream(call(url))))
            await begun.wait()
            await asyncio.sleep(0.02)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        await asyncio.wait_for(gone.wait(), 2)


async def test_cancelling_a_whole_answer_closes_the_connection() -> None:
    gone = asyncio.Event()
    begun = asyncio.Event()

    async def handler(asked: Asked) -> None:
        begun.set()
        try:
            while True:
                await asked.begin()
                await asyncio.sleep(0.005)
        finally:
            gone.set()

    async with serving(handler) as (upstream, url):
        asking = asyncio.create_task(upstream.complete(call(url)))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(gone.wait(), 2)


async def test_what_cannot_be_said_is_refused_before_anything_is_sent() -> None:
    async def handler(asked: Asked) -> None:
        raise AssertionError("nothing was to be sent")

    async with serving(handler) as (upstream, url):
        body = {**call(url).body, "n": 2}
        for asking in (upstream.complete(call(url, body=body)), collected(upstream.stream(call(url, body=body)))):
            assert type(await failure(asking)) is UpstreamUnable
        deep: dict[str, Any] = {}
        for _ in range(5_000):
            deep = {"a": deep}
        tools = [{"type": "function", "function": {"name": "f", "parameters": deep}}]
        for more in ({"messages": [{"role": "user", "content": "\ud800"}]}, {"tools": tools}):
            assert type(await failure(upstream.complete(call(url, body={**body, "n": 1, **more})))) is UpstreamRefused
        assert type(await failure(upstream.embed(call(url)))) is UpstreamUnable


async def test_the_protocol_is_known_by_its_name() -> None:
    providers = Providers(clock=CLOCK)
    assert isinstance(providers.upstream_for("anthropic"), AnthropicUpstream)
    await providers.close()
