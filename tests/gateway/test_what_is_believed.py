"""What a provider reports is believed as far as it can be true, and nothing that costs money goes past the hold unseen."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from bursar import ledger
from bursar.activity import UsageSource
from bursar.catalog import Catalog
from bursar.kernel.money import Attos, Nanos
from bursar.storage import Scope
from tests.gateway.world import NANO, PRIME, chunk, endpoint, provider, usage, whole

pytestmark = pytest.mark.anyio

ALONE = Catalog([provider("alpha")], [PRIME], [endpoint(PRIME, provider("alpha"))])


async def test_no_more_output_is_charged_than_the_client_allowed(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi", usage=usage(10, 5_000_000))], catalog=ALONE)
    answer = await world.chat(model="acme/prime", max_tokens=1)
    assert answer.status == 200
    assert (await world.only_generation()).cost_nanos == 10 * 7 + 1 * 13


async def test_no_more_input_is_charged_than_the_context_holds(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi", usage=usage(90_000_000, 1))], catalog=ALONE)
    await world.chat(model="acme/prime", max_tokens=1)
    assert (await world.only_generation()).prompt_tokens == PRIME.context_length


async def test_a_cost_above_the_hold_takes_what_is_left_and_no_more(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi", usage=usage(30_000, 4_096))], catalog=ALONE)
    owner, key = await world.make_pool(100_000)  # 30,000 * 7 + 4,096 * 13 would be 263,248
    answer = await world.chat("Hi", model="acme/prime", key=key, max_tokens=4_096)
    assert answer.status == 200
    assert (await world.balance(owner)).available == 0
    assert await world.books_are_right() == 100_000


async def test_usage_reported_before_the_end_does_not_make_the_rest_free(scripted: Callable[..., Any]):
    leave = asyncio.Event()

    async def go() -> None:
        leave.set()
        await asyncio.sleep(60)

    world = await scripted([chunk("a", usage=usage(10, 0)), chunk(" word" * 500), go], catalog=ALONE)
    body = b'{"model":"acme/prime","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
    await world.post(body, leave=leave)
    row = await world.only_generation()
    assert row.completion_tokens == 501
    assert row.usage_source is UsageSource.COUNTED


async def test_a_thought_under_two_names_is_counted_once(scripted: Callable[..., Any]):
    thought = {"delta": {"reasoning": "one two", "reasoning_content": "one two"}, "index": 0, "finish_reason": None}
    world = await scripted([chunk(choices=[thought]), chunk(" three"), chunk(finish="stop")], catalog=ALONE)
    await world.chat(model="acme/prime", stream=True)
    assert (await world.only_generation()).completion_tokens == 3


async def test_an_image_with_a_price_is_charged(scripted: Callable[..., Any]):
    offer = endpoint(PRIME, provider("alpha"))
    assert offer.pricing is not None
    from dataclasses import replace

    priced = replace(offer, pricing=replace(offer.pricing, image=Attos(1_000_000 * NANO)))
    world = await scripted(
        [whole("A cat", usage=usage(10, 2))], catalog=Catalog([provider("alpha")], [PRIME], [priced])
    )
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    await world.chat([image, image], model="acme/prime", max_tokens=10)
    assert (await world.only_generation()).cost_nanos == 10 * 7 + 2 * 13 + 2 * 1_000_000


async def test_one_huge_chunk_is_paid_for_before_it_is_handed_on(scripted: Callable[..., Any]):
    world = await scripted([chunk("x"), chunk("word " * 50_000), chunk(finish="stop")], catalog=ALONE)
    _, key = await world.make_pool(40_000)
    body = b'{"model":"acme/prime","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
    answer = await world.post(body, key=key)
    assert answer.text == "x"
    assert answer.finish_reasons == ["length"]
    await world.books_are_right()


async def test_an_empty_finish_reason_is_no_end(scripted: Callable[..., Any]):
    waited = asyncio.Event()
    steps = [chunk("one", finish=""), chunk(" two", finish=""), waited.wait, chunk(finish="stop", usage=usage(1, 2))]
    world = await scripted(steps, catalog=ALONE)

    async def on_send(_answer: Any, message: dict[str, Any]) -> None:
        if b" two" in message.get("body", b""):
            waited.set()  # it arrived before the end: without that, this test waits until it gives up

    body = b'{"model":"acme/prime","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
    answer = await world.post(body, on_send=on_send)
    assert answer.text == "one two"


async def test_of_two_limits_one_goes_to_the_provider_the_one_that_is_held_for(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi", usage=usage(1, 1))], catalog=ALONE)
    await world.chat(model="acme/prime", max_completion_tokens=1, max_tokens=4_000, service_tier="priority")
    sent = world.upstream.calls[0].body
    assert sent["max_completion_tokens"] == 1
    assert "max_tokens" not in sent
    assert "service_tier" not in sent


@pytest.mark.parametrize("field", [{"web_search_options": {}}, {"modalities": ["text", "audio"]}, {"best_of": 3}])
async def test_what_would_cost_without_a_price_is_refused(scripted: Callable[..., Any], field: dict[str, Any]):
    world = await scripted([whole("Hi")], catalog=ALONE)
    answer = await world.chat(model="acme/prime", **field)
    assert answer.status == (404 if "modalities" in field else 400)
    assert next(iter(field)) in answer.body.decode()
    assert world.upstream.calls == []


class ReadOnlyError(Exception):
    sqlstate = "25006"


class NonsenseError(Exception):
    sqlstate = "22001"


@pytest.mark.parametrize("original", [ReadOnlyError(), NonsenseError()])
async def test_a_settlement_that_the_database_refuses_is_tried_until_it_is_written(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, original: Exception
):
    """Read-only for a while, as in a failover; or the row itself refused, so that it is written with less in it."""
    real, refusals = ledger.settle_hold, [original, original]

    async def refusing(*arguments: Any) -> Nanos | None:
        if refusals:
            raise DBAPIError("UPDATE holds …", {}, refusals.pop())
        return await real(*arguments)

    monkeypatch.setattr(ledger, "settle_hold", refusing)
    world = await scripted([whole("Hi", usage=usage(10, 2))], catalog=ALONE)
    answer = await world.chat(model="acme/prime", max_tokens=10)
    assert answer.status == 200
    assert refusals == []
    assert (await world.only_generation()).cost_nanos == 10 * 7 + 2 * 13


async def test_a_repeated_settlement_answers_what_the_first_one_charged(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi", usage=usage(10, 2))], catalog=ALONE)
    await world.chat(model="acme/prime", max_tokens=10)
    row = await world.only_generation()
    from bursar.gateway import DatabaseFunds, Hold

    again = Hold(row.owner_id, row.id, Nanos(10**6), row.created_at)
    assert await DatabaseFunds(world.database).settle(again, row) == row.cost_nanos
    async with world.database.snapshot(Scope(row.owner_id)) as snapshot:
        assert (await ledger.balance(snapshot, row.owner_id)).spent == row.cost_nanos
