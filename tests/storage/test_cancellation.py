"""A request that is cancelled, at whatever moment, leaves nothing behind and takes no connection with it."""

import asyncio
import random
import time
from contextlib import AsyncExitStack, suppress

import pytest
from sqlalchemy import text

from bursar import ledger
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos
from bursar.ledger import Account, Transfer, TransferKind
from bursar.storage import SYSTEM, Database
from bursar.storage._database import POSTGRES_CONNECTIONS, SQLITE_READERS

pytestmark = pytest.mark.anyio

CANCELLATIONS = 50
LONGEST_SECONDS = 0.02
NEXT_SECONDS_MAX = 4
"""SQLite would let the next writer wait 5 s for a lock that a cancelled one kept."""
OWNER = OwnerId("org_cancelled")


class Attempt:
    """One transaction that grants a nano and announces it; `done` once its block was left without an error."""

    def __init__(self, database: Database, number: int) -> None:
        self.database, self.name, self.done = database, f"tr_{number}", False

    async def run(self, pause: float) -> None:
        async with self.database.begin(SYSTEM) as tx:
            await tx.announce("key", self.name)
            grant = Transfer(OWNER, self.name, TransferKind.GRANT, Account.GRANTS, Account.CREDITS, Nanos(1))
            await ledger.post(tx, [grant])
            await asyncio.sleep(pause)
        self.done = True


async def posted(database: Database) -> set[str]:
    async with database.snapshot(SYSTEM) as snapshot:
        return {row.id for row in await snapshot.all(text("SELECT id FROM transfers"))}


async def check_that_all_is_well(database: Database, attempts: list[Attempt], heard: list[str]) -> None:
    there = await posted(database)
    assert {attempt.name for attempt in attempts if attempt.done} <= there
    assert there <= set(heard), "what was committed was announced, also where the one who asked had left"
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await ledger.verify(snapshot)).drift == 0
        assert (await ledger.balance(snapshot, OWNER)).available == len(there)
    connections = SQLITE_READERS if database.dialect == "sqlite" else POSTGRES_CONNECTIONS
    async with asyncio.timeout(10), AsyncExitStack() as stack:  # every connection of the pool is there and works
        for _ in range(connections):
            snapshot = await stack.enter_async_context(database.snapshot(SYSTEM))
            assert await snapshot.scalar(text("SELECT 1")) == 1
    async with asyncio.timeout(10):
        last = Attempt(database, 10_000)
        await last.run(0)
    assert last.done
    if database.dialect == "postgresql":
        async with database.snapshot(SYSTEM) as snapshot:
            left = await snapshot.scalar(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
                )
            )
        assert left == 0


@pytest.mark.parametrize("at_once", [1, 25], ids=["one by one", "all at once"])
async def test_fifty_transactions_cancelled_at_random_moments_leave_nothing_half_done(database: Database, at_once: int):
    chance = random.Random(f"{database.dialect} {at_once}")
    heard: list[str] = []
    database.changes.subscribe("key", lambda change: heard.append(change.subject))
    attempts = [Attempt(database, number) for number in range(CANCELLATIONS)]
    limit = asyncio.Semaphore(at_once)
    took: list[float] = []

    async def cancelled(attempt: Attempt) -> None:
        async with limit:
            started = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    attempt.run(chance.random() * LONGEST_SECONDS / 4), chance.random() * LONGEST_SECONDS
                )
            took.append(time.monotonic() - started)

    await asyncio.gather(*(cancelled(attempt) for attempt in attempts))
    assert any(not attempt.done for attempt in attempts)
    assert at_once > 1 or max(took) < NEXT_SECONDS_MAX
    await check_that_all_is_well(database, attempts, heard)


async def test_a_transaction_cancelled_inside_its_block_never_happened(database: Database):
    heard: list[str] = []
    database.changes.subscribe("key", lambda change: heard.append(change.subject))
    attempt = Attempt(database, 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(attempt.run(60), 0.3)
    assert await posted(database) == set()
    assert heard == []
    await check_that_all_is_well(database, [], ["tr_10000"])


async def test_a_transaction_cancelled_while_it_commits_is_announced_if_it_happened(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    from sqlalchemy.ext.asyncio import AsyncTransaction

    committing = asyncio.Event()
    real = AsyncTransaction.commit

    async def slow(self) -> None:
        committing.set()
        await real(self)
        await asyncio.sleep(0.05)  # the answer of the database is on its way

    monkeypatch.setattr(AsyncTransaction, "commit", slow)
    heard: list[str] = []
    database.changes.subscribe("key", lambda change: heard.append(change.subject))
    attempt = Attempt(database, 1)
    task = asyncio.create_task(attempt.run(0))
    await committing.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await posted(database) == {"tr_1"}
    assert heard == ["tr_1"], "this node's own cache would honour a key that was just revoked"
    monkeypatch.undo()
    await check_that_all_is_well(database, [], ["tr_1", "tr_10000"])


async def test_readers_cancelled_at_random_moments_give_their_connections_back(database: Database):
    chance = random.Random(database.dialect)

    async def read() -> None:
        async with database.snapshot(SYSTEM) as snapshot:
            await snapshot.all(text("SELECT * FROM transfers"))
            await asyncio.sleep(chance.random() * LONGEST_SECONDS / 4)

    async def cancelled() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(read(), chance.random() * LONGEST_SECONDS)

    await asyncio.gather(*(cancelled() for _ in range(CANCELLATIONS)))
    await check_that_all_is_well(database, [], ["tr_10000"])


async def test_a_writer_cancelled_at_any_moment_does_not_keep_the_next_one_waiting(database: Database):
    started = time.monotonic()
    for moment in range(60):  # tenths of a millisecond: through connecting, beginning and each statement
        task = asyncio.create_task(Attempt(database, moment).run(60))
        await asyncio.sleep(moment / 10_000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for number in range(60, 65):
        await Attempt(database, number).run(0)
    assert time.monotonic() - started < NEXT_SECONDS_MAX * 2
    assert await posted(database) == {f"tr_{number}" for number in range(60, 65)}
