"""A worker's journal in the ledger: each generation charged once, whatever is replayed, and no gap in between."""

import asyncio
import hashlib
import random
from collections.abc import Sequence

import pytest
from sqlalchemy import event

from bursar import ledger
from bursar.kernel.ids import GenerationId, OwnerId, WorkerId
from bursar.kernel.money import NANOS_MAX, Nanos
from bursar.ledger import CHAIN_START, Batch, NoSuchWorker, Settlement, TransferKind, WatermarkGap, Worker, chain_after
from bursar.storage import SYSTEM, Database
from tests.rooms.books import (
    ACME,
    AT,
    GLOBEX,
    ONE,
    TWO,
    apply,
    balance,
    batch_of,
    give_back,
    grant,
    lease,
    leases,
    register,
    verify,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def books(database: Database) -> Database:
    """Acme has 1,000 nanos, of which the first worker leased 600; Globex has 50, of which it leased 20."""
    await grant(database, ACME, 1_000)
    await grant(database, GLOBEX, 50)
    await register(database, ONE, TWO)
    await lease(database, 600, "lease-1")
    await lease(database, 20, "lease-1", owner=GLOBEX)
    return database


async def worker_of(database: Database, worker: WorkerId = ONE) -> Worker:
    async with database.snapshot(SYSTEM) as snapshot:
        found = await ledger.find_worker(snapshot, worker)
    assert found is not None
    return found


async def test_a_batch_charges_from_the_lease_and_moves_the_watermark(books: Database):
    applied = await apply(books, batch_of(1, 9, ("gen-1", 25), ("gen-2", 0), ("gen-3", 5, GLOBEX), ("gen-4", 75)))
    assert applied.charged == {"gen-1": 25, "gen-2": 0, "gen-3": 5, "gen-4": 75}
    assert applied.shortfall == {}
    assert await balance(books, ACME) == (900, 0, 100)
    assert await balance(books, GLOBEX) == (45, 0, 5)
    assert await leases(books) == {(ACME, ONE): 500, (GLOBEX, ONE): 15}
    found = await worker_of(books)
    assert (found.watermark, found.batches) == (9, 1)
    assert (await verify(books)).drift == 0


async def test_what_was_charged_can_be_read_by_generation_and_nothing_was_posted_for_the_free(books: Database):
    await apply(books, batch_of(1, 2, ("gen-1", 25), ("gen-2", 0)))
    async with books.snapshot(SYSTEM) as snapshot:
        found = await ledger.list_transfers(snapshot, ACME, [TransferKind.CHARGE], AT, snapshot.now.replace(year=2100))
    assert [(each.transfer.id, each.transfer.amount, each.transfer.reference) for each in found] == [
        ("charge-gen-1", 25, "gen-1")
    ]


async def test_a_batch_that_is_replayed_does_nothing(books: Database):
    batch = batch_of(1, 9, ("gen-1", 25), ("gen-3", 5, GLOBEX))
    await apply(books, batch)
    before = await worker_of(books)
    assert (await apply(books, batch)).charged == {}
    assert (await apply(books, batch_of(3, 5, ("gen-9", 1)))).charged == {}
    assert await worker_of(books) == before
    assert await balance(books, ACME) == (975, 0, 25)


@pytest.mark.parametrize(("first", "last"), [(11, 12), (9, 10), (5, 20), (1, 10)])
async def test_a_batch_that_does_not_follow_is_refused_and_changes_nothing(books: Database, first: int, last: int):
    await apply(books, batch_of(1, 9, ("gen-1", 25)))
    before = await worker_of(books)
    with pytest.raises(WatermarkGap, match="to record 9") as refusal:
        await apply(books, batch_of(first, last, ("gen-2", 25)))
    assert refusal.value.ids == {"worker": ONE, "watermark": 9}
    assert await worker_of(books) == before
    assert await balance(books, ACME) == (975, 0, 25)


async def test_batches_that_arrive_in_another_order_are_refused_until_it_is_their_turn(books: Database):
    batches = [batch_of(number, number, (f"gen-{number}", number)) for number in range(1, 7)]
    waiting = batches[::-1]
    while waiting:
        later = []
        for batch in waiting:
            try:
                await apply(books, batch)
            except WatermarkGap:
                later.append(batch)
        assert len(later) < len(waiting)
        waiting = later
    assert await balance(books, ACME) == (1_000 - 21, 0, 21)


async def test_a_generation_twice_in_a_batch_or_in_two_is_charged_once_at_its_first_price(books: Database):
    assert (await apply(books, batch_of(1, 2, ("gen-1", 25), ("gen-1", 75)))).charged == {"gen-1": 25}
    assert (await apply(books, batch_of(3, 4, ("gen-1", 75), ("gen-2", 5)))).charged == {"gen-2": 5}
    assert await balance(books, ACME) == (970, 0, 30)
    assert (await verify(books)).drift == 0


async def test_what_somebody_else_knows_to_be_settled_is_not_charged_and_not_in_the_chain(books: Database):
    batch = batch_of(1, 2, ("gen-1", 25), ("gen-2", 5))
    async with books.begin(SYSTEM) as tx:
        applied = await ledger.apply_batch(tx, ONE, batch, settled={GenerationId("gen-1")})
    assert applied.charged == {"gen-2": 5}
    assert (await worker_of(books)).chain == chain_after(CHAIN_START, ONE, 1, 2, f"{ACME} gen-2 5 0\n")


async def test_a_batch_without_settlements_moves_the_watermark(books: Database):
    await apply(books, batch_of(1, 400))
    assert (await worker_of(books)).watermark == 400
    assert await leases(books) == {(ACME, ONE): 600, (GLOBEX, ONE): 20}


async def test_each_worker_has_its_own_watermark_and_lease(books: Database):
    await lease(books, 100, "lease-2", TWO)
    await apply(books, batch_of(1, 5, ("gen-1", 10)))
    await apply(books, batch_of(1, 3, ("gen-2", 20)), TWO)
    assert await leases(books) == {(ACME, ONE): 590, (ACME, TWO): 80, (GLOBEX, ONE): 20}
    assert ((await worker_of(books)).watermark, (await worker_of(books, TWO)).watermark) == (5, 3)


async def test_a_worker_that_never_registered_applies_nothing(books: Database):
    with pytest.raises(NoSuchWorker):
        await apply(books, batch_of(1, 1, ("gen-1", 1)), WorkerId("node_b.1"))


async def test_a_worker_that_was_forgotten_still_applies_what_it_owes(books: Database):
    async with books.begin(SYSTEM) as tx:
        await ledger.forget_worker(tx, ONE, alive_within=AT - AT)
    assert (await apply(books, batch_of(1, 2, ("gen-1", 25)))).charged == {"gen-1": 25}
    assert await balance(books, ACME) == (975, 0, 25)
    assert await leases(books) == {}


@pytest.mark.parametrize(
    ("first", "last", "charge"), [(0, 1, 1), (2, 1, 1), (1, 2**63, 1), (1, 1, -1), (1, 1, NANOS_MAX + 1)]
)
def test_a_batch_that_makes_no_sense_cannot_be_made(first: int, last: int, charge: int):
    with pytest.raises(ValueError, match=r"charge|batch"):
        batch_of(first, last, ("gen-1", charge))


# More than the lease.


async def test_more_than_the_lease_is_taken_from_the_credits(books: Database):
    applied = await apply(books, batch_of(1, 3, ("gen-1", 500), ("gen-2", 300), ("gen-3", 50)))
    assert applied.charged == {"gen-1": 500, "gen-2": 300, "gen-3": 50}
    assert await leases(books) == {(GLOBEX, ONE): 20}
    assert await balance(books, ACME) == (150, 0, 850)
    assert (await verify(books)).drift == 0


async def test_more_than_there_is_is_the_houses_loss_and_takes_nothing_from_other_workers_and_holds(books: Database):
    await lease(books, 300, "lease-2", TWO)
    charges = [("gen-1", 590), ("gen-2", 300), ("gen-3", 50), ("gen-4", 0), ("gen-5", 7, GLOBEX)]
    applied = await apply(books, batch_of(1, 5, *charges))
    assert applied.charged == {"gen-1": 590, "gen-2": 110, "gen-3": 0, "gen-4": 0, "gen-5": 7}
    assert applied.shortfall == {"gen-2": 190, "gen-3": 50}
    assert await leases(books) == {(ACME, TWO): 300, (GLOBEX, ONE): 13}
    assert await balance(books, ACME) == (300, 0, 700)
    assert (await verify(books)).drift == 0
    assert (await apply(books, batch_of(1, 5, *charges))).shortfall == {}


async def test_what_was_charged_before_takes_nothing_from_the_credits_again(books: Database):
    await apply(books, batch_of(1, 1, ("gen-1", 590)))
    applied = await apply(books, batch_of(2, 3, ("gen-1", 590), ("gen-2", 30), ("gen-3", 0)))
    assert applied.charged == {"gen-2": 30, "gen-3": 0}
    assert await leases(books) == {(GLOBEX, ONE): 20}
    assert await balance(books, ACME) == (380, 0, 620)


async def test_an_owner_without_a_lease_pays_from_its_credits(books: Database):
    stranger = OwnerId("org_initech")
    await grant(books, stranger, 10)
    nobody = OwnerId("org_nobody")
    applied = await apply(books, batch_of(1, 2, ("gen-1", 7, stranger), ("gen-2", 7, nobody)))
    assert (applied.charged, applied.shortfall) == ({"gen-1": 7, "gen-2": 0}, {"gen-2": 7})
    assert await balance(books, stranger) == (3, 0, 7)
    assert (await verify(books)).drift == 0


async def test_a_charge_beyond_64_bits_in_all_is_refused_and_stays_an_integer(database: Database):
    await grant(database, ACME, NANOS_MAX)
    await register(database, ONE)
    await lease(database, NANOS_MAX, "lease-1")
    await apply(database, batch_of(1, 1, ("gen-1", NANOS_MAX)))
    async with database.begin(SYSTEM) as tx:
        await ledger.post(
            tx,
            [
                ledger.Transfer(
                    ACME, "p", TransferKind.PURCHASE, ledger.Account.PURCHASES, ledger.Account.CREDITS, Nanos(9)
                )
            ],
        )
    with pytest.raises(ledger.BalanceTooLarge):
        await apply(database, batch_of(2, 2, ("gen-2", 9)))
    assert await balance(database, ACME) == (9, 0, NANOS_MAX)
    assert (await verify(database)).drift == 0


# The chain.


def recomputed(worker: str, batches: Sequence[Batch]) -> str:
    """As the docstring of `chain_after` says, written down a second time."""
    chain = "0" * 64
    for batch in batches:
        content = f"{chain}\n{worker} {batch.first_lsn} {batch.last_lsn}\n"
        for each in batch.settlements:
            content += f"{each.owner} {each.generation} {each.charge} 0\n"
        chain = hashlib.sha256(content.encode()).hexdigest()
    return chain


async def test_the_chain_is_recomputed_from_the_batches_and_tells_any_change(books: Database):
    dice = random.Random(4)
    batches, at = [], 1
    for number in range(12):
        last = at + dice.randrange(5)
        owners = (ACME, GLOBEX)
        batches.append(
            batch_of(at, last, *((f"gen-{number}-{each}", dice.randrange(4), owners[each % 2]) for each in range(3)))
        )
        await apply(books, batches[-1])
        at = last + 1
    found = await worker_of(books)
    assert found.chain == recomputed(ONE, batches)
    assert (found.batches, found.watermark) == (12, at - 1)
    assert (await worker_of(books, TWO)).chain == CHAIN_START
    changed = Settlement(ACME, GenerationId("gen-3-0"), Nanos(9))
    other = [*batches[:3], Batch(batches[3].first_lsn, batches[3].last_lsn, [changed]), *batches[4:]]
    assert len({found.chain, recomputed(ONE, other), recomputed(ONE, batches[1:]), recomputed(TWO, batches)}) == 4


# Crashes, and many at once.


class PowerCut(Exception):
    pass


async def die(database: Database, batch: Batch) -> None:
    async with database.begin(SYSTEM) as tx:
        await ledger.apply_batch(tx, ONE, batch)
        raise PowerCut  # after the last statement, before the commit


async def test_a_batch_whose_transaction_is_lost_at_any_point_leaves_nothing_and_is_applied_afterwards(books: Database):
    batch = batch_of(1, 5, ("gen-1", 550), ("gen-2", 100), ("gen-3", 5, GLOBEX))
    before = (await worker_of(books), await balance(books, ACME), await leases(books), (await verify(books)).transfers)
    for fatal in range(100):
        statements = 0

        def cut(*_: object, fatal: int = fatal) -> None:
            nonlocal statements
            statements += 1
            if statements > fatal:
                raise PowerCut

        engine = books._writer.sync_engine
        event.listen(engine, "before_cursor_execute", cut)
        with pytest.raises(PowerCut):
            await die(books, batch)
        event.remove(engine, "before_cursor_execute", cut)
        assert before == (
            await worker_of(books),
            await balance(books, ACME),
            await leases(books),
            (await verify(books)).transfers,
        )
        if statements <= fatal:
            break
    assert fatal > 6
    assert len((await apply(books, batch)).charged) == 3
    assert await balance(books, ACME) == (350, 0, 650)
    assert (await verify(books)).drift == 0


async def test_one_batch_applied_by_eight_at_once_counts_once(books: Database):
    batch = batch_of(1, 5, ("gen-1", 25), ("gen-2", 5, GLOBEX))
    applied = await asyncio.gather(*(apply(books, batch) for _ in range(8)))
    assert sorted(len(each.charged) for each in applied) == [0] * 7 + [2]
    assert (await worker_of(books)).batches == 1
    assert await balance(books, ACME) == (975, 0, 25)


async def test_batches_leases_returns_and_grants_of_two_workers_at_once_add_up_and_never_deadlock(books: Database):
    owners = [ACME, GLOBEX, OwnerId("org_initech"), OwnerId("user_lea")]
    asked: dict[WorkerId, int] = {ONE: 0, TWO: 0}
    missing = 0

    async def journal(worker: WorkerId) -> None:
        nonlocal missing
        dice = random.Random(worker)
        for lsn in range(1, 25):
            made = [
                (f"gen-{worker}-{lsn}-{each}", dice.randrange(25), dice.choice(owners))
                for each in range(dice.randrange(9))
            ]
            applied = await apply(books, batch_of(lsn, lsn, *made), worker)
            asked[worker] += sum(charge for _, charge, _ in made)
            missing += sum(applied.shortfall.values())
            assert len(applied.charged) == len(made)

    async def others(worker: WorkerId) -> None:
        dice = random.Random(f"others-{worker}")
        for number in range(40):
            owner, amount = dice.choice(owners), dice.randrange(1, 40)
            verb = number % 5
            if verb < 2:
                await lease(books, amount, f"lease-{worker}-{number}", worker, owner)
            elif verb == 2:
                await give_back(books, amount, f"return-{worker}-{number}", worker, owner)
            elif verb == 3:
                await grant(books, owner, amount, f"tr_{worker}-{number}")
            else:
                async with books.begin(SYSTEM) as tx:
                    await ledger.return_all(tx, worker)

    async with asyncio.timeout(120):
        await asyncio.gather(*(work(worker) for worker in (ONE, TWO) for work in (journal, others, others)))
    found = await verify(books)
    assert found.drift == 0
    assert found.spent == sum(asked.values()) - missing
    assert missing > 0, "so that the credits ran out now and then"


async def test_a_batch_of_one_owner_costs_no_more_statements_than_one_of_a_hundred(books: Database):
    owners = [OwnerId(f"org_{number:03}") for number in range(100)]
    async with books.begin(SYSTEM) as tx:
        for owner in owners:
            await ledger.post(
                tx,
                [
                    ledger.Transfer(
                        owner, "tr_1", TransferKind.GRANT, ledger.Account.GRANTS, ledger.Account.CREDITS, Nanos(50)
                    )
                ],
            )
            await ledger.lease(tx, owner, ONE, Nanos(50), transfer_id="lease-1")
    engine = books._writer.sync_engine
    counts = []
    for lsn, whose in enumerate(([ACME], owners), start=1):
        statements: list[str] = []

        def count(_c: object, _cur: object, statement: str, *_: object, seen: list[str] = statements) -> None:
            seen.append(statement)

        event.listen(engine, "before_cursor_execute", count)
        await apply(books, batch_of(lsn, lsn, *((f"gen-{lsn}-{n}", 1, whose[n % len(whose)]) for n in range(256))))
        event.remove(engine, "before_cursor_execute", count)
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 9
    assert await balance(books, owners[0]) == (47, 0, 3)
    assert await balance(books, ACME) == (744, 0, 256)
