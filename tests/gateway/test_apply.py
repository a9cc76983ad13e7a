"""A journal's batch in the database: charges, activity, roll-ups and last use, as one, once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, select

from bursar import keys, ledger
from bursar.activity import Generation, GenerationStatus, find_generation
from bursar.activity import tables as activity_tables
from bursar.gateway._apply import apply_settlements
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, WorkerId
from bursar.kernel.money import Nanos
from bursar.keys import KeyChecker, KeyKind
from bursar.ledger import Applied, WatermarkGap, chain_after
from bursar.storage import SYSTEM, Database
from tests.conftest import Cast

pytestmark = pytest.mark.anyio

WORKER = WorkerId("node_test.1")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@dataclass
class Journal:
    """Acme's key, and a worker that leased 1,000 nanos of Acme's 10 credits, which were reduced to 1,500 nanos."""

    database: Database
    owner: OwnerId
    cast: Cast
    key: KeyId

    def generation(self, name: str, cost: int, minutes: int = 0, **more: object) -> Generation:
        return Generation(
            **{
                "owner_id": self.owner,
                "id": GenerationId(name),
                "created_at": NOON + timedelta(minutes=minutes),
                "key_id": self.key,
                "user_id": self.cast.admin.id,
                "status": GenerationStatus.OK,
                "requested_model": "demo/echo-1",
                "model": "demo/echo-1",
                "prompt_tokens": 3,
                "cost_nanos": Nanos(cost),
                **more,
            }
        )

    async def apply(self, first: int, last: int, *made: Generation) -> Applied:
        async with self.database.begin(SYSTEM) as tx:
            return await apply_settlements(tx, WORKER, first, last, made)

    async def costs(self) -> dict[str, int]:
        """By generation, with books that are right: activity = roll-ups = ledger."""
        rows, hours = activity_tables.generations, activity_tables.usage_hours
        async with self.database.snapshot(SYSTEM) as snapshot:
            costs = {row.id: row.cost_nanos for row in await snapshot.all(select(rows.c.id, rows.c.cost_nanos))}
            counted = await snapshot.all(select(hours.c.cost_nanos, hours.c.requests))
            books = await ledger.verify(snapshot)
        assert books.drift == 0
        assert sum(costs.values()) == sum(row.cost_nanos for row in counted) == books.spent
        assert len(costs) == sum(row.requests for row in counted)
        return costs

    async def last_used(self) -> datetime | None:
        async with self.database.snapshot(SYSTEM) as snapshot:
            found = await keys.find_key(snapshot, self.owner, self.key)
        assert found is not None
        return found.last_used_at


@pytest.fixture
async def journal(database: Database, cast: Cast, checker: KeyChecker) -> Journal:
    owner = cast.owner
    async with database.begin(SYSTEM) as tx:
        key, _ = await keys.create(tx, checker, owner=owner, creator=cast.admin.id, name="app", kind=KeyKind.INFERENCE)
        away = WorkerId("node_far.1")
        for worker in (WORKER, away):
            await ledger.register_worker(tx, worker, "node_test")
        await ledger.lease(tx, owner, away, Nanos(10 * 10**9 - 1_500), transfer_id="lease-away")
        await ledger.lease(tx, owner, WORKER, Nanos(1_000), transfer_id="lease-1")
    return Journal(database, owner, cast, key.id)


async def test_a_batch_is_charged_recorded_counted_and_its_key_was_used(journal: Journal):
    made = [journal.generation("gen-1", 25, 61), journal.generation("gen-2", 0, 59), journal.generation("gen-3", 5)]
    applied = await journal.apply(1, 7, *made)
    assert applied.charged == {"gen-1": 25, "gen-2": 0, "gen-3": 5}
    assert await journal.costs() == {"gen-1": 25, "gen-2": 0, "gen-3": 5}
    assert await journal.last_used() == NOON + timedelta(minutes=61)
    async with journal.database.snapshot(SYSTEM) as snapshot:
        assert await find_generation(snapshot, journal.owner, made[0].id) == made[0]


async def test_once_other_workers_may_wait_only_what_they_share_is_left_to_write(journal: Journal):
    """Accounts are what two workers' batches want at once; how long they are locked is what follows in the transaction."""
    touched: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        touched.extend(re.findall(r"(?:FROM|INTO|UPDATE) (\w+)", statement)[:1])

    engine = journal.database._writer.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        await journal.apply(1, 7, journal.generation("gen-1", 25), journal.generation("gen-2", 5))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    last = len(touched) - touched[::-1].index("accounts")
    assert touched[last:] == ["leases", "limits", "usage_hours", "keys"]
    assert "batches" in touched[:last]


