"""Money through leases and the journal: never more than there is, exactly once, whatever dies in between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest

from bursar import actions, ledger
from bursar.access import Actor
from bursar.activity import GenerationStatus, UsageSource
from bursar.catalog import Catalog
from bursar.gateway import ConcurrencyLimits, JournalFunds, Leases, LeaseSizes, _journaled
from bursar.gateway._journaled import BATCH_SECONDS_MAX
from bursar.journal import Journal
from bursar.kernel.clock import FixedClock
from bursar.kernel.errors import Unavailable
from bursar.kernel.ids import WorkerId
from bursar.kernel.money import Nanos
from bursar.storage import SYSTEM, Database, Scope, Tx
from tests.gateway.world import PRIME, World, chunk, endpoint, provider, usage, whole

pytestmark = pytest.mark.anyio

BODY = b'{"model":"acme/prime","max_tokens":100,"messages":[{"role":"user","content":"Hi"}]}'
STREAM = BODY[:-1] + b',"stream":true}'
ANSWER = whole("Hi", usage=usage(5, 2))
COST = 5 * 7 + 2 * 13
ALONE = Catalog([provider("alpha")], [PRIME], [endpoint(PRIME, provider("alpha"))])


class Worker:
    """One serving process, as far as money goes. `die` is what kill -9 leaves: nothing in memory, the disk as it is."""

    alive: ClassVar[list["Worker"]] = []

    def __init__(self, world: World, folder: Path, name: str = "w1", *, alone: bool = True, **sizes: Any) -> None:
        self.world = world
        database = world.database
        self.journal = Journal.open(folder / name, name)
        self.leases = Leases(database, WorkerId(name), database.clock, sizes=LeaseSizes(**sizes), alone=alone)
        self.funds = JournalFunds(database, self.journal, self.leases, WorkerId(name), database.clock)

    async def start(self) -> int:
        interrupted = await self.funds.recover()
        self.funds.start()
        self.world.gateway._funds = self.funds
        self.alive.append(self)
        return interrupted

    async def stop(self) -> None:
        self.alive.remove(self)
        await self.funds.close()

    async def die(self) -> None:
        self.alive.remove(self)
        for loop in self.funds._loops:
            loop.cancel()
        await asyncio.gather(*self.funds._loops, return_exceptions=True)
        self.journal._is_closed = True
        await self.journal._syncer.stop()
        self.journal._segments.close()


@pytest.fixture(autouse=True)
async def nobody_outlives_the_database(database: Database):
    yield
    while Worker.alive:
        await Worker.alive[-1].die()


@pytest.fixture
def working(scripted: Callable[..., Any], tmp_path: Path):
    async def make(steps: Any, **more: Any) -> tuple[World, Worker]:
        world = await scripted(steps, catalog=ALONE, **more)
        worker = Worker(world, tmp_path)
        await worker.start()
        return world, worker

    return make


async def leased(world: World) -> int:
    async with world.database.snapshot(SYSTEM) as snapshot:
        return sum(each.amount for each in await ledger.list_leases(snapshot))


def counted_begins(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many transactions were begun from now on."""
    seen = Mock(side_effect=world.database.begin)
    monkeypatch.setattr(world.database, "begin", seen)
    return lambda: seen.call_count


async def test_a_request_is_charged_from_a_lease_and_can_be_read_a_moment_later(working: Any):
    world, worker = await working([ANSWER])
    answer = await world.post(BODY)
    assert answer.status == 200
    await worker.funds.caught_up()
    row = await world.only_generation()
    assert (row.status, row.cost_nanos) == (GenerationStatus.OK, COST)
    assert await world.books_are_right() == COST
    assert await leased(world) > 0
    await worker.stop()
    assert await leased(world) == 0
    assert await world.books_are_right() == COST


