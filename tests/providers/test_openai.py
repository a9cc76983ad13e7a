"""How an OpenAI-compatible upstream is spoken to, and what each of its failures becomes, against a real server on loopback."""

import asyncio
import json
import random
import socket
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import ClassVar

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from bursar.kernel.clock import FixedClock
from bursar.providers import (
    ChatCall,
    Chunk,
    Deltas,
    OpenAiUpstream,
    Timeouts,
    UpstreamFailed,
    UpstreamNeedsOperator,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimedOut,
    discover_local,
)

pytestmark = pytest.mark.anyio

CREDENTIAL = "sk-acme-0123456789abcdef"
QUICK = Timeouts(connect_seconds=1, first_byte_seconds=0.3, idle_seconds=0.3)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[OpenAiUpstream, ChatCall]]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    upstream = OpenAiUpstream(clock=FixedClock(NOW))
    async with TestServer(app) as server:
        try:
            yield upstream, call(str(server.make_url("/v1")))
        finally:
            await upstream.close()


def call(base_url: str | None, **arguments) -> ChatCall:
    body = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "model": "acme/prime", "stream": True}
    return ChatCall(
        **{
            "upstream_model": "prime-1",
            "body": body,
            "base_url": base_url,
            "credential": CREDENTIAL,
            "timeouts": QUICK,
            **arguments,
        }
    )


def completion(**more) -> dict:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "prime-1", "choices": [choice], **more}


def chunk(content: str | None = None, finish_reason: str | None = None, **more) -> dict:
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "prime-1", "choices": choices, **more}


def answering(status: int, body: object, **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, content_type="application/json", headers=headers)

    return handler


def streaming(*events: dict | str, cut: bool = False, pause: float = 0) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(
                b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n"
            )
            await asyncio.sleep(pause)
        if cut:
            request.transport.abort()
        return response

    return handler


async def failure(of: Awaitable[object]) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as caught:
        await of
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
    assert CREDENTIAL not in shown
    return caught.value


async def collected(batches: AsyncIterator[list[Chunk | Deltas]]) -> list[dict]:
    return [chunk.value async for batch in batches for chunk in one_by_one(batch)]


def one_by_one(batch: list[Chunk | Deltas]) -> list[Chunk]:
    return [chunk for each in batch for chunk in (each.chunks() if isinstance(each, Deltas) else [each])]


async def test_a_whole_answer_is_asked_for_and_returned() -> None:
    seen = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.update(await request.json(), headers=dict(request.headers))
        return web.json_response(completion(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}))

    async with serving(handler) as (upstream, to):
        answer = await upstream.complete(to)
    assert answer["usage"]["total_tokens"] == 3
    assert (seen["model"], seen["temperature"], "stream" in seen) == ("prime-1", 0.5, False)
    assert seen["headers"]["Authorization"] == f"Bearer {CREDENTIAL}"
    assert to.body["model"] == "acme/prime"


async def test_a_stream_asks_for_usage_and_yields_the_chunks_in_order() -> None:
    seen = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.update(await request.json())
        events = [chunk("a"), chunk("b"), chunk(None, "stop"), chunk(choices=[], usage={"total_tokens": 3}), "[DONE]"]
        return await streaming(*events)(request)

    async with serving(handler) as (upstream, to):
        chunks = await collected(upstream.stream(to))
    assert seen["stream"] is True
    assert seen["stream_options"] == {"include_usage": True}
    assert [each["choices"][0]["delta"].get("content") for each in chunks[:3]] == ["a", "b", None]
    assert chunks[-1]["usage"] == {"total_tokens": 3}


async def test_words_that_openai_refuses_are_not_sent() -> None:
    seen = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.update(await request.json())
        return web.json_response(completion())

    async with serving(handler) as (upstream, to):
        more = {"reasoning": {"effort": "low"}, "cache_control": {"type": "ephemeral"}, "anthropic_beta": ["a"]}
        await upstream.complete(call(to.base_url, body={**to.body, **more}))
    assert seen.keys() == {"messages", "temperature", "model", "reasoning_effort"}