async def test_repeating_a_batch_changes_nothing_not_even_what_was_deleted_since(journal: Journal):
    made = [journal.generation("gen-1", 25), journal.generation("gen-2", 5)]
    await journal.apply(1, 7, *made)
    assert (await journal.apply(1, 7, *made)).charged == {}
    assert await journal.costs() == {"gen-1": 25, "gen-2": 5}
    async with journal.database.begin(SYSTEM) as tx:
        await tx.execute(activity_tables.generations.delete())
    await journal.apply(1, 7, *made)
    async with journal.database.snapshot(SYSTEM) as snapshot:
        assert await find_generation(snapshot, journal.owner, made[0].id) is None


async def test_a_gap_leaves_nothing_of_the_batch(journal: Journal):
    with pytest.raises(WatermarkGap):
        await journal.apply(2, 7, journal.generation("gen-1", 25))
    assert await journal.costs() == {}
    assert await journal.last_used() is None


@pytest.mark.parametrize("first_cost", [0, 25])
@pytest.mark.parametrize("apart", [False, True])
async def test_a_generation_that_was_settled_is_not_charged_again_at_another_price(
    journal: Journal, first_cost: int, apart: bool
):
    first, second = journal.generation("gen-1", first_cost), journal.generation("gen-1", 75, 5)
    batches: Sequence[Sequence[Generation]] = [[first], [second]] if apart else [[first, second]]
    for lsn, made in enumerate(batches, start=1):
        await journal.apply(lsn, lsn, *made)
    assert await journal.costs() == {"gen-1": first_cost}
    assert await journal.last_used() == NOON


async def test_what_nobody_can_pay_is_not_in_the_activity_either(journal: Journal):
    applied = await journal.apply(
        1, 3, journal.generation("gen-1", 900), journal.generation("gen-2", 900), journal.generation("gen-3", 7)
    )
    assert applied.shortfall == {"gen-2": 300, "gen-3": 7}
    assert await journal.costs() == {"gen-1": 900, "gen-2": 600, "gen-3": 0}


async def test_the_chain_holds_what_was_charged_and_lost_whatever_else_is_in_the_rows(journal: Journal):
    made = [journal.generation("gen-1", 25), journal.generation("gen-2", 5_000)]
    await journal.apply(1, 7, *made)
    content = f"{made[0].owner_id} gen-1 25 0\n{made[0].owner_id} gen-2 1475 3525\n"
    async with journal.database.snapshot(SYSTEM) as snapshot:
        worker = await ledger.find_worker(snapshot, WORKER)
    assert worker is not None
    assert worker.chain == chain_after(ledger.CHAIN_START, WORKER, 1, 7, content)


async def test_a_key_used_later_elsewhere_keeps_its_later_time(journal: Journal):
    async with journal.database.begin(SYSTEM) as tx:
        await keys.touch(tx, journal.owner, journal.key, NOON + timedelta(hours=3))
    await journal.apply(1, 2, journal.generation("gen-1", 25), journal.generation("gen-2", 1, key_id=None))
    assert await journal.last_used() == NOON + timedelta(hours=3)
