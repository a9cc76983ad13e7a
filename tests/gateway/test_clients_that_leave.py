"""A client that leaves, or a server that stops, loses nobody's money: what arrived is charged, once, and nothing stays held."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from bursar import ledger
from bursar.activity import GenerationStatus, UsageSource
from bursar.catalog import Catalog
from tests.gateway.world import PRIME, Answer, chunk, endpoint, provider, usage, whole

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
        "method": "POST",
        "path": "/api/v1/chat/completions",
        "headers": [(b"authorization", f"Bearer {world.key}".encode())],
    }
    await world.gateway(scope, receive, send)
    assert sent == []
    assert world.upstream.calls == []
    assert await world.generations() == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_is_cancelled_at_any_moment_leaves_no_hold_and_right_books(
    scripted: Callable[..., Any], stream: bool
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
    body = STREAM if stream else WHOLE
    for number in range(120):
        task = asyncio.ensure_future(world.post(body))
        await asyncio.sleep(number * 0.0002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await world.post(body)).complete
    spent = await world.books_are_right()
    assert spent > 0
    statuses = {row.status for row in await world.generations()}
    assert {GenerationStatus.OK, GenerationStatus.CANCELLED} >= statuses


async def test_a_whole_answer_whose_client_left_comes_to_its_end_and_is_settled(scripted: Callable[..., Any]):
    begun = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(0.05)

    world = await scripted([slow, whole("one two", usage=usage(5, 2))])
    task = asyncio.ensure_future(world.post(WHOLE))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await world.settled()
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


async def test_a_request_cancelled_while_its_hold_is_extended_is_settled_after_the_extension(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    """The settlement takes more than is held here, too: the two must not get into each other's way."""
    real, begun = ledger.extend_hold, asyncio.Event()

    async def slow(*arguments: Any) -> None:
        await real(*arguments)
        begun.set()
        await asyncio.sleep(0.1)

    monkeypatch.setattr(ledger, "extend_hold", slow)
    alone = Catalog([provider("alpha")], [PRIME], [endpoint(PRIME, provider("alpha"))])
    world = await scripted([chunk("a " * 5000), forever], catalog=alone)
    task = asyncio.ensure_future(world.post(STREAM))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    row = await world.only_generation()
    assert (
        row.completion_tokens == 4096
    )  # 5,000 words arrived, but nobody can have written more than this endpoint does
    assert row.cost_nanos > 4096 * 13