async def test_a_stream_of_many_requests_touches_the_database_less_than_once_each(working: Any, monkeypatch: Any):
    world, worker = await working([ANSWER])
    begun = counted_begins(world, monkeypatch)
    for _ in range(10):
        await asyncio.gather(*(world.post(BODY) for _ in range(20)))
    await worker.funds.caught_up()
    assert begun() < 60
    assert await world.books_are_right() == 200 * COST


async def test_a_batch_waits_neither_for_a_reader_nor_when_it_is_full(working: Any, monkeypatch: pytest.MonkeyPatch):
    world, worker = await working([ANSWER])
    monkeypatch.setattr("bursar.gateway._journaled.BATCH_SECONDS", 60)
    await world.post(BODY)
    await worker.funds.caught_up()  # the first begins at once; from here on a minute would have to pass
    await world.post(BODY)
    assert worker.funds.state().lag == 1, "nobody waits for it"
    await worker.funds.caught_up()
    assert worker.funds.state().lag == 0
    monkeypatch.setattr("bursar.gateway._journaled.BATCH_RECORDS_MAX", 3)
    for _ in range(3):
        assert worker.funds.state().lag < 3
        await world.post(BODY)
    async with asyncio.timeout(10):
        while worker.funds.state().lag:
            await asyncio.sleep(0.01)
    assert await world.books_are_right() == 5 * COST


async def test_a_worker_knows_its_place_from_its_start(scripted: Callable[..., Any], tmp_path: Path):
    world = await scripted([ANSWER], catalog=ALONE)
    for name, place in (("w1", (0, 1)), ("w2", (1, 2))):
        worker = Worker(world, tmp_path, name)
        await worker.start()
        assert worker.funds._place == place


async def test_workers_begin_their_batches_in_turn_by_the_clock(working: Any, monkeypatch: pytest.MonkeyPatch):
    world, worker = await working([ANSWER])
    for other in ("w0", "w2", "w3"):
        async with world.database.begin(SYSTEM) as tx:
            await ledger.register_worker(tx, WorkerId(other), "node_far")
    await worker.funds.tend()
    clock = FixedClock(datetime(2026, 11, 29, tzinfo=UTC))
    monkeypatch.setattr(worker.funds, "_clock", clock)
    waits: asyncio.Queue[float] = asyncio.Queue()

    async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
        waits.put_nowait(seconds)
        await event.wait()

    monkeypatch.setattr(_journaled, "wait_at_most", wait_at_most)
    for _ in range(12):
        clock.advance(timedelta(milliseconds=97))
        await world.post(BODY)
        await worker.funds.caught_up()
        wait = await waits.get()
        assert BATCH_SECONDS_MAX / 2 < wait < BATCH_SECONDS_MAX * 1.5
        part = (clock.now().timestamp() + wait) % BATCH_SECONDS_MAX
        assert part == pytest.approx(BATCH_SECONDS_MAX / 4, abs=1e-6), "the second of four"


async def test_who_says_that_the_worker_lives_waits_for_its_batch_without_a_connection(
    working: Any, monkeypatch: pytest.MonkeyPatch
):
    """Both change the worker's row: in the database one would wait for the other's lock."""
    world, worker = await working([ANSWER])
    begun, goes_on = asyncio.Event(), asyncio.Event()
    apply = _journaled.apply_settlements

    async def slowly(*arguments: Any) -> Any:
        applied = await apply(*arguments)
        begun.set()
        await goes_on.wait()
        return applied

    monkeypatch.setattr(_journaled, "apply_settlements", slowly)
    await world.post(BODY)
    await begun.wait()
    opened = counted_begins(world, monkeypatch)
    tending = asyncio.ensure_future(worker.funds.tend())
    await asyncio.sleep(0.1)
    assert opened() == 0
    goes_on.set()
    await tending
    assert opened() == 1
    await worker.funds.caught_up()
    assert await world.books_are_right() == COST


