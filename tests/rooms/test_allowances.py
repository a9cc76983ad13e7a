"""Limits: never more handed out than they allow, in the right window, and what is used is what the activity says."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bursar import ledger
from bursar.kernel.clock import FixedClock
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, UserId, WorkerId
from bursar.kernel.money import Nanos
from bursar.ledger import (
    Allowance,
    AllowanceLease,
    Batch,
    Limit,
    LimitChanged,
    LimitReached,
    OpenHold,
    Period,
    Settlement,
    window_end,
    window_start,
)
from bursar.ledger.tables import allowances as allowances_table
from bursar.storage import SYSTEM, Database, Scope
from tests.rooms.books import ACME, GLOBEX, ONE, TWO, apply, grant, lease, register, verify

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 24, 13, 30, tzinfo=UTC)
"""A Tuesday; the fixed clock's."""
KEY = KeyId("key_a")
USER = UserId("user_a")


def day(month: int, number: int, hour: int = 0) -> datetime:
    return datetime(2026, month, number, hour, tzinfo=UTC)


def spent(amount: int) -> Callable[[datetime], Awaitable[int]]:
    async def read(_since: datetime) -> int:
        return amount

    return read


async def limit(
    database: Database, amount: int, period: Period = Period.DAILY, subject: str = KEY, *, used: int = 0
) -> Limit:
    made = Limit(ACME, subject, Nanos(amount), period)
    async with database.begin(Scope(ACME)) as tx:
        await ledger.set_limit(tx, made, spent=spent(used))
    return made


async def take(
    database: Database, allowance: Allowance, want: int, move: str, worker: WorkerId = ONE
) -> AllowanceLease:
    async with database.begin(Scope(allowance.owner)) as tx:
        return await ledger.lease_allowance(tx, allowance, worker, Nanos(want), move_id=move)


async def give_back(database: Database, allowance: Allowance, amount: int, move: str, worker: WorkerId = ONE) -> Nanos:
    async with database.begin(Scope(allowance.owner)) as tx:
        return await ledger.return_allowance(tx, allowance, worker, Nanos(amount), move_id=move)


async def use(database: Database, subject: str = KEY, at: datetime = NOW) -> tuple[int, int]:
    async with database.snapshot(Scope(ACME)) as snapshot:
        found = (await ledger.limit_uses(snapshot, ACME, [subject], at))[subject]
    return found.used, found.leased


def settled(name: str, charge: int, *, at: datetime = NOW, taken: tuple[Allowance, ...] = ()) -> Settlement:
    return Settlement(ACME, GenerationId(name), Nanos(charge), (KEY, USER, ACME), at, taken)


@pytest.fixture
async def books(fixed_database: Database) -> Database:
    """Acme has 1,000 nanos, all leased to the first of two workers."""
    await grant(fixed_database, ACME, 1_000)
    await register(fixed_database, ONE, TWO)
    await lease(fixed_database, 1_000, "lease-1")
    return fixed_database


# Windows.


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        (Period.DAILY, NOW, day(11, 24), day(11, 25)),
        (Period.DAILY, day(11, 24), day(11, 24), day(11, 25)),
        (Period.DAILY, day(11, 25) - timedelta(microseconds=1), day(11, 24), day(11, 25)),
        (Period.WEEKLY, NOW, day(11, 23), day(11, 30)),
        (Period.WEEKLY, day(11, 23), day(11, 23), day(11, 30)),
        (Period.WEEKLY, day(11, 30) - timedelta(microseconds=1), day(11, 23), day(11, 30)),
        (Period.WEEKLY, day(3, 1, 23), day(2, 23), day(3, 2)),
        (Period.MONTHLY, NOW, day(11, 1), day(12, 1)),
        (Period.MONTHLY, day(12, 31, 23), day(12, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        (Period.MONTHLY, day(2, 28, 23), day(2, 1), day(3, 1)),
        (Period.TOTAL, NOW, datetime(1970, 1, 1, tzinfo=UTC), None),
    ],
)
def test_windows_are_utc_weeks_begin_on_monday_and_months_end_where_they_do(
    period: Period, moment: datetime, start: datetime, end: datetime | None
):
    elsewhere = moment.astimezone(ZoneInfo("Pacific/Auckland"))
    assert window_start(period, moment) == window_start(period, elsewhere) == start
    assert window_end(period, moment) == window_end(period, elsewhere) == end


