"""A receipt explains a charge to the nano, from the prices that were pinned, whatever the catalogue says today."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from bursar import catalog, reports
from bursar.activity import Generation, GenerationStatus, UsageSource
from bursar.catalog import Pricing, Usage, charge
from bursar.kernel.ids import GenerationId, OwnerId
from bursar.kernel.money import ATTOS_PER_NANO, Attos, Nanos, parse_price
from bursar.reports import Receipt
from bursar.storage import SYSTEM
from tests.catalog.test_pricing import pricings, usages
from tests.reports.conftest import NOW, History

pytestmark = pytest.mark.anyio

PRICES = Pricing(parse_price("0.0000000375"), parse_price("0.00000015"), input_cache_read=parse_price("0.00000001"))


async def receipt_of(history: History, generation: GenerationId, owner: OwnerId | None = None) -> Receipt | None:
    asked = owner or history.owner
    found: Receipt | None = await history.see(lambda snapshot: reports.receipt(snapshot, asked, generation), asked)
    return found


async def served(history: History, pricing: Pricing | None, **other: Any) -> Receipt:
    if pricing is not None:
        async with history.database.begin(SYSTEM) as tx:
            await catalog.store_prices(tx, [pricing])
        other["price_version"] = pricing.version
    cost = other.pop("cost", charge(PRICES, Usage(101, 33, 50)))
    counts = {"prompt_tokens": 101, "completion_tokens": 33, "cached_tokens": 50, "usage_source": UsageSource.REPORTED}
    generation = await history.serve(NOW, cost, **{**counts, **other})
    found = await receipt_of(history, generation.id)
    assert found is not None
    return found


async def test_a_receipt_is_tokens_by_class_times_price_and_rounded_up_once(history: History):
    receipt = await served(history, PRICES)
    assert receipt.lines is not None
    assert [(line.kind, line.count) for line in receipt.lines] == [
        ("prompt", 51),
        ("completion", 33),
        ("input_cache_read", 50),
    ]
    assert receipt.subtotal_attos == 51 * 37_500_000_000 + 33 * 150_000_000_000 + 50 * 10_000_000_000
    assert receipt.rounding_attos == 500_000_000
    assert (receipt.subtotal_attos + receipt.rounding_attos) // ATTOS_PER_NANO == receipt.charged == 7_363
    assert receipt.not_charged == 0
    assert receipt.saved_by_caching == 1_375
    assert receipt.source is UsageSource.REPORTED


async def test_a_receipt_stays_right_when_the_catalogue_changed(history: History):
    before = await served(history, PRICES)
    dearer = replace(PRICES, prompt=Attos(10**15))
    async with history.database.begin(SYSTEM) as tx:
        await catalog.store_prices(tx, [dearer, PRICES, dearer])
    after = await receipt_of(history, before.generation.id)
    assert after == before


async def test_what_writing_to_a_cache_cost_is_told_before_anything_was_read_from_it(history: History):
    dear = replace(PRICES, input_cache_write=parse_price("0.0000001375"))
    receipt = await served(history, dear, cost=9_000, cached_tokens=0, cache_write_tokens=20)
    assert receipt.saved_by_caching == -2_000


async def test_what_was_used_beyond_the_hold_is_shown_and_not_charged(history: History):
    receipt = await served(history, PRICES, cost=7_000)
    assert (receipt.charged, receipt.not_charged) == (7_000, 363)


async def test_a_request_that_cost_nothing_needs_no_prices(history: History):
    receipt = await served(history, None, cost=0, status=GenerationStatus.FAILED, usage_source=UsageSource.NONE)
    assert (receipt.lines, receipt.charged, receipt.saved_by_caching) == ((), 0, None)


async def test_a_charge_from_before_prices_were_kept_is_not_explained(history: History):
    for version in (None, "price-0123456789abcdef"):
        receipt = await served(history, None, price_version=version)
        assert (receipt.lines, receipt.charged) == (None, 7_363)


async def test_a_charge_that_its_row_does_not_account_for_is_not_explained(history: History):
    receipt = await served(history, PRICES, cost=8_000)
    assert (receipt.lines, receipt.charged, receipt.not_charged) == (None, 8_000, 0)


async def test_nobody_sees_the_receipt_of_another_owner(history: History):
    receipt = await served(history, PRICES)
    stranger = OwnerId(history.cast.stranger.id)
    assert await receipt_of(history, receipt.generation.id, stranger) is None


async def test_stored_prices_are_never_changed(history: History):
    await served(history, PRICES)
    for change in ("UPDATE price_versions SET prices = '{}'", "DELETE FROM price_versions"):
        with pytest.raises(Exception, match=r"prices are never changed|permission denied"):
            async with history.database.begin(SYSTEM) as tx:
                await tx.execute(text(change))
    async with history.database.snapshot(SYSTEM) as snapshot:
        assert await catalog.find_prices(snapshot, PRICES.version) == PRICES_IN_FULL


PRICES_IN_FULL = replace(
    PRICES,
    **{kind: PRICES.price_of(kind) for kind in catalog.CHARGE_CLASSES},
)


@given(pricings, usages, st.integers(0, 10**6))
def test_every_receipt_adds_up_to_exactly_what_was_charged(pricing: Pricing, usage: Usage, missing: int):
    cost = charge(pricing, usage)
    charged = Nanos(max(0, cost - missing))
    generation = Generation(
        OwnerId("user_1"), GenerationId("gen-1"), NOW, None, "user_1", GenerationStatus.OK, "m", "m", cost_nanos=charged
    )  # type: ignore[arg-type]
    receipt = Receipt(generation, catalog.explain(pricing, usage))
    assert 0 <= receipt.rounding_attos < ATTOS_PER_NANO
    total = receipt.subtotal_attos + receipt.rounding_attos - receipt.not_charged * ATTOS_PER_NANO
    assert total == charged * ATTOS_PER_NANO