async def test_what_others_call_reasoning_content_is_reasoning_as_well() -> None:
    told = completion()
    told["choices"][0]["message"] |= {"reasoning_content": "Hm"}
    async with serving(answering(200, told)) as (upstream, to):
        message = (await upstream.complete(to))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Hello", "reasoning_content": "Hm", "reasoning": "Hm"}

    def thinking(**delta) -> dict:
        return chunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}])

    events = [
        thinking(reasoning_content="a"),
        thinking(reasoning_content="b"),
        thinking(reasoning_content="twice", reasoning="c"),
        thinking(content="Hello", reasoning_content=None),
        chunk(None, "stop"),
        "[DONE]",
    ]
    texts = [event if isinstance(event, str) else json.dumps(event, separators=(",", ":")) for event in events]
    async with serving(streaming(*texts)) as (upstream, to):
        deltas = [chunk["choices"][0]["delta"] for chunk in await collected(upstream.stream(to))]
    assert [delta.get("reasoning") for delta in deltas] == ["a", "b", "c", None, None]
    assert deltas[3]["content"] == "Hello"


async def test_no_credential_is_sent_where_there_is_none() -> None:
    seen = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.update(request.headers)
        return web.json_response(completion())

    async with serving(handler) as (upstream, to):
        await upstream.complete(call(to.base_url, credential=None))
    assert "Authorization" not in seen


async def test_connections_are_used_again() -> None:
    ports = []

    async def handler(request: web.Request) -> web.StreamResponse:
        ports.append(request.transport.get_extra_info("peername")[1])
        if (await request.json()).get("stream"):
            return await streaming(chunk("a", "stop"), "[DONE]")(request)
        return web.json_response(completion())

    async with serving(handler) as (upstream, to):
        for _ in range(2):
            await upstream.complete(to)
    assert len(set(ports)) == 1


async def test_a_proxy_in_the_environment_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
    async with serving(answering(200, completion())) as (upstream, to):
        assert await upstream.complete(to)


STATUSES = [
    (400, {"error": {"message": "max_tokens is too large", "code": "x"}}, UpstreamRefused, 400, "max_tokens is too large"),
    (400, {"error": {"message": f"Incorrect API key provided: {CREDENTIAL}"}}, UpstreamNeedsOperator, 404, "refused this installation's credential"),
    (400, [{"error": {"message": "Google lists it", "code": 400}}], UpstreamRefused, 400, "Google lists it"),
    (401, {"error": {"message": f"bad key {CREDENTIAL}"}}, UpstreamNeedsOperator, 404, "refused this installation's credential"),
    (402, {"error": {"message": "pay"}}, UpstreamNeedsOperator, 404, "wants to be paid"),
    (403, "no", UpstreamNeedsOperator, 404, "refused this installation's credential"),
    (404, {"error": {"message": "no such model"}}, UpstreamNeedsOperator, 404, "does not know this model"),
    (408, "", UpstreamTimedOut, 504, "in time"),
    (413, {"detail": "too large"}, UpstreamRefused, 400, "too large"),
    (422, {"message": "messages[0] is odd"}, UpstreamRefused, 400, "messages[0] is odd"),
    (429, {"error": {"message": "slow down"}}, UpstreamOverloaded, 503, "limiting"),
    (500, "<html>oops</html>", UpstreamFailed, 502, "returned an error"),
    (503, {"error": {"message": "busy", "code": 400}}, UpstreamOverloaded, 503, "overloaded"),
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, UpstreamOverloaded, 503, "overloaded"),
    (504, "", UpstreamTimedOut, 504, "in time"),
    (418, "", UpstreamFailed, 502, "status 418"),
    (307, "", UpstreamNeedsOperator, 404, "sent us elsewhere"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "shown", "words"), STATUSES)