# Handing out.


async def test_no_more_is_handed_out_than_the_limit_allows_over_all_workers(books: Database):
    allowance = (await limit(books, 100)).allowance_at(NOW)
    assert (await take(books, allowance, 60, "a"))[0] == 60
    granted, left, others = await take(books, allowance, 60, "b", TWO)
    assert (granted, left.unleased, left.leased, others) == (40, 0, 100, 60)
    assert (await take(books, allowance, 1, "c"))[0] == 0
    assert (await verify(books)).drift == 0


async def test_many_at_once_are_handed_out_no_more_than_the_limit(books: Database):
    allowance = (await limit(books, 100)).allowance_at(NOW)
    granted = await asyncio.gather(*(take(books, allowance, 7, f"move-{n}", (ONE, TWO)[n % 2]) for n in range(30)))
    assert sum(each.granted for each in granted) == 100
    assert await use(books) == (0, 100)


async def test_a_lease_or_a_return_whose_answer_was_lost_is_repeated_without_harm(books: Database):
    allowance = (await limit(books, 100)).allowance_at(NOW)
    for want in (60, 60, 5):
        assert (await take(books, allowance, want, "a"))[0] == 60
    for _ in range(2):
        assert await give_back(books, allowance, 25, "r") == 25
    assert await use(books) == (0, 35)
    assert await give_back(books, allowance, 1_000, "s") == 35
    assert await give_back(books, allowance, 1, "t", TWO) == 0
    assert (await verify(books)).drift == 0


async def test_limits_of_others_are_others(books: Database):
    await limit(books, 100)
    foreign = Allowance(GLOBEX, KEY, Period.DAILY, day(11, 24))
    with pytest.raises(LimitChanged):
        await take(books, foreign, 1, "a")
    with pytest.raises(LimitChanged):
        await take(books, Allowance(ACME, USER, Period.DAILY, day(11, 24)), 1, "b")


@pytest.mark.parametrize("verb", [take, give_back])
async def test_an_amount_below_zero_is_refused(books: Database, verb: Callable[..., Awaitable[object]]):
    with pytest.raises(ValueError, match="-1"):
        await verb(books, (await limit(books, 5)).allowance_at(NOW), -1, "x")


async def test_everything_goes_back_with_the_worker(books: Database):
    allowance = (await limit(books, 100)).allowance_at(NOW)
    await take(books, allowance, 60, "a")
    await take(books, allowance, 30, "b", TWO)
    async with books.begin(SYSTEM) as tx:
        await ledger.forget_worker(tx, ONE, alive_within=timedelta(0), even_if_alive=True)
    assert await use(books) == (0, 30)
    assert (await take(books, allowance, 100, "c", TWO))[0] == 70
    assert (await verify(books)).drift == 0


async def test_a_limit_of_zero_allows_nothing_and_is_not_no_limit(books: Database):
    allowance = (await limit(books, 0)).allowance_at(NOW)
    assert (await take(books, allowance, 1, "a"))[0] == 0


async def test_what_is_handed_out_and_not_in_the_leases_is_drift(books: Database):
    allowance = (await limit(books, 100)).allowance_at(NOW)
    await take(books, allowance, 60, "a")
    async with books.begin(SYSTEM) as tx:
        await tx.execute(allowances_table.update().values(leased_nanos=53))
    assert (await verify(books)).drift == 7


# What is used.


async def test_what_is_charged_counts_once_and_comes_out_of_the_lease(books: Database):
    allowance = (await limit(books, 100)).allowance_at(NOW)
    await take(books, allowance, 60, "a")
    batch = Batch(1, 2, [settled("gen-1", 20, taken=(allowance,)), settled("gen-2", 5, taken=(allowance,))])
    for _ in range(2):
        await apply(books, batch)
        assert await use(books) == (25, 35)
    await apply(books, Batch(3, 3, [settled("gen-1", 20, taken=(allowance,))]))
    assert await use(books) == (25, 35), "a generation that was charged before"
    assert (await verify(books)).drift == 0


