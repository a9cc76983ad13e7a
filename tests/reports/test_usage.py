"""Usage, the overview and keys: every sum is what the rows add up to, and what the ledger says was spent."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from bursar import ledger, reports
from bursar.activity import GenerationStatus
from bursar.kernel.ids import OwnerId
from bursar.reports import ActivityFilter, Period
from bursar.reports.usage import totals
from bursar.storage import SYSTEM, Scope
from tests.reports.conftest import NOW, History, make_key

pytestmark = pytest.mark.anyio

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = NOW.replace(hour=0, minute=0)


async def usage(history: History, period: Period, wanted: ActivityFilter = ActivityFilter()):  # noqa: B008 - frozen
    return await history.see(lambda snapshot: reports.usage(snapshot, history.owner, period, wanted))


@pytest.fixture
async def busy(history: History) -> History:
    """70 requests spread over 70 days, on three models by two keys; some failed."""
    chance = random.Random(7)
    moments = sorted(NOW - timedelta(seconds=chance.randrange(70 * 86_400)) for _ in range(50))
    moments += sorted(NOW - timedelta(seconds=chance.randrange(26 * 3600)) for _ in range(20))
    async with history.database.begin(Scope(history.owner)) as tx:
        for at in sorted(moments):
            await history.serve(
                at,
                chance.randrange(1_000_000),
                chance.choice((history.admins_key, history.members_key)),
                tx=tx,
                model=chance.choice(("demo/echo-1", "demo/poet-1", "demo/sage-1")),
                status=chance.choice((GenerationStatus.OK, GenerationStatus.OK, GenerationStatus.FAILED)),
                prompt_tokens=chance.randrange(1000),
                completion_tokens=chance.randrange(1000),
            )
    history.clock.set(NOW)
    return history


@pytest.mark.parametrize("period", Period)
async def test_each_bucket_is_the_sum_of_its_rows_by_model_and_there_are_no_gaps(busy: History, period: Period):
    found = await usage(busy, period)
    width = HOUR if period is Period.DAY else DAY
    newest = NOW.replace(minute=0) if period is Period.DAY else MIDNIGHT
    assert len(found.buckets) == {"1d": 24, "7d": 7, "30d": 30}[period]
    assert found.buckets[-1].start == newest
    for number, bucket in enumerate(found.buckets):
        assert bucket.start == newest - width * (len(found.buckets) - 1 - number)
        rows = [one for one in busy.served if bucket.start <= one.created_at < bucket.start + width]
        assert set(bucket.by_model) == {one.model for one in rows}
        for model, sums in bucket.by_model.items():
            of_model = [one for one in rows if one.model == model]
            assert sums.cost == sum(one.cost_nanos for one in of_model)
            assert sums.requests == len(of_model)
            assert sums.errors == sum(one.status is GenerationStatus.FAILED for one in of_model)
            assert sums.tokens == sum(one.prompt_tokens + one.completion_tokens for one in of_model)
    in_all = sum(sums.cost for bucket in found.buckets for sums in bucket.by_model.values())
    assert found.total.cost == in_all == busy.cost(found.buckets[0].start)
    assert in_all > 0


async def test_usage_by_key_and_model_counts_only_that(busy: History):
    key = busy.members_key.id
    found = await usage(busy, Period.MONTH, ActivityFilter(key=key, model="demo/poet-1"))
    since = found.buckets[0].start
    assert found.total.cost == busy.cost(since, key_id=key, model="demo/poet-1") > 0
    assert {model for bucket in found.buckets for model in bucket.by_model} == {"demo/poet-1"}


async def test_the_period_before_ends_at_the_same_time_of_day(history: History):
    week_start = MIDNIGHT - 6 * DAY
    before_start = week_start - 7 * DAY
    await history.serve(before_start - timedelta(seconds=1), 1)
    await history.serve(before_start, 10)
    await history.serve(before_start + 6 * DAY + 13 * HOUR, 100)  # the hour of now, a week earlier
    await history.serve(before_start + 6 * DAY + 14 * HOUR, 1_000)
    await history.serve(week_start, 10_000)
    history.clock.set(NOW)
    found = await usage(history, Period.WEEK)
    assert (found.total.cost, found.before.cost) == (10_000, 110)


async def test_what_the_activity_adds_up_to_is_what_the_ledger_says_was_spent(busy: History):
    async with busy.database.snapshot(SYSTEM) as snapshot:
        spent = (await ledger.balance(snapshot, busy.owner)).spent
        verification = await ledger.verify(snapshot)
        by_hours = await totals(snapshot, busy.owner, datetime(2000, 1, 1, tzinfo=UTC), None)
    assert spent == by_hours.cost == busy.cost()
    assert by_hours.requests == len(busy.served)
    assert verification.drift == 0
    assert verification.spent == spent


async def test_a_generation_recorded_twice_counts_once(busy: History):
    from bursar import activity

    before = (await usage(busy, Period.DAY)).total
    async with busy.database.begin(SYSTEM) as tx:
        assert await activity.record(tx, busy.served[-1]) is False
    assert (await usage(busy, Period.DAY)).total == before


async def test_a_generation_is_found_by_its_owner_only(busy: History):
    from bursar import activity

    one = busy.served[5]
    async with busy.database.snapshot(SYSTEM) as snapshot:
        assert await activity.find_generation(snapshot, busy.owner, one.id) == one
        assert await activity.find_generation(snapshot, OwnerId("org_other"), one.id) is None


async def test_choices_of_a_filter_are_what_was_used(busy: History):
    names, models = await busy.see(lambda snapshot: reports.filter_choices(snapshot, busy.owner, NOW - 30 * DAY))
    assert names == [(busy.admins_key.id, "Ana's app"), (busy.members_key.id, "Tomas's app")]
    assert models == ["demo/echo-1", "demo/poet-1", "demo/sage-1"]


async def test_the_overview_agrees_with_the_rows(busy: History):
    found = await busy.see(lambda snapshot: reports.overview(snapshot, busy.owner))
    month = MIDNIGHT - 29 * DAY
    assert found.balance.available == 10_000_000_000 - busy.cost()
    assert found.spent_today == busy.cost(MIDNIGHT)
    assert found.spent_week == busy.cost(MIDNIGHT - 6 * DAY)
    assert found.spent_month == busy.cost(month) == found.usage.total.cost
    assert {share.name: share.cost for share in found.top_models} == {
        model: busy.cost(month, model=model) for model in ("demo/echo-1", "demo/poet-1", "demo/sage-1")
    }
    assert {share.name: share.cost for share in found.top_keys} == {
        "Ana's app": busy.cost(month, key_id=busy.admins_key.id),
        "Tomas's app": busy.cost(month, key_id=busy.members_key.id),
    }
    assert {share.name for share in found.top_members} == {"Ana Test", "Tomas Test"}
    for shares in (found.top_models, found.top_keys, found.top_members):
        assert [share.cost for share in shares] == sorted((share.cost for share in shares), reverse=True)
        assert sum(share.cost for share in shares) == found.spent_month
    assert [row.id for row in found.recent.items] == [one.id for one in busy.served[-1:-6:-1]]
    assert (found.has_credits, found.has_key, found.has_generation) == (True, True, True)
    burned = busy.cost((NOW - 7 * DAY + HOUR).replace(minute=0))
    assert found.days_left == found.balance.available * 7 // burned


async def test_the_overview_of_somebody_new_says_what_to_do_first(history: History):
    stranger = OwnerId(history.cast.stranger.id)
    found = await history.see(lambda snapshot: reports.overview(snapshot, stranger), stranger)
    assert (found.has_credits, found.has_key, found.has_generation) == (False, False, False)
    assert (found.days_left, found.spent_month, found.balance.total) == (None, 0, 0)
    assert list(found.top_models) == list(found.recent.items) == []


# Windows of a key's usage.


@pytest.mark.parametrize(
    ("now", "day", "week", "month"),
    [
        # a Tuesday in the middle of its month
        ((2026, 11, 24, 13, 30), (2026, 11, 24), (2026, 11, 23), (2026, 11, 1)),
        # Sunday, the last moment of its week
        ((2026, 11, 29, 23, 59), (2026, 11, 29), (2026, 11, 23), (2026, 11, 1)),
        # Monday, the first moment of its week
        ((2026, 11, 30, 0, 0), (2026, 11, 30), (2026, 11, 30), (2026, 11, 1)),
        # the first of a month in the middle of a week, which began in the month before
        ((2026, 12, 1, 0, 0), (2026, 12, 1), (2026, 11, 30), (2026, 12, 1)),
    ],
    ids=["Tuesday", "Sunday", "Monday", "first of the month"],
)
async def test_a_keys_usage_by_utc_day_week_from_monday_month_and_in_all(history: History, now, day, week, month):
    starts = sorted({datetime(*start, tzinfo=UTC) for start in (day, week, month)})
    for number, start in enumerate(starts):
        await history.serve(start - timedelta(seconds=1), 7 * 10**number)
        if start <= datetime(*now, tzinfo=UTC):
            await history.serve(start, 10**number)
    await history.serve(datetime(*now, tzinfo=UTC) - DAY * 70, 5_000_000, history.members_key)
    history.clock.set(datetime(*now, tzinfo=UTC))
    key = history.admins_key.id
    found = await history.see(lambda snapshot: reports.key_usage(snapshot, history.owner, key))
    assert found.total == history.cost(key_id=key)
    assert found.daily == history.cost(datetime(*day, tzinfo=UTC), key_id=key)
    assert found.weekly == history.cost(datetime(*week, tzinfo=UTC), key_id=key)
    assert found.monthly == history.cost(datetime(*month, tzinfo=UTC), key_id=key)
    assert found.total > found.monthly > 0


async def test_the_list_of_keys_says_who_made_each_and_what_it_spent_this_month(history: History, checker):
    await history.serve(datetime(2026, 10, 31, 23, 59, tzinfo=UTC), 1_000)
    await history.serve(datetime(2026, 11, 1, tzinfo=UTC), 5)
    await history.serve(NOW, 6, history.members_key)
    unused = await make_key(history.database, checker, history.owner, history.cast.member.id, "unused")
    rows = await history.see(lambda snapshot: reports.key_list(snapshot, history.owner, creator=None))
    assert {(row.key.name, row.creator_name, row.spent_this_month) for row in rows} == {
        ("Ana's app", "Ana Test", 5),
        ("Tomas's app", "Tomas Test", 6),
        ("unused", "Tomas Test", 0),
    }
    assert rows[0].key.id == unused.id
    own = await history.see(lambda snapshot: reports.key_list(snapshot, history.owner, creator=history.cast.member.id))
    assert {row.key.name for row in own} == {"Tomas's app", "unused"}
