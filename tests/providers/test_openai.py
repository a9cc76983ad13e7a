"""How an OpenAI-compatible upstream is spoken to, and what each of its failures becomes, against a real server on loopback."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from bursar.kernel.clock import FixedClock
from bursar.providers import (
    Chunk,
    ChatCall,
    OpenAiUpstream,
    Timeouts,
    UpstreamFailed,
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


async def collected(batches: AsyncIterator[list[Chunk]]) -> list[dict]:
    return [chunk.value async for batch in batches for chunk in batch]


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
    (400, {"error": {"message": f"Incorrect API key provided: {CREDENTIAL}"}}, UpstreamFailed, 502, "refused this installation's credential"),
    (400, [{"error": {"message": "Google lists it", "code": 400}}], UpstreamRefused, 400, "Google lists it"),
    (401, {"error": {"message": f"bad key {CREDENTIAL}"}}, UpstreamFailed, 502, "refused this installation's credential"),
    (402, {"error": {"message": "pay"}}, UpstreamFailed, 502, "wants to be paid"),
    (403, "no", UpstreamFailed, 502, "refused this installation's credential"),
    (404, {"error": {"message": "no such model"}}, UpstreamFailed, 502, "does not know this model"),
    (408, "", UpstreamTimedOut, 504, "in time"),
    (413, {"detail": "too large"}, UpstreamRefused, 400, "too large"),
    (422, {"message": "messages[0] is odd"}, UpstreamRefused, 400, "messages[0] is odd"),
    (429, {"error": {"message": "slow down"}}, UpstreamOverloaded, 503, "limiting"),
    (500, "<html>oops</html>", UpstreamFailed, 502, "returned an error"),
    (503, {"error": {"message": "busy", "code": 400}}, UpstreamOverloaded, 503, "overloaded"),
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, UpstreamOverloaded, 503, "overloaded"),
    (504, "", UpstreamTimedOut, 504, "in time"),
    (418, "", UpstreamFailed, 502, "status 418"),
    (307, "", UpstreamFailed, 502, "sent us elsewhere"),
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
    assert error.status == 502
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