async def test_a_stop_waits_until_everything_is_applied_as_long_as_the_database_takes_it(
    working: Any, monkeypatch: pytest.MonkeyPatch
):
    world, worker = await working([ANSWER])
    monkeypatch.setattr("bursar.gateway._journaled.BATCH_RECORDS_MAX", 1)
    apply = worker.funds._apply_once

    async def slowly() -> None:
        await asyncio.sleep(0.1)
        await apply()

    worker.funds._apply_once = slowly
    for _ in range(20):
        assert (await world.post(BODY)).status == 200
    assert worker.funds.state().lag > 10
    await worker.stop()
    assert await leased(world) == 0
    assert await world.books_are_right() == 20 * COST


async def test_three_hundred_at_once_against_credits_for_a_hundred_spend_them_to_the_last_request_that_fits(
    working: Any,
):
    world, worker = await working([whole("Hi", usage=usage(70, 100))])
    world.gateway.places.limits = ConcurrencyLimits(per_key=1_000)
    cost = 70 * 7 + 100 * 13
    pool = 100 * cost
    owner, key = await world.make_pool(pool)
    answers = await asyncio.gather(*(world.post(BODY, key=key) for _ in range(300)))
    served = sum(answer.status == 200 for answer in answers)
    assert {answer.status for answer in answers} == {200, 402}
    while (await world.post(BODY, key=key)).status == 200:  # what was held and not charged is free again
        served += 1
    await worker.funds.caught_up()
    balance = await world.balance(owner)
    assert balance.spent == served * cost
    assert balance.available == pool - balance.spent >= 0
    assert balance.spent >= pool * 98 // 100
    await world.books_are_right()


async def test_credits_bought_while_a_lease_is_empty_can_be_spent_at_once(working: Any):
    world, worker = await working([ANSWER])
    owner, key = await world.make_pool(100)
    assert (await world.post(BODY, key=key)).status == 402
    await actions.grant_credits(world.database, Actor.operator(), owner=owner, amount=Nanos(10**9), reason="for a test")
    assert (await world.post(BODY, key=key)).status == 200
    await worker.funds.caught_up()
    assert (await world.balance(owner)).spent == COST


async def test_another_worker_returns_what_it_does_not_use_before_anybody_is_refused(
    scripted: Callable[..., Any], tmp_path: Path
):
    world = await scripted([ANSWER], catalog=ALONE)
    first = Worker(world, tmp_path, "w1", alone=False, share=1)
    second = Worker(world, tmp_path, "w2", alone=False, recall_seconds=5.0)
    await first.start()
    owner, key = await world.make_pool(10_000)
    assert (await world.post(BODY, key=key)).status == 200
    async with world.database.snapshot(SYSTEM) as snapshot:
        assert (await ledger.balance(snapshot, owner)).unleased == 0
    await second.start()
    assert (await world.post(BODY, key=key)).status == 200
    for worker in (first, second):
        await worker.funds.caught_up()
    assert (await world.balance(owner)).spent == 2 * COST
    await world.books_are_right()
    for worker in (first, second):
        await worker.stop()
    assert await leased(world) == 0


async def test_a_lease_that_nobody_used_for_a_while_goes_back(scripted: Callable[..., Any], tmp_path: Path):
    world = await scripted([ANSWER], catalog=ALONE)
    worker = Worker(world, tmp_path, idle_seconds=0)
    await worker.start()
    assert (await world.post(BODY)).status == 200
    await worker.funds.caught_up()
    assert await leased(world) > 0
    await asyncio.sleep(0.01)
    await worker.funds.tend()
    assert await leased(world) == 0
    assert worker.leases.owners == 0
    assert (await world.post(BODY)).status == 200
    await worker.stop()
    assert await world.books_are_right() == 2 * COST