async def test_a_status_becomes_a_failure(status: int, body: object, kind: type, shown: int, words: str) -> None:
    headers = {"Location": "http://127.0.0.1:1/"} if status == 307 else {}
    async with serving(answering(status, body, **headers)) as (upstream, to):
        for error in (await failure(upstream.complete(to)), await failure(collected(upstream.stream(to)))):
            assert type(error) is kind
            assert (error.status, error.before_output, error.retryable) == (shown, True, shown != 400)
            assert words in str(error)
            assert error.provider_code
            assert (error.retry_after_seconds is not None) == (shown == 503)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("1.2", 2), ("Tue, 24 Nov 2026 12:00:30 GMT", 30), ("Tue, 24 Nov 2026 11:00:00 GMT", 0), ("999999", 3600), ("soon", 5), ("-3", 5)],
)  # fmt: skip
async def test_the_seconds_to_wait_are_read_from_retry_after(header: str, seconds: int) -> None:
    async with serving(answering(429, {}, **{"Retry-After": header})) as (upstream, to):
        assert (await failure(upstream.complete(to))).retry_after_seconds == seconds


@pytest.mark.parametrize(
    "body", ["<html>", "[]", "null", '{"choices": []}', '{"choices": [{"text": "x"}]}', '{"choices": "x"}', "\xff"]
)
async def test_a_junk_body_is_a_bad_answer(body: str) -> None:
    async with serving(answering(200, body)) as (upstream, to):
        for error in (await failure(upstream.complete(to)), await failure(collected(upstream.stream(to)))):
            assert (error.status, error.provider_code, error.before_output) == (502, "junk", True)


async def test_an_error_inside_a_200_is_an_error() -> None:
    async with serving(answering(200, {"error": {"code": 429, "message": "later"}})) as (upstream, to):
        assert (await failure(upstream.complete(to))).status == 503
        assert (await failure(collected(upstream.stream(to)))).status == 503


async def test_nobody_listening_is_unreachable() -> None:
    upstream = OpenAiUpstream(clock=FixedClock(NOW))
    to = call(f"http://127.0.0.1:{unused_port()}/v1")
    for error in (await failure(upstream.complete(to)), await failure(collected(upstream.stream(to)))):
        assert (error.status, error.before_output, error.retryable) == (502, True, True)
        assert "cannot be reached" in str(error)
    await upstream.close()


async def test_no_headers_in_time_is_a_timeout() -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(handler) as (upstream, to):
        hasty = call(to.base_url, timeouts=Timeouts(0.1, 0.1, 0.1))
        for error in (await failure(upstream.complete(hasty)), await failure(collected(upstream.stream(hasty)))):
            assert (type(error), error.status, error.before_output) == (UpstreamTimedOut, 504, True)


async def test_a_stream_that_falls_silent_is_a_timeout_after_output() -> None:
    async with serving(streaming(chunk("a"), pause=5)) as (upstream, to):
        error = await failure(collected(upstream.stream(to)))
    assert (error.status, error.before_output) == (504, False)


@pytest.mark.parametrize("cut", [True, False])
async def test_a_stream_that_breaks_off_is_a_failure_that_says_whether_there_was_output(cut: bool) -> None:
    async with serving(streaming(chunk("a"), cut=cut)) as (upstream, to):
        error = await failure(collected(upstream.stream(to)))
    assert (error.status, error.provider_code, error.before_output) == (502, "cut", False)
    async with serving(streaming(chunk(""), cut=cut)) as (upstream, to):
        error = await failure(collected(upstream.stream(to)))
    assert (error.status, error.provider_code, error.before_output) == (502, "cut", True)


async def test_a_stream_that_ends_in_the_middle_of_an_event_broke_off() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: " + json.dumps(chunk("a")).encode() + b'\n\ndata: {"choi')
        return response

    async with serving(handler) as (upstream, to):
        error = await failure(collected(upstream.stream(to)))
    assert (error.provider_code, error.before_output) == ("cut", False)


async def test_a_finished_stream_without_done_is_whole() -> None:
    async with serving(streaming(chunk("a"), chunk(None, "stop"), chunk(choices=[], usage={}))) as (upstream, to):
        assert len(await collected(upstream.stream(to))) == 3


async def test_a_chunk_that_is_junk_is_a_failure() -> None:
    for junk in ("{", "[]", '{"choices": "x"}', '{"choices": [1]}'):
        async with serving(streaming(chunk("a"), junk, "[DONE]")) as (upstream, to):
            error = await failure(collected(upstream.stream(to)))
        assert (error.provider_code, error.before_output) == ("junk", False)