async def test_a_request_counts_in_the_window_of_its_intent(books: Database, fixed_clock: FixedClock):
    made = await limit(books, 100)
    yesterday = made.allowance_at(NOW)
    await take(books, yesterday, 60, "a")
    fixed_clock.set(day(11, 25, 1))
    await take(books, made.allowance_at(day(11, 25, 1)), 100, "b")
    await apply(books, Batch(1, 1, [settled("gen-1", 20, taken=(yesterday,))]))
    assert await use(books) == (20, 40)
    assert await use(books, at=day(11, 25)) == (0, 100)
    assert await give_back(books, yesterday, 40, "r") == 40
    assert (await verify(books)).drift == 0


async def test_a_window_that_is_over_and_returned_is_cleared_away_by_the_next(books: Database):
    made = await limit(books, 100)
    await take(books, made.allowance_at(NOW), 60, "a")
    for number in (25, 26, 27):
        await take(books, made.allowance_at(day(11, number)), 10, f"b-{number}")
        async with books.snapshot(SYSTEM) as snapshot:
            assert len(await snapshot.all(allowances_table.select())) == number - 23
    for number in (25, 26, 27):
        await give_back(books, made.allowance_at(day(11, number)), 10, f"r-{number}")
    await take(books, made.allowance_at(day(11, 28)), 10, "c")
    async with books.snapshot(SYSTEM) as snapshot:
        rows = await snapshot.all(allowances_table.select())
    assert [row.since for row in rows] == [day(11, 24), day(11, 28)], "the first is still handed out"


async def test_several_limits_count_the_same_request_each_in_its_own_window(books: Database):
    allowances = [
        (await limit(books, 100, period, subject)).allowance_at(NOW)
        for period, subject in ((Period.DAILY, KEY), (Period.MONTHLY, USER), (Period.TOTAL, ACME))
    ]
    await apply(books, Batch(1, 1, [settled("gen-1", 20)]))
    assert [await use(books, each.subject) for each in allowances] == [(20, 0)] * 3
    await apply(books, Batch(2, 2, [Settlement(ACME, GenerationId("gen-2"), Nanos(3), (USER, ACME), NOW)]))
    assert [(await use(books, each.subject))[0] for each in allowances] == [20, 23, 23], "a chat has no key"


async def test_more_than_was_leased_is_used_and_the_lease_ends_at_nothing(books: Database):
    allowance = (await limit(books, 100)).allowance_at(NOW)
    await take(books, allowance, 10, "a")
    await apply(books, Batch(1, 1, [settled("gen-1", 120, taken=(allowance,))]))
    assert await use(books) == (120, 0)
    assert (await take(books, allowance, 1, "b"))[0] == 0
    assert (await verify(books)).drift == 0


# Changing a limit.


async def test_a_limit_that_comes_late_counts_what_was_spent_before(books: Database):
    await limit(books, 100, used=70)
    assert await use(books) == (70, 0)


async def test_lowered_below_what_is_used_nothing_remains_and_raised_again_the_rest_does(books: Database):
    made = await limit(books, 100)
    allowance = made.allowance_at(NOW)
    await take(books, allowance, 60, "a")
    await apply(books, Batch(1, 1, [settled("gen-1", 50, taken=(allowance,))]))
    await limit(books, 20, used=50)
    granted, left, others = await take(books, allowance, 1, "b")
    assert (granted, left.remaining, left.unleased, others) == (0, 0, 0, 0)
    await limit(books, 70, used=50)
    assert (await take(books, allowance, 100, "c"))[0] == 10, "10 are still with the worker"
    assert (await verify(books)).drift == 0


async def test_another_period_begins_with_what_was_used_in_its_own_window(books: Database):
    old = (await limit(books, 100)).allowance_at(NOW)
    await take(books, old, 60, "a")
    new = (await limit(books, 200, Period.MONTHLY, used=90)).allowance_at(NOW)
    with pytest.raises(LimitChanged):
        await take(books, old, 1, "b")
    assert (await take(books, new, 1_000, "c"))[0] == 110
    assert await give_back(books, old, 60, "r") == 60
    assert (await verify(books)).drift == 0