async def test_a_worker_that_was_forgotten_though_it_lives_admits_nothing_until_what_runs_has_ended_and_then_begins_anew(
    scripted: Callable[..., Any], tmp_path: Path
):
    arrived, goes_on = asyncio.Event(), asyncio.Event()

    async def silence() -> None:
        arrived.set()
        await goes_on.wait()

    world = await scripted(
        [chunk("Hi"), silence, chunk(" there", finish="stop"), chunk(usage=usage(5, 2))], catalog=ALONE
    )
    worker = Worker(world, tmp_path)
    await worker.start()
    streaming = asyncio.ensure_future(world.post(STREAM))
    await arrived.wait()
    world.upstream.scripts = {"alpha": [ANSWER]}
    async with world.database.begin(SYSTEM) as tx:
        await ledger.forget_worker(tx, WorkerId("w1"), alive_within=timedelta(0), even_if_alive=True)
    for _ in range(2):
        await worker.funds.tend()
        refused = await world.post(BODY)
        assert refused.status == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert (worker.funds.is_forgotten, await leased(world)) == (True, 0)
    goes_on.set()
    assert (await streaming).status == 200
    await worker.funds.caught_up()
    await worker.funds.tend()
    assert not worker.funds.is_forgotten
    assert (await world.post(BODY)).status == 200
    await worker.stop()
    assert await leased(world) == 0
    assert await world.books_are_right() >= COST


async def test_a_worker_that_was_blind_and_applies_again_spends_nothing_before_it_knows_that_it_was_not_forgotten(
    working: Any,
):
    world, worker = await working([ANSWER])
    assert (await world.post(BODY)).status == 200
    await worker.funds.caught_up()
    worker.leases.heard_at -= 1_000
    worker.leases.answered()
    assert (await world.post(BODY)).status == 503
    await worker.funds.tend()
    assert (await world.post(BODY)).status == 200


async def test_a_worker_that_was_forgotten_and_asks_for_more_before_it_is_told_is_503_too(
    scripted: Callable[..., Any], tmp_path: Path
):
    world = await scripted([ANSWER], catalog=ALONE)
    worker = Worker(world, tmp_path)
    await worker.start()
    async with world.database.begin(SYSTEM) as tx:
        await ledger.forget_worker(tx, WorkerId("w1"), alive_within=timedelta(0), even_if_alive=True)
    for _ in range(2):
        assert (await world.post(BODY)).status == 503
    assert await world.books_are_right() == 0