@pytest.mark.parametrize(
    ("inside", "status"),
    [({"code": 429, "message": f"later {CREDENTIAL}"}, 503), ({"code": "server_error", "message": "x"}, 502), ("broken", 502), ({"type": "overloaded_error"}, 503)],
)  # fmt: skip
async def test_an_error_inside_a_stream_is_a_failure(inside: object, status: int) -> None:
    for before, events in ((True, []), (True, [chunk("")]), (False, [chunk("a")])):
        async with serving(streaming(*events, {"error": inside}, "[DONE]")) as (upstream, to):
            error = await failure(collected(upstream.stream(to)))
        assert (error.status, error.before_output) == (status, before)


async def test_only_what_must_be_judged_is_decoded_and_the_rest_handed_on_as_it_came() -> None:
    delta = (
        '{"choices":[{"index":0,"delta":{"content":"\\"error\\" \\"usage\\": {}"},"finish_reason":null}],"usage":null}'
    )
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}
    events = [chunk(""), chunk("a"), delta, delta.replace(":null}]", ':"stop"}]'), chunk(choices=[], usage=usage)]
    async with serving(streaming(*events, "[DONE]")) as (upstream, to):
        chunks = [each async for batch in upstream.stream(to) for each in one_by_one(batch)]
    assert [each.has_value for each in chunks] == [True, True, False, False, True]
    assert chunks[2].raw == delta.encode()
    assert chunks[4].value["usage"]["completion_tokens"] == 105
    assert b'"completion_tokens":105' in chunks[4].raw


async def test_bytes_handed_on_never_hold_a_line_end() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        content = json.dumps(chunk("a")).encode()
        await response.write(b"data: " + content + b"\n\ndata: {\ndata: " + content[1:] + b"\n\ndata: [DONE]\n\n")
        return response

    async with serving(handler) as (upstream, to):
        chunks = [each async for batch in upstream.stream(to) for each in batch]
    assert [each.value for each in chunks] == [chunk("a")] * 2
    assert not any(b"\n" in each.raw for each in chunks)


@pytest.mark.parametrize(
    "junk", [b'{"a":}', b'{"a":1}}', b'{"a":"\xff"}', b'{"choices":1}', b'{"choices":[1]}', b"[1]", b'{"a":' * 2000]
)
def test_bytes_that_turn_out_not_to_be_a_chunk_are_a_failure_of_the_provider(junk: bytes) -> None:
    unread = Chunk(junk)
    assert unread.raw == junk
    for _ in range(2):
        with pytest.raises(UpstreamFailed) as caught:
            _ = unread.value
        assert isinstance(caught.value, ValueError)
        assert (caught.value.status, caught.value.provider_code, caught.value.before_output) == (502, "junk", False)


async def test_the_connection_of_a_stream_is_used_again_though_its_end_comes_late() -> None:
    ports = []

    async def handler(request: web.Request) -> web.StreamResponse:
        ports.append(request.transport.get_extra_info("peername")[1])
        response = await streaming(chunk("a", "stop"), "[DONE]", pause=0.02)(request)
        await response.write(b": more\n\n")
        return response

    async with serving(handler) as (upstream, to):
        for _ in range(3):
            assert len(await collected(upstream.stream(to))) == 1
            await asyncio.sleep(0.1)
    assert len(set(ports)) == 1


async def test_what_came_before_a_failure_in_the_same_piece_is_handed_on_first() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: " + json.dumps(chunk("a")).encode() + b'\n\ndata: {"error":{"code":503}}\n\n')
        return response

    async with serving(handler) as (upstream, to):
        stream = upstream.stream(to)
        assert [each.value for each in await anext(stream)] == [chunk("a")]
        error = await failure(anext(stream))
    assert (error.status, error.before_output) == (503, False)


