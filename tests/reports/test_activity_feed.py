"""The feed: newest first, by pages that miss nothing, filtered, and one owner's only."""

from datetime import timedelta
from importlib import import_module

import pytest

from bursar import keys, reports
from bursar.activity import GenerationStatus
from bursar.kernel.ids import KeyId, OwnerId
from bursar.kernel.paging import Cursor
from bursar.reports import ActivityFilter, FeedRow
from bursar.storage import SYSTEM
from tests.reports.conftest import NOW, History, make_key

pytestmark = pytest.mark.anyio

module = import_module("bursar.reports.activity_feed")  # the name itself is the function

EVERYTHING = ActivityFilter()
MINUTE = timedelta(minutes=1)


async def page(history: History, wanted: ActivityFilter = EVERYTHING, cursor: str | None = None, size: int = 5):
    return await history.see(
        lambda snapshot: reports.activity_feed(snapshot, history.owner, wanted, Cursor.decode(cursor), size)
    )


async def listed(history: History, wanted: ActivityFilter = EVERYTHING) -> list[str]:
    found = await page(history, wanted, size=100)
    return [row.id for row in found.items]


@pytest.fixture
async def busy(history: History) -> History:
    """23 requests, a minute apart, by two keys on two models, and one of somebody else."""
    for number in range(23):
        await history.serve(
            NOW - timedelta(minutes=23 - number),
            cost=number,
            key=(history.admins_key, history.members_key)[number % 2],
            model=("demo/echo-1", "demo/poet-1", "demo/echo-1")[number % 3],
        )
    history.clock.set(NOW)
    return history


async def test_pages_forward_and_back_show_every_request_once(busy: History):
    expected = [one.id for one in reversed(busy.served)]
    pages = [await page(busy)]
    while pages[-1].older:
        pages.append(await page(busy, cursor=pages[-1].older))
    assert [row.id for found in pages for row in found.items] == expected
    assert [len(found.items) for found in pages] == [5, 5, 5, 5, 3]
    assert pages[0].newer is None
    back = [pages[-1]]
    while back[-1].newer:
        back.append(await page(busy, cursor=back[-1].newer))
    assert [row.id for found in reversed(back) for row in found.items] == expected


async def test_a_filter_by_key_model_and_time_shows_what_fits_all_of_it(busy: History):
    served = busy.served[::-1]
    assert await listed(busy, ActivityFilter(key=busy.members_key.id)) == [
        one.id for one in served if one.key_id == busy.members_key.id
    ]
    assert await listed(busy, ActivityFilter(model="demo/poet-1")) == [
        one.id for one in served if one.model == "demo/poet-1"
    ]
    since, until = NOW - 20 * MINUTE, NOW - 5 * MINUTE
    both = ActivityFilter(key=busy.admins_key.id, model="demo/echo-1", since=since, until=until)
    fits = [
        one.id
        for one in served
        if one.key_id == busy.admins_key.id and one.model == "demo/echo-1" and since <= one.created_at < until
    ]
    assert 2 < len(fits) < 10
    assert await listed(busy, both) == fits


async def test_pages_of_a_filtered_feed_miss_nothing(busy: History):
    wanted = ActivityFilter(key=busy.members_key.id)
    first = await page(busy, wanted)
    second = await page(busy, wanted, first.older)
    third = await page(busy, wanted, second.older)
    assert third.older is None
    rows = [row.id for found in (first, second, third) for row in found.items]
    assert rows == await listed(busy, wanted)


async def test_the_end_of_a_time_is_left_out_and_its_beginning_is_in(history: History):
    at = [await history.serve(NOW + MINUTE * number, 1) for number in range(3)]
    wanted = ActivityFilter(since=NOW, until=NOW + 2 * MINUTE)
    assert await listed(history, wanted) == [at[1].id, at[0].id]


async def test_nothing_fits_what_was_never_used(busy: History):
    assert await listed(busy, ActivityFilter(model="x")) == []
    assert await listed(busy, ActivityFilter(key=KeyId("key_none"))) == []
    empty = await page(busy, ActivityFilter(model="x"))
    assert (empty.newer, empty.older) == (None, None)


async def test_one_owner_never_sees_anothers_requests_also_in_system_scope(busy: History, checker):
    stranger = OwnerId(busy.cast.stranger.id)
    await busy.grant(NOW, 100, stranger)
    theirs = await make_key(busy.database, checker, stranger, busy.cast.stranger.id, "own")
    made = await busy.serve(NOW, 5, theirs)
    async with busy.database.snapshot(SYSTEM) as snapshot:
        mine = await reports.activity_feed(snapshot, busy.owner, EVERYTHING, None, 100)
        of_stranger = await reports.activity_feed(snapshot, stranger, EVERYTHING, None, 100)
    assert made.id not in {row.id for row in mine.items}
    assert [row.id for row in of_stranger.items] == [made.id]


async def test_everybody_sees_who_used_which_key_and_a_deleted_key_keeps_its_name(history: History):
    await history.serve(NOW, 7, history.members_key, finish_reason="stop", streamed=True)
    async with history.database.begin(SYSTEM) as tx:
        await keys.delete(tx, history.members_key)
    (row,) = (await page(history)).items
    assert (row.key_name, row.user_name, row.cost, row.finish_reason) == ("Tomas's app", "Tomas Test", 7, "stop")
    assert row.tokens_per_second == 20 * 1000 // 800


async def test_speed_is_an_integer_and_none_where_nothing_was_written(history: History):
    await history.serve(NOW, 0, completion_tokens=0, status=GenerationStatus.FAILED, error_status=502)
    await history.serve(NOW + MINUTE, 0, duration_ms=200, first_token_ms=200)
    await history.serve(NOW + 2 * MINUTE, 0, duration_ms=3000, first_token_ms=None, completion_tokens=10)
    rows: list[FeedRow] = list((await page(history)).items)
    assert [row.tokens_per_second for row in rows] == [3, None, None]
    assert (rows[2].status, rows[2].error_status) == ("failed", 502)


async def test_an_export_has_the_same_rows_in_batches_and_an_end(busy: History, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_EXPORT_PAGE", 10)
    wanted = ActivityFilter()

    async def exported(snapshot) -> list[list[FeedRow]]:
        return [list(batch) async for batch in reports.export_rows(snapshot, busy.owner, wanted)]

    batches = await busy.see(exported)
    assert [len(batch) for batch in batches] == [10, 10, 3]
    assert [row.id for batch in batches for row in batch] == await listed(busy)
    assert sum(row.cost for batch in batches for row in batch) == busy.cost()
    monkeypatch.setattr(module, "EXPORT_ROWS_MAX", 20)
    assert [len(batch) for batch in await busy.see(exported)] == [10, 10]
    wanted = ActivityFilter(model="x")
    assert [row for batch in await busy.see(exported) for row in batch] == []
