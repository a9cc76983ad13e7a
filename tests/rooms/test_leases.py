"""What a worker may spend without asking: moved before it is spent, never more than there is, and given back."""

import asyncio
import random
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from bursar import ledger
from bursar.kernel.ids import OwnerId, WorkerId
from bursar.kernel.money import Nanos
from bursar.ledger import InsufficientFunds, Lease, NoSuchWorker, TransferConflict, WorkerAlive, WorkerStopped
from bursar.storage import SYSTEM, Database
from tests.rooms.books import ACME, GLOBEX, ONE, TWO, balance, give_back, grant, lease, leases, register, tamper, verify

pytestmark = pytest.mark.anyio

A_MINUTE = timedelta(minutes=1)
THREE = WorkerId("node_z.1")


@pytest.fixture
async def books(database: Database) -> Database:
    """Acme has 100 nanos, Globex 50; two workers are there."""
    await grant(database, ACME, 100)
    await grant(database, GLOBEX, 50)
    await register(database, ONE, TWO)
    return database


async def test_what_is_leased_is_still_the_owners_to_spend_but_cannot_be_leased_or_held_again(books: Database):
    assert await lease(books, 60, "lease-1") == 60
    async with books.snapshot(SYSTEM) as snapshot:
        found = await ledger.balance(snapshot, ACME)
    assert (found.unleased, found.leased, found.available, found.total) == (40, 60, 100, 100)
    assert await lease(books, 60, "lease-2", TWO) == 40
    assert await leases(books) == {(ACME, ONE): 60, (ACME, TWO): 40}
    assert (await verify(books)).leased == 100
    assert (await verify(books)).drift == 0


async def test_of_nothing_nothing_is_granted(books: Database):
    assert await lease(books, 100, "lease-1") == 100
    assert await lease(books, 1, "lease-2") == 0
    assert await lease(books, 1, "lease-1", owner=OwnerId("org_never")) == 0
    assert await lease(books, 0, "lease-3", owner=GLOBEX) == 0
    assert (await verify(books)).drift == 0


async def test_a_lease_that_is_repeated_grants_what_it_granted_and_moves_nothing(books: Database):
    for want in (60, 60, 1_000):
        assert await lease(books, want, "lease-1") == 60
    assert await leases(books) == {(ACME, ONE): 60}
    assert await give_back(books, 10, "return-1") == await give_back(books, 10, "return-1") == 10
    assert await leases(books) == {(ACME, ONE): 50}
    assert (await verify(books)).drift == 0


async def test_one_id_for_two_meanings_is_a_conflict(books: Database):
    await lease(books, 60, "lease-1")
    with pytest.raises(TransferConflict):
        await lease(books, 60, "lease-1", TWO)
    with pytest.raises(TransferConflict):
        await give_back(books, 60, "lease-1")
    assert await lease(books, 50, "lease-1", owner=GLOBEX) == 50, "another owner's ids are others"


async def test_no_more_comes_back_than_the_lease_has(books: Database):
    await lease(books, 60, "lease-1")
    await lease(books, 30, "lease-2", TWO)
    assert await give_back(books, 1_000, "return-1") == 60
    assert await give_back(books, 1, "return-2") == 0
    assert await leases(books) == {(ACME, TWO): 30}
    assert (await verify(books)).drift == 0


@pytest.mark.parametrize("verb", [lease, give_back])
async def test_an_amount_below_zero_is_refused(books: Database, verb):
    with pytest.raises(ValueError, match="-1"):
        await verb(books, -1, "x")


async def test_everything_a_worker_has_goes_back_to_its_owners(books: Database):
    await lease(books, 60, "lease-1")
    await lease(books, 20, "lease-1", owner=GLOBEX)
    await lease(books, 30, "lease-2", TWO)
    async with books.begin(SYSTEM) as tx:
        returned = await ledger.return_all(tx, ONE)
    assert list(returned) == [Lease(ACME, ONE, Nanos(60)), Lease(GLOBEX, ONE, Nanos(20))]
    async with books.begin(SYSTEM) as tx:
        assert list(await ledger.return_all(tx, ONE)) == []
    assert await leases(books) == {(ACME, TWO): 30}
    assert await balance(books, GLOBEX) == (50, 0, 0)
    assert (await verify(books)).drift == 0


async def test_only_a_worker_that_registered_leases(books: Database):
    nobody = WorkerId("node_b.1")
    with pytest.raises(NoSuchWorker, match=r"node_b\.1"):
        await lease(books, 1, "lease-1", nobody)
    assert await leases(books) == {}


# Workers.