@asynccontextmanager
async def raw(*said: bytes, then: str = "close") -> AsyncIterator[tuple[OpenAiUpstream, ChatCall]]:
    """A server of plain bytes, which then closes, resets, or waits."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"}")
            for piece in said:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            if then == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            elif then == "wait":
                await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    upstream = OpenAiUpstream(clock=FixedClock(NOW))
    try:
        yield upstream, call(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    finally:
        await upstream.close()
        server.close()
        await asyncio.sleep(0.01)


SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def framed(*events: dict | str) -> bytes:
    content = b"".join(
        b"data: " + (each if isinstance(each, str) else json.dumps(each)).encode() + b"\n\n" for each in events
    )
    return b"%x\r\n%s\r\n" % (len(content), content)


BREAKS = [
    ("reset before a word", [], "reset", "cut", True),
    ("closed before a word", [], "close", "cut", True),
    ("silence", [], "wait", "timeout", True),
    ("silence in the headers", [SSE[:40]], "wait", "timeout", True),
    ("silence after the headers", [SSE], "wait", "timeout", True),
    ("silence after output", [SSE + framed(chunk("a"))], "wait", "timeout", False),
    ("reset after output", [SSE + framed(chunk("a"))], "reset", "cut", False),
    ("closed after output", [SSE, framed(chunk("a"))], "close", "cut", False),
    ("the end without a reason", [SSE, framed(chunk("a")) + b"0\r\n\r\n"], "wait", "cut", False),
    ("no HTTP", [b"SSH-2.0-OpenSSH_9.2\r\n"], "wait", "malformed", True),
    ("no HTTP after output", [SSE, framed(chunk("a")) + b"zz"], "wait", "malformed", False),
    ("compressed", [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"], "wait", "malformed", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "then", "code", "before_output"), [each[1:] for each in BREAKS], ids=[each[0] for each in BREAKS]
)
async def test_a_broken_wire_is_a_failure_with_its_own_code(
    said: list[bytes], then: str, code: str, before_output: bool
) -> None:
    async with raw(*said, then=then) as (upstream, to):
        error = await failure(collected(upstream.stream(to)))
        assert (error.provider_code, error.before_output, error.retryable) == (code, before_output, True)
        assert error.status == (504 if code == "timeout" else 502)
        if before_output:
            assert (await failure(upstream.complete(to))).provider_code == code


@pytest.mark.parametrize(
    ("base_url", "code"),
    [("http://nobody.invalid/v1", "dns"), ("no address", "invalid_url"), ("ftp://a/v1", "invalid_url")],
)
async def test_an_address_that_leads_nowhere_is_unreachable(base_url: str, code: str) -> None:
    upstream = OpenAiUpstream(clock=FixedClock(NOW))
    error = await failure(upstream.complete(call(base_url, timeouts=Timeouts(20, 1, 1))))
    assert (str(error), error.provider_code) == ("The provider cannot be reached.", code)
    await upstream.close()


class Pieces:
    """An HTTP client whose answers are these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def post(self, *_arguments: object) -> "Pieces":
        return self

    status = 200
    headers: ClassVar[dict[str, str]] = {}

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    def leave(self) -> None: ...
    def close(self) -> None: ...


WORDS = [b"data: ", b"\n", b"\r", b"\n\n", b"\r\n", b"\xef\xbb\xbf", b"\xff", b'"error":', b'"usage":{', b"null", b"[DONE]", b"}", b"{", b'"', b"[", b"1e999",
         b'"choices":7', b"\\ud800", b": c\n\n", b"data: {}\n\n", b"data: []\n\n", b'"finish_reason":"']  # fmt: skip


