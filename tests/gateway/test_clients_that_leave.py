"""A client that leaves, or a server that stops, loses nobody's money: what arrived is charged, once, and nothing stays held."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from bursar.activity import GenerationStatus, UsageSource
from tests.gateway.world import Answer, World, chunk, usage, whole

pytestmark = pytest.mark.anyio

BODY = {"model": "acme/prime", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = json.dumps({**BODY, "stream": True}).encode()
WHOLE = json.dumps(BODY).encode()


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_client_that_leaves_in_mid_stream_is_charged_for_what_arrived_and_the_provider_is_let_go(
    scripted: Callable[..., Any],
):
    leave = asyncio.Event()

    async def gone() -> None:
        leave.set()

    world = await scripted([chunk("one two "), chunk("three"), gone, forever])
    answer = await world.post(STREAM, leave=leave)
    assert not answer.complete
    assert b"[DONE]" not in answer.body
    assert world.upstream.closed == ["alpha"]
    row = await world.only_generation()
    assert (row.status, row.cancelled) == (GenerationStatus.CANCELLED, True)
    assert (row.completion_tokens, row.usage_source) == (3, UsageSource.COUNTED)
    assert row.cost_nanos > 0


async def test_a_client_that_leaves_before_any_output_costs_nothing(scripted: Callable[..., Any]):
    leave = asyncio.Event()

    async def gone() -> None:
        leave.set()

    world = await scripted([gone, forever])
    answer = await world.post(STREAM, leave=leave)
    assert answer.messages == []
    assert world.upstream.closed == ["alpha"]
    row = await world.only_generation()
    assert (row.status, row.cost_nanos) == (GenerationStatus.CANCELLED, 0)


async def test_a_client_that_leaves_while_a_whole_answer_is_made_is_charged_for_it(scripted: Callable[..., Any]):
    leave = asyncio.Event()

    async def gone() -> None:
        leave.set()
        await asyncio.sleep(0.02)

    world = await scripted([gone, whole("one two three", usage=usage(5, 3))])
    await world.post(WHOLE, leave=leave)
    row = await world.only_generation()
    assert row.status is GenerationStatus.OK
    assert row.cost_nanos == 5 * 7 + 3 * 13


async def test_a_client_that_leaves_before_its_body_is_complete_is_nothing_at_all(scripted: Callable[..., Any]):
    world = await scripted([whole("never")])
    leave = asyncio.Event()
    leave.set()
    scope_body = [WHOLE[:10]]

    async def receive() -> dict[str, Any]:
        if scope_body:
            return {"type": "http.request", "body": scope_body.pop(), "more_body": True}
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "path": "/api/v1/chat/completions",
        "headers": [(b"authorization", f"Bearer {world.key}".encode())],
    }
    await world.gateway(scope, receive, send)
    assert sent == []
    assert world.upstream.calls == []
    assert await world.generations() == []


async def steps_of(world: World, body: bytes, turns: int) -> bool:
    """Starts a request and cancels it after so many turns of the loop; whether it had ended before."""
    task = asyncio.ensure_future(world.post(body))
    for _ in range(turns):
        await asyncio.sleep(0)
        if task.done():
            break
    ended = task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return ended


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_is_cancelled_at_any_moment_leaves_no_hold_and_right_books(
    scripted: Callable[..., Any], stream: bool, database: Any
):
    """What a server does to requests that outlast its patience at shutdown, at every moment it can happen."""

    async def breathe() -> None:
        await asyncio.sleep(0)

    long = chunk("word " * 300)
    steps = [
        breathe,
        chunk("Hi"),
        breathe,
        long,
        breathe,
        long,
        breathe,
        chunk(finish="stop"),
        chunk(usage=usage(5, 600)),
    ]
    world = await scripted(steps if stream else [breathe, whole("Hi", usage=usage(5, 2))])
    await world.admission.admit(f"Bearer {world.key}")
    pauses = sorted({*range(30), *range(30, 400, 7)})
    for number in pauses:
        if database.dialect == "sqlite":
            await steps_of(world, STREAM if stream else WHOLE, number)
        else:  # the server's answers take real time, not turns of the loop
            task = asyncio.ensure_future(world.post(STREAM if stream else WHOLE))
            await asyncio.sleep(number * 0.0001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    spent = await world.books_are_right()
    assert spent > 0
    assert all(row.status in GenerationStatus for row in await world.generations())


async def test_a_server_that_stops_waits_for_the_settlements_that_are_owed(scripted: Callable[..., Any]):
    begun = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(0.05)

    world = await scripted([slow, whole("one two", usage=usage(5, 2))])
    task = asyncio.ensure_future(world.post(WHOLE))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await world.gateway.drain()
    row = await world.only_generation()
    assert row.status is GenerationStatus.OK
    assert row.cost_nanos == 5 * 7 + 2 * 13


async def test_a_stream_that_is_cancelled_settles_what_arrived(scripted: Callable[..., Any]):
    begun = asyncio.Event()

    async def on_send(_answer: Answer, message: dict[str, Any]) -> None:
        if b"three" in message.get("body", b""):
            begun.set()

    world = await scripted([chunk("one two "), chunk("three"), forever])
    task = asyncio.ensure_future(world.post(STREAM, on_send=on_send))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    row = await world.only_generation()
    assert row.status is GenerationStatus.CANCELLED
    assert row.completion_tokens == 3
    assert world.upstream.closed == ["alpha"]


@pytest.mark.parametrize("after", range(1, 6))
async def test_a_client_whose_connection_fails_while_we_write_is_settled(scripted: Callable[..., Any], after: int):
    async def broken(answer: Answer, _message: dict[str, Any]) -> None:
        if len(answer.messages) >= after:
            raise OSError("broken pipe")

    steps = [chunk("one "), chunk("two "), chunk("three"), chunk(finish="stop"), chunk(usage=usage(5, 3))]
    world = await scripted(steps)
    with contextlib.suppress(OSError):
        await world.post(STREAM, on_send=broken)
    row = await world.only_generation()
    assert row.cost_nanos > 0
    assert world.upstream.closed == ["alpha"]