async def test_tending_goes_on_whatever_fails_once(working: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bursar.gateway._funds.TEND_SECONDS", 0.01)
    world, worker = await working([ANSWER])
    real, failures = ledger.touch_worker, [RuntimeError("nobody foresaw this"), Unavailable("away")]

    async def touch(*arguments: Any) -> bool:
        if failures:
            raise failures.pop()
        return await real(*arguments)

    monkeypatch.setattr(ledger, "touch_worker", touch)
    before = worker.leases.heard_at
    async with asyncio.timeout(10):
        while failures or worker.leases.heard_at == before:
            await asyncio.sleep(0.01)
    assert (await world.post(BODY)).status == 200


async def test_without_a_word_from_the_database_a_lease_is_served_for_the_blind_time_and_then_not(
    scripted: Callable[..., Any], tmp_path: Path
):
    world = await scripted([ANSWER], catalog=ALONE)
    worker = Worker(world, tmp_path, blind_seconds=1_000)
    await worker.start()
    assert (await world.post(BODY)).status == 200
    await worker.funds.caught_up()
    real = world.database.begin

    def away(_scope: Any) -> Any:
        raise Unavailable("The database cannot be reached.", retry_after_seconds=5)

    world.database.begin = away
    try:
        assert (await world.post(BODY)).status == 200
        worker.leases.heard_at -= 2_000
        assert (await world.post(BODY)).status == 503
    finally:
        world.database.begin = real
    await worker.funds.tend()
    assert (await world.post(BODY)).status == 200
    await worker.funds.caught_up()
    assert await world.books_are_right() == 3 * COST


async def test_killed_after_the_settlement_was_recorded_everybody_is_charged_once(working: Any, tmp_path: Path):
    world, worker = await working([ANSWER])

    async def never(*_arguments: Any) -> None:
        await asyncio.Event().wait()

    worker.funds._apply_once = never  # type: ignore[method-assign]
    answers = await asyncio.gather(*(world.post(BODY) for _ in range(30)))
    assert all(answer.status == 200 for answer in answers)
    assert await world.generations() == []
    await worker.die()
    for _ in range(2):  # a second start finds nothing more to do
        again = Worker(world, tmp_path)
        assert await again.start() == 0
        assert len(await world.generations()) == 30
        assert await world.books_are_right() == 30 * COST
        assert await leased(world) == 0
        await again.die()


async def test_killed_when_the_outcome_of_a_batch_is_unknown_nothing_is_charged_twice(working: Any, tmp_path: Path):
    world, worker = await working([ANSWER])
    real = worker.funds._apply_once

    async def committed_but_not_told() -> None:
        watermark, owed = worker.funds._watermark, list(worker.funds._owed)
        await real()
        worker.funds._watermark = watermark
        worker.funds._owed.clear()
        worker.funds._owed.extend(owed)
        await asyncio.Event().wait()

    worker.funds._apply_once = committed_but_not_told  # type: ignore[method-assign]
    await asyncio.gather(*(world.post(BODY) for _ in range(5)))
    while not await world.generations():
        await asyncio.sleep(0.01)
    await worker.die()
    again = Worker(world, tmp_path)
    await again.start()
    assert len(await world.generations()) == 5
    assert await world.books_are_right() == 5 * COST


async def test_a_batch_that_the_database_answered_with_an_error_is_applied_again(working: Any):
    world, worker = await working([ANSWER])
    real, failures = worker.funds._apply_once, 2

    async def flaky() -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise RuntimeError("the database refused the row")
        await real()

    worker.funds._apply_once = flaky  # type: ignore[method-assign]
    assert (await world.post(BODY)).status == 200
    await worker.funds.caught_up()
    assert (await world.only_generation()).cost_nanos == COST
    assert await world.books_are_right() == COST


async def test_a_batch_whose_answer_was_lost_is_repeated_as_it_was_although_more_was_settled_since(
    working: Any, monkeypatch: pytest.MonkeyPatch
):
    world, worker = await working([ANSWER])
    real, lost = world.database.begin, asyncio.Event()

    @asynccontextmanager
    async def begin(scope: Scope) -> AsyncIterator[Tx]:
        async with real(scope) as tx:
            yield tx
        if scope == SYSTEM and not lost.is_set():
            lost.set()
            raise Unavailable("The connection was cut after the commit.")

    monkeypatch.setattr(world.database, "begin", begin)
    assert (await world.post(BODY)).status == 200
    await lost.wait()
    assert (await world.post(BODY)).status == 200
    await worker.funds.caught_up()
    assert len(await world.generations()) == 2
    assert await world.books_are_right() == 2 * COST


async def test_a_batch_whose_outcome_is_unknown_is_repeated_whole_though_batches_are_shorter_by_then(
    working: Any, monkeypatch: pytest.MonkeyPatch
):
    """The worker is alone by then. In parts, the last would reach behind what was applied, and never follow the watermark."""
    monkeypatch.setattr("bursar.gateway._journaled.BATCH_RECORDS_MAX", 2)
    monkeypatch.setattr("bursar.gateway._journaled.BATCH_RECORDS_IN_TURN_MAX", 5)
    world, worker = await working([ANSWER])
    worker.funds._place = ledger.Place(0, 2)
    real, lost = world.database.begin, asyncio.Event()

    @asynccontextmanager
    async def begin(scope: Scope) -> AsyncIterator[Tx]:
        async with real(scope) as tx:
            yield tx
        if scope == SYSTEM and len(worker.funds._owed) >= 5 and not lost.is_set():
            worker.funds._place = ledger.Place(0, 1)
            lost.set()
            raise Unavailable("The connection was cut after the commit.")

    monkeypatch.setattr("bursar.gateway._journaled.BATCH_SECONDS", 60)
    monkeypatch.setattr("bursar.gateway._journaled.BATCH_SECONDS_MAX", 60)
    assert (await world.post(BODY)).status == 200
    await worker.funds.caught_up()
    monkeypatch.setattr(world.database, "begin", begin)
    await asyncio.gather(*(world.post(BODY) for _ in range(6)))
    await lost.wait()
    await asyncio.gather(*(world.post(BODY) for _ in range(6)))
    await worker.funds.caught_up()
    assert worker.funds.state().lag == 0
    assert len(await world.generations()) == 13
    assert await world.books_are_right() == 13 * COST


async def test_of_a_batch_of_unknown_outcome_that_is_refused_every_row_has_less_in_it(
    working: Any, monkeypatch: pytest.MonkeyPatch
):
    """Also those behind the length that batches have by then: one left as it was would be refused for ever."""
    monkeypatch.setattr("bursar.gateway._journaled.BATCH_RECORDS_MAX", 2)
    monkeypatch.setattr("bursar.gateway._journaled.BATCH_SECONDS", 60)
    world, worker = await working([ANSWER])
    worker.funds._place = ledger.Place(0, 2)
    apply, asked = _journaled.apply_settlements, []

    async def refused(*arguments: Any) -> Any:
        rows = arguments[4]
        if len(rows) < 5 and not asked:
            return await apply(*arguments)
        asked.append(rows)
        worker.funds._place = ledger.Place(0, 1)
        if len(asked) == 1:
            raise Unavailable("The connection was cut.")
        if any(row.model != "unknown" for row in rows):
            raise RuntimeError("the database refused a row")
        return await apply(*arguments)

    monkeypatch.setattr(_journaled, "apply_settlements", refused)
    await world.post(BODY)
    await worker.funds.caught_up()
    await asyncio.gather(*(world.post(BODY) for _ in range(6)))
    await worker.funds.caught_up()
    async with asyncio.timeout(20):
        while worker.funds.state().lag:
            await asyncio.sleep(0.05)
    assert await world.books_are_right() == 7 * COST


async def test_killed_before_any_output_costs_nothing_and_leaves_a_trace(working: Any, tmp_path: Path):
    waiting = asyncio.Event()

    async def silence() -> None:
        waiting.set()
        await asyncio.Event().wait()

    world, worker = await working([silence])
    task = asyncio.ensure_future(world.post(STREAM))
    await waiting.wait()
    await worker.die()
    again = Worker(world, tmp_path)
    assert await again.start() == 1
    row = await world.only_generation()
    assert (row.status, row.cost_nanos) == (GenerationStatus.INTERRUPTED, 0)
    assert await world.books_are_right() == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_killed_in_the_middle_of_a_stream_costs_what_was_recorded_of_it(working: Any, tmp_path: Path):
    arrived = asyncio.Event()

    async def silence() -> None:
        arrived.set()
        await asyncio.Event().wait()

    words = "word " * 300
    world, worker = await working([chunk(words), silence])
    task = asyncio.ensure_future(world.post(STREAM.replace(b"100", b"1000")))
    await arrived.wait()
    await worker.journal.synced(worker.journal.last_lsn)
    await worker.die()
    again = Worker(world, tmp_path)
    assert await again.start() == 1
    row = await world.only_generation()
    assert (row.status, row.usage_source) == (GenerationStatus.INTERRUPTED, UsageSource.ESTIMATED)
    assert row.completion_tokens == len(words) // 4
    assert row.cost_nanos == row.prompt_tokens * 7 + row.completion_tokens * 13
    assert await world.books_are_right() == row.cost_nanos
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