async def test_ten_thousand_mutated_streams_end_or_fail_as_upstreams_do(anyio_backend: tuple[str, dict]) -> None:
    choice = random.Random(20261124)
    ends: dict[str | None, int] = {}
    for _ in range(5_000):  # on each of the two loops
        contents = [chunk("a" * choice.randint(0, 3)) for _ in range(choice.randint(1, 4))]
        events = [*contents, chunk(None, "stop"), chunk(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2})]
        content = bytearray(
            b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events) + b"data: [DONE]\n\n"
        )
        for _ in range(choice.randint(0, 3)):
            at = choice.randint(0, len(content))
            content[at : at + choice.choice([0, 1, 5, 50])] = choice.choice(WORDS)
        cuts = sorted(choice.randint(0, len(content)) for _ in range(choice.randint(0, 4)))
        pieces = [bytes(content[start:end]) for start, end in pairwise([0, *cuts, len(content)])]
        upstream = OpenAiUpstream(clock=FixedClock(NOW), http=Pieces(pieces))
        try:
            for each in [one async for batch in upstream.stream(call("http://a/v1")) for one in one_by_one(batch)]:
                assert b"\n" not in each.raw
                assert isinstance(each.value["choices"], list)
            end = None
        except UpstreamFailed as error:
            end = error.provider_code
        ends[end] = ends.get(end, 0) + 1
    assert ends[None] > 1000
    assert {None, "junk"} < set(ends) <= {None, "junk", "cut", "502"}


async def test_a_line_without_end_is_an_error_and_not_a_full_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bursar.providers._openai.SseParser",
        lambda: __import__("bursar.providers").providers.SseParser(line_bytes_max=1000),
    )
    async with serving(streaming(chunk("a"), "x" * 5000)) as (upstream, to):
        error = await failure(collected(upstream.stream(to)))
    assert (error.provider_code, error.before_output) == ("too_large", False)


async def test_a_body_without_end_is_an_error_and_not_a_full_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bursar.providers._openai.BODY_BYTES_MAX", 1000)
    async with serving(answering(200, "x" * 5000)) as (upstream, to):
        assert (await failure(upstream.complete(to))).provider_code == "too_large"


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_closing_or_cancelling_a_stream_closes_the_connection_to_the_provider(how: str) -> None:
    gone = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: " + json.dumps(chunk("a")).encode() + b"\n\n")
        try:
            while not (request.transport is None or request.transport.is_closing()):
                await asyncio.sleep(0.01)
        finally:
            gone.set()
        return response

    async with serving(handler) as (upstream, to):
        patient = call(to.base_url, timeouts=Timeouts(1, 5, 5))
        if how == "closed":
            async with aclosing(upstream.stream(patient)) as chunks:
                assert await anext(chunks)
        else:
            task = asyncio.create_task(collected(upstream.stream(patient)))
            await asyncio.sleep(0.1)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.wait_for(gone.wait(), 2)


@pytest.mark.parametrize("credential", ["sk-line\nend", " sk", "sk-é", ""])
async def test_a_malformed_credential_is_the_operators_matter(credential: str) -> None:
    async with serving(answering(200, completion())) as (upstream, to):
        error = await failure(upstream.complete(call(to.base_url, credential=credential or "\x00")))
    assert type(error) is UpstreamNeedsOperator
    assert "malformed" in str(error)
    assert error.remedy


async def test_text_that_cannot_be_sent_is_the_callers_matter() -> None:
    upstream = OpenAiUpstream(clock=FixedClock(NOW))
    to = ChatCall("prime-1", {"messages": [{"role": "user", "content": "\ud800"}]}, base_url="http://127.0.0.1:1/v1")
    assert type(await failure(upstream.complete(to))) is UpstreamRefused
    await upstream.close()


async def test_a_call_does_not_show_its_credential_or_its_content() -> None:
    shown = repr(call("http://127.0.0.1:1/v1"))
    assert CREDENTIAL not in shown
    assert "hi" not in shown.replace("this", "")


async def test_hidden_reasoning_beside_the_completion_is_counted_into_it() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 115,
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    async with serving(answering(200, completion(usage=usage))) as (upstream, to):
        answer = await upstream.complete(to)
    assert answer["usage"]["completion_tokens"] == 105
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 100


async def test_a_local_server_is_asked_for_its_models() -> None:
    async def models(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": "b"}, {"id": "a"}, {"id": 1}, 7]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    async with TestServer(app) as server:
        assert await discover_local(str(server.make_url("/v1"))) == ["a", "b"]
        assert await discover_local(str(server.make_url("/v2"))) == []
    assert await discover_local(f"http://127.0.0.1:{unused_port()}/v1") == []
    assert await discover_local("nonsense") == []