async def test_a_worker_that_registers_again_goes_on_behind_its_watermark(books: Database):
    await tamper(books, f"UPDATE workers SET watermark = 7, chain = '{'a' * 64}' WHERE worker = '{ONE}'")
    async with books.begin(SYSTEM) as tx:
        again = await ledger.register_worker(tx, ONE, "node_a")
        assert again == await ledger.find_worker(tx, ONE)
        assert [each.id for each in await ledger.list_workers(tx)] == [ONE, TWO]
        assert await ledger.find_worker(tx, WorkerId("node_b.1")) is None
    assert (again.watermark, again.chain, again.batches, again.stopped_at) == (7, "a" * 64, 0, None)
    assert (await verify(books)).workers[0] == again


async def test_a_worker_that_was_seen_a_moment_ago_is_not_forgotten_unless_that_is_asked_for(books: Database):
    await lease(books, 60, "lease-1")
    with pytest.raises(WorkerAlive) as refusal:
        async with books.begin(SYSTEM) as tx:
            await ledger.forget_worker(tx, ONE, alive_within=A_MINUTE)
    assert refusal.value.remedy
    assert await leases(books) == {(ACME, ONE): 60}
    async with books.begin(SYSTEM) as tx:
        returned = await ledger.forget_worker(tx, ONE, alive_within=A_MINUTE, even_if_alive=True)
    assert list(returned) == [Lease(ACME, ONE, Nanos(60))]
    assert await balance(books, ACME) == (100, 0, 0)


async def test_a_worker_that_was_not_seen_for_long_is_forgotten_and_stays_so_until_it_registers(books: Database):
    await lease(books, 60, "lease-1")
    long_ago = "seen_at - 60000000"
    await tamper(books, f"UPDATE workers SET seen_at = {long_ago} WHERE worker = '{ONE}'")
    async with books.begin(SYSTEM) as tx:
        assert len(await ledger.forget_worker(tx, ONE, alive_within=A_MINUTE)) == 1
    async with books.begin(SYSTEM) as tx:
        assert await ledger.touch_worker(tx, ONE) is False
        assert await ledger.touch_worker(tx, TWO) is True
        assert list(await ledger.forget_worker(tx, ONE, alive_within=A_MINUTE)) == [], "a second time is no error"
    with pytest.raises(WorkerStopped) as refusal:
        await lease(books, 1, "lease-2")
    assert refusal.value.status == 409
    await register(books, ONE)
    assert await lease(books, 1, "lease-2") == 1


async def test_workers_that_may_be_serving_take_turns_by_name(books: Database):
    async def turns() -> list[tuple[int, int]]:
        async with books.snapshot(SYSTEM) as snapshot:
            return [await ledger.place_of(snapshot, worker) for worker in (ONE, TWO, THREE)]

    await register(books, THREE)
    assert await turns() == [(0, 3), (1, 3), (2, 3)]
    await tamper(books, f"UPDATE workers SET seen_at = seen_at - 31000000 WHERE worker = '{TWO}'")
    assert await turns() == [(0, 2), (0, 1), (1, 2)], "the second was not seen for 31 s"
    async with books.begin(SYSTEM) as tx:
        await ledger.forget_worker(tx, ONE, alive_within=A_MINUTE, even_if_alive=True)
    assert await turns() == [(0, 1), (0, 1), (0, 1)]


async def test_a_worker_that_is_touched_was_seen_now_by_the_databases_time(books: Database):
    async with books.begin(SYSTEM) as tx:
        before = await ledger.find_worker(tx, ONE)
    async with books.begin(SYSTEM) as tx:
        assert await ledger.touch_worker(tx, ONE)
        after = await ledger.find_worker(tx, ONE)
        now = await tx.database_time()
    assert before is not None
    assert after is not None
    assert before.seen_at < after.seen_at <= now
    assert before.started_at == after.started_at


async def test_nobody_forgets_a_worker_that_never_was(books: Database):
    with pytest.raises(NoSuchWorker):
        async with books.begin(SYSTEM) as tx:
            await ledger.forget_worker(tx, WorkerId("node_b.1"), alive_within=A_MINUTE)


# Laws that the database itself keeps.


