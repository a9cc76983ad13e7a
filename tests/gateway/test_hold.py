"""Credits are held before anything is dispatched, and no concurrency spends more than there is."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from bursar import ledger
from bursar.catalog import Catalog
from bursar.gateway import DatabaseFunds, InsufficientCredits, Intent
from bursar.gateway.plan import STREAM_TOKENS
from bursar.kernel.ids import GenerationId, WorkerId
from bursar.kernel.money import Nanos
from bursar.storage import SYSTEM, Database
from tests.conftest import Cast
from tests.gateway.world import CREDIT, CREDITS_URL, PRIME, World, chunk, endpoint, provider, usage, whole

pytestmark = pytest.mark.anyio


async def test_without_credits_a_request_is_402_and_nothing_is_dispatched(scripted: Callable[..., Any]):
    world = await scripted([whole("never")])
    _, key = await world.make_pool(0)
    for stream in (False, True):
        answer = await world.chat(model="acme/prime", key=key, stream=stream)
        assert answer.status == 402
        assert answer.error["message"] == (f"Insufficient credits: $0.00 are available. Add credits at {CREDITS_URL}.")
        assert answer.error["metadata"]["error_type"] == "payment_required"
        assert answer.error["metadata"]["limit_source"] == "openrouter_credits"
    assert world.upstream.calls == []
    assert await world.generations() == []
    assert await world.books_are_right() == 0


async def test_402_says_how_many_output_tokens_can_be_afforded_and_that_many_are_then_served(
    scripted: Callable[..., Any],
):
    catalog = Catalog([provider("alpha")], [PRIME], [endpoint(PRIME, provider("alpha"))])
    world = await scripted([whole("ok", usage=usage(3, 2))], catalog=catalog)
    owner, key = await world.make_pool(5_000)
    refused = await world.chat("Hi", model="acme/prime", key=key, max_tokens=1000)
    said = refused.error["message"]
    affordable = int(said.partition("can only afford ")[2].partition(".")[0])
    assert said == (
        "This request requires more credits, or fewer max_tokens. You requested up to 1000 tokens, "
        f"but can only afford {affordable}. Add credits at {CREDITS_URL}."
    )
    assert world.upstream.calls == []
    assert (await world.chat("Hi", model="acme/prime", key=key, max_tokens=affordable + 1)).status == 402
    assert (await world.chat("Hi", model="acme/prime", key=key, max_tokens=affordable)).status == 200
    assert len(world.upstream.calls) == 1
    assert (await world.balance(owner)).available == 5_000 - 3 * 7 - 2 * 13
    await world.books_are_right()


async def test_the_hold_is_durable_before_the_provider_is_called_and_covers_the_worst_case(
    scripted: Callable[..., Any],
):
    seen: list[int] = []

    async def look() -> None:
        seen.append((await world.balance()).held)

    world = await scripted([look, whole("ok", usage=usage(3, 2))])
    await world.chat("Hi", model="acme/prime", max_tokens=1000)
    [held] = seen
    assert held >= 1000 * 130, "beta is the dearest endpoint that may be tried"
    assert held < 1000 * 130 + 1000 * 70
    row = await world.only_generation()
    assert row.cost_nanos == 3 * 7 + 2 * 13


async def test_several_choices_are_held_for(scripted: Callable[..., Any]):
    held: list[int] = []

    async def look() -> None:
        held.append((await world.balance()).held)

    world = await scripted([look, whole("ok", usage=usage(3, 2))])
    await world.chat("Hi", model="acme/prime", max_tokens=1000)
    await world.chat("Hi", model="acme/prime", max_tokens=1000, n=4)
    assert held[1] - held[0] >= 3 * 1000 * 130


async def test_images_and_long_texts_are_held_for(scripted: Callable[..., Any]):
    held: list[int] = []

    async def look() -> None:
        held.append((await world.balance()).held)

    world = await scripted([look, whole("ok", usage=usage(3, 2))])
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    for content in ("x", "x" * 3001, [{"type": "text", "text": "x"}, image]):
        await world.chat(content, model="acme/prime", max_tokens=1)
    assert held[1] - held[0] == 3000 * 70
    assert held[2] - held[0] >= 10_000 * 70


async def test_64_at_once_against_credits_for_10_are_10_served_and_54_refused(world: World):
    """A model priced per request, so that hold = cost: the cap is exact under any concurrency."""
    owner, key = await world.make_pool(10 * CREDIT // 100)
    answers = await asyncio.gather(
        *(world.chat(f"number {n}", model="demo/flat-1", key=key, stream=n % 2 == 0) for n in range(64))
    )
    statuses = [answer.status for answer in answers]
    assert (statuses.count(200), statuses.count(402)) == (10, 54)
    balance = await world.balance(owner)
    assert (balance.available, balance.held, balance.spent) == (0, 0, 100_000_000)
    assert await world.books_are_right() == 100_000_000
    assert len(await world.generations()) == 10


async def test_concurrent_requests_priced_by_token_never_spend_more_than_there_is(world: World):
    owner, key = await world.make_pool(2_000_000)
    answers = await asyncio.gather(
        *(world.chat(f"number {n}", key=key, max_tokens=1000, stream=n % 2 == 0) for n in range(40))
    )
    statuses = {answer.status for answer in answers}
    assert statuses == {200, 402}
    balance = await world.balance(owner)
    assert 0 <= balance.available < 2_000_000
    assert balance.spent == 2_000_000 - balance.available == await world.books_are_right()


async def test_a_growing_stream_without_max_tokens_extends_its_hold(scripted: Callable[..., Any]):
    held: list[int] = []

    async def look() -> None:
        held.append((await world.balance()).held)

    block = chunk("word " * 210)  # 1050 bytes: more than the first hold covers
    steps = [look, block, chunk("and"), look, block, chunk("more"), look, chunk(finish="stop")]
    world = await scripted([*steps, chunk(usage=usage(5, 430))])
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.finish_reasons == ["stop"]
    assert held[0] < held[1] < held[2]
    assert held[1] - held[0] == STREAM_TOKENS * 13, "at the price of the endpoint that answers"
    assert (await world.only_generation()).cost_nanos == 5 * 7 + 430 * 13


async def test_a_stream_whose_hold_cannot_be_extended_ends_cleanly_and_is_never_overspent(
    scripted: Callable[..., Any],
):
    catalog = Catalog([provider("alpha")], [PRIME], [endpoint(PRIME, provider("alpha"))])
    block = [chunk("word " * 210)] * 40
    world = await scripted([*block, chunk(finish="stop"), chunk(usage=usage(5, 8400))], catalog=catalog)
    owner, key = await world.make_pool(40_000)
    answer = await world.chat("Hi", model="acme/prime", stream=True, key=key)
    assert answer.status == 200
    assert answer.finish_reasons == ["length"]
    assert answer.chunks[-1]["usage"]["cost"] > 0
    assert "error" not in answer.chunks[-2]
    assert world.upstream.closed == ["alpha"], "the provider is told to stop"
    balance = await world.balance(owner)
    assert (balance.held, balance.available + balance.spent) == (0, 40_000)
    assert 0 < (await world.only_generation()).cost_nanos <= 40_000


@pytest.mark.parametrize("model", ["demo/free-1", "demo/flat-1"])
async def test_a_long_stream_of_a_model_without_a_price_per_token_needs_no_more_than_its_price(
    world: World, model: str
):
    owner, key = await world.make_pool(0 if model == "demo/free-1" else CREDIT // 100)
    answer = await world.chat("[[tokens:3000]]", model=model, stream=True, key=key)
    assert answer.status == 200
    assert answer.finish_reasons == ["stop"]
    assert answer.chunks[-1]["usage"]["completion_tokens"] == 3000
    balance = await world.balance(owner)
    assert (balance.available, balance.held) == (0, 0)
    await world.books_are_right()


async def test_a_free_model_needs_no_credits(world: World):
    _, key = await world.make_pool(0)
    for stream in (False, True):
        answer = await world.chat(model="demo/free-1", key=key, stream=stream)
        assert answer.status == 200
    assert await world.books_are_right() == 0


@pytest.mark.parametrize(
    ("reported", "cost"),
    [
        (usage(-5, 3), None),
        (usage(5, -3), None),
        (usage(10**15, 3), None),
        (usage("5", 3), None),
        (usage("", 3), None),
        (usage({}, 3), None),
        ({**usage(5, 3), "prompt_tokens": True}, None),
        (usage(1.5, 3), None),
        ([], None),
        ("much", None),
        ({"total_tokens": 8}, None),
        (usage(5, 3, prompt_tokens_details=7, completion_tokens_details=[]), 5 * 7 + 3 * 13),
        (usage(5, 3, prompt_tokens_details={"cached_tokens": -9}), 5 * 7 + 3 * 13),
        (usage(5, 3, completion_tokens_details={"reasoning_tokens": 10**18}), 5 * 7 + 3 * 13),
        (usage(0, 0), 0),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_usage_that_makes_no_sense_is_not_believed_and_what_arrived_is_charged(
    scripted: Callable[..., Any], reported: Any, cost: int | None, stream: bool
):
    steps = [chunk("three little words"), chunk(finish="stop"), chunk(usage=reported)]
    world = await scripted(steps if stream else [whole("three little words", usage=reported)])
    answer = await world.chat("Hi", model="acme/prime", stream=stream)
    assert answer.status == 200
    row = await world.only_generation()
    if cost is not None:
        assert row.cost_nanos == cost
    else:
        assert row.completion_tokens == 3
        assert 3 * 13 < row.cost_nanos < 3 * 13 + 100 * 7
    told = (answer.chunks[-1] if stream else answer.json)["usage"]
    assert round(told["cost"] * 1e9) == row.cost_nanos
    assert (await world.balance()).available + row.cost_nanos == 10 * CREDIT


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tokens", [50_000, 90_000_000])
async def test_a_usage_beyond_what_is_there_takes_at_most_what_is_there(
    scripted: Callable[..., Any], stream: bool, tokens: int
):
    lie = usage(5, tokens)
    steps = [chunk("short"), chunk(finish="stop"), chunk(usage=lie)]
    world = await scripted(steps if stream else [whole("short", usage=lie)])
    owner, key = await world.make_pool(400_000)
    answer = await world.chat("Hi", model="acme/prime", stream=stream, max_tokens=1000, key=key)
    assert answer.status == 200
    row = await world.only_generation()
    assert 0 < row.cost_nanos <= 400_000
    told = (answer.chunks[-1] if stream else answer.json)["usage"]
    assert round(told["cost"] * 1e9) == row.cost_nanos
    balance = await world.balance(owner)
    assert (balance.available, balance.spent) == (400_000 - row.cost_nanos, row.cost_nanos)


async def test_one_bad_chunk_of_usage_does_not_hide_the_good_one(scripted: Callable[..., Any]):
    steps = [chunk("Hi", usage=usage(5, 1)), chunk(finish="stop", usage=usage(5, 2)), chunk(usage=usage(-1, -1))]
    world = await scripted(steps)
    await world.chat(model="acme/prime", stream=True)
    assert (await world.only_generation()).cost_nanos == 5 * 7 + 2 * 13


async def test_a_request_is_settled_once_however_often_it_is_asked(world: World):
    answer = await world.chat()
    row = await world.generation(json.loads(answer.body)["id"])
    from bursar.gateway._apply import apply_settlement, apply_void
    from bursar.ledger import HoldState
    from bursar.storage import SYSTEM

    spent = await world.books_are_right()
    async with world.database.begin(SYSTEM) as tx:
        assert await apply_settlement(tx, row) is None
    async with world.database.begin(SYSTEM) as tx:
        assert await apply_void(tx, row, HoldState.VOID) is False
    assert await world.books_are_right() == spent
    assert len(await world.generations()) == 1


async def test_a_refusal_tells_what_can_be_held_and_not_what_workers_have_leased(database: Database, cast: Cast):
    worker = WorkerId("node_far.1")
    async with database.begin(SYSTEM) as tx:
        await ledger.register_worker(tx, worker, "node_far")
        await ledger.lease(tx, cast.owner, worker, Nanos(10 * 10**9 - 40), transfer_id="lease-1")
    intent = Intent(cast.owner, GenerationId("gen-1"), Nanos(41), "v1", None, cast.admin.id, "demo/echo-1")
    with pytest.raises(InsufficientCredits) as refusal:
        await DatabaseFunds(database).hold(intent)
    assert refusal.value.available == 40