async def test_without_the_limit_what_was_handed_out_still_comes_back(books: Database):
    allowance = (await limit(books, 100)).allowance_at(NOW)
    await take(books, allowance, 60, "a")
    async with books.begin(Scope(ACME)) as tx:
        assert await ledger.remove_limit(tx, ACME, KEY) is not None
        assert await ledger.remove_limit(tx, ACME, KEY) is None
    await apply(books, Batch(1, 1, [settled("gen-1", 20, taken=(allowance,))]))
    assert await give_back(books, allowance, 40, "r") == 40
    assert (await verify(books)).drift == 0


async def test_a_limit_that_is_set_while_a_batch_is_applied_counts_it_once(database: Database):
    """Whichever comes first: the limit reads it in the activity, or the batch finds the limit."""
    await grant(database, ACME, 1_000)
    await register(database, ONE, TWO)
    await lease(database, 1_000, "lease-1")
    charged = 0

    async def charge(number: int) -> None:
        nonlocal charged
        async with database.begin(SYSTEM) as tx:
            batch = Batch(number, number, [settled(f"gen-{number}", 1)])
            await ledger.apply_batch(tx, ONE, batch)
            await asyncio.sleep(0)
            charged += 1  # nobody can see it before the commit: the owner's charges are locked

    async def read(_since: datetime) -> int:
        return charged

    async def setting(number: int) -> None:
        for _ in range(number % 4):
            await asyncio.sleep(0.001)
        async with database.begin(Scope(ACME)) as tx:
            await ledger.set_limit(tx, Limit(ACME, KEY, Nanos(500), Period.TOTAL), spent=read)

    for number in range(1, 21):
        await asyncio.gather(charge(number), setting(number))
        assert (await use(database))[0] == number


# One request at a time, without a journal.


def held(name: str, amount: int, owner: OwnerId = ACME) -> OpenHold:
    return OpenHold(owner, GenerationId(name), Nanos(amount), "node_test", "v1", KEY, USER, "demo/echo-1", NOW)


@pytest.fixture
async def pool(fixed_database: Database) -> Database:
    await grant(fixed_database, ACME, 1_000)
    return fixed_database


async def test_a_hold_takes_from_every_limit_that_binds_it_or_from_none(pool: Database):
    await limit(pool, 100, Period.DAILY, KEY)
    await limit(pool, 50, Period.MONTHLY, USER)
    async with pool.begin(Scope(ACME)) as tx:
        await ledger.open_hold(tx, held("gen-1", 40))
    assert [await use(pool, subject) for subject in (KEY, USER)] == [(0, 40), (0, 40)]
    with pytest.raises(LimitReached) as refusal:
        async with pool.begin(Scope(ACME)) as tx:
            await ledger.open_hold(tx, held("gen-2", 40))
    assert refusal.value.use.limit.subject == USER
    assert refusal.value.use.unleased == 10
    assert [await use(pool, subject) for subject in (KEY, USER)] == [(0, 40), (0, 40)]
    async with pool.begin(Scope(ACME)) as tx:
        await ledger.open_hold(tx, held("gen-3", 0))
        assert await ledger.settle_hold(tx, ACME, GenerationId("gen-1"), Nanos(15)) == 15
    assert [await use(pool, subject) for subject in (KEY, USER)] == [(15, 0), (15, 0)]
    assert (await verify(pool)).drift == 0


async def test_an_extension_asks_the_limits_too(pool: Database):
    await limit(pool, 100)
    async with pool.begin(Scope(ACME)) as tx:
        await ledger.open_hold(tx, held("gen-1", 60))
        await ledger.extend_hold(tx, ACME, GenerationId("gen-1"), Nanos(40), 1)
    assert await use(pool) == (0, 100)
    with pytest.raises(LimitReached):
        async with pool.begin(Scope(ACME)) as tx:
            await ledger.extend_hold(tx, ACME, GenerationId("gen-1"), Nanos(1), 2)
    async with pool.begin(Scope(ACME)) as tx:
        assert await ledger.void_hold(tx, ACME, GenerationId("gen-1"))
    assert await use(pool) == (0, 0)
    assert (await verify(pool)).drift == 0