async def test_a_watermark_never_goes_back_and_a_worker_is_never_deleted(books: Database):
    await tamper(books, f"UPDATE workers SET watermark = 7 WHERE worker = '{ONE}'")
    with pytest.raises(DBAPIError, match="never goes back"):
        await tamper(books, f"UPDATE workers SET watermark = 6 WHERE worker = '{ONE}'")
    with pytest.raises(DBAPIError, match="never deleted"):
        await tamper(books, f"DELETE FROM workers WHERE worker = '{ONE}'")
    if books.dialect == "postgresql":
        with pytest.raises(DBAPIError, match="never deleted"):
            await tamper(books, "TRUNCATE workers")
        with pytest.raises(DBAPIError, match="permission denied"):
            async with books.begin(SYSTEM) as tx:
                await tx.execute(text("DELETE FROM workers"))


async def test_a_lease_below_zero_is_refused_by_the_database_itself(books: Database):
    await lease(books, 60, "lease-1")
    with pytest.raises(IntegrityError, match="not_negative"):
        await tamper(books, "UPDATE leases SET amount_nanos = -1")


@pytest.mark.parametrize(
    ("change", "drift"),
    [
        (f"UPDATE leases SET amount_nanos = amount_nanos + 3 WHERE owner_id = '{ACME}'", 3),
        (f"DELETE FROM leases WHERE owner_id = '{ACME}'", 60),
        (f"INSERT INTO leases (owner_id, worker, amount_nanos) VALUES ('{GLOBEX}', '{TWO}', 5)", 5),
        (f"UPDATE accounts SET balance_nanos = balance_nanos - 4 WHERE owner_id = '{ACME}' AND account = 'leased'", 12),
    ],
    ids=["more", "lost", "out of nothing", "the account"],
)
async def test_leases_that_differ_from_the_account_are_drift(books: Database, change: str, drift: int):
    await lease(books, 60, "lease-1")
    await lease(books, 20, "lease-1", owner=GLOBEX)
    await tamper(books, change)
    assert (await verify(books)).drift == drift


async def test_one_owners_lease_too_much_does_not_make_up_for_anothers_too_little(books: Database):
    await lease(books, 20, "lease-1")
    await lease(books, 20, "lease-1", owner=GLOBEX)
    for owner, change in ((ACME, "+ 7"), (GLOBEX, "- 7")):
        await tamper(books, f"UPDATE leases SET amount_nanos = amount_nanos {change} WHERE owner_id = '{owner}'")
    assert (await verify(books)).drift == 14


# Many at once.


async def test_64_leases_at_once_by_two_workers_never_exceed_the_balance(database: Database):
    await grant(database, ACME, 1_000)
    await register(database, ONE, TWO)
    granted = await asyncio.gather(
        *(lease(database, 30 + number, f"lease-{number}", (ONE, TWO)[number % 2]) for number in range(64))
    )
    assert sum(granted) == 1_000
    assert await leases(database) == {(ACME, ONE): sum(granted[::2]), (ACME, TWO): sum(granted[1::2])}
    assert (await verify(database)).drift == 0


async def test_one_lease_asked_for_twenty_times_at_once_is_granted_once(books: Database):
    assert set(await asyncio.gather(*(lease(books, 7, "lease-1") for _ in range(20)))) == {7}
    assert await leases(books) == {(ACME, ONE): 7}


async def test_who_is_forgotten_while_it_leases_keeps_nothing(books: Database):
    async def forget() -> None:
        async with books.begin(SYSTEM) as tx:
            await ledger.forget_worker(tx, ONE, alive_within=A_MINUTE, even_if_alive=True)

    leasing = [lease(books, 2, f"lease-{number}") for number in range(20)]
    results = await asyncio.gather(*leasing[:10], forget(), *leasing[10:], return_exceptions=True)
    assert all(isinstance(result, WorkerStopped) or result in (2, None) for result in results), results
    assert await leases(books) == {}
    assert (await verify(books)).drift == 0


async def test_leases_returns_and_holds_of_two_owners_at_once_never_deadlock(books: Database):
    chance = random.Random(books.dialect)

    async def mixed(number: int) -> None:
        owner, worker = chance.choice((ACME, GLOBEX)), chance.choice((ONE, TWO))
        amount, verb = chance.randint(1, 30), number % 6
        with suppress(InsufficientFunds):
            if verb < 2:
                await lease(books, amount, f"lease-{number}", worker, owner)
            elif verb == 2:
                await give_back(books, amount, f"return-{number}", worker, owner)
            elif verb == 3:
                await grant(books, owner, amount, f"tr_{number}")
            elif verb == 4:
                async with books.begin(SYSTEM) as tx:
                    await ledger.return_all(tx, worker)
            else:
                async with books.begin(SYSTEM) as tx:
                    assert await ledger.touch_worker(tx, worker)

    async with asyncio.timeout(60):
        await asyncio.gather(*(mixed(number) for number in range(120)))
    assert (await verify(books)).drift == 0
