"""Changes are told after the commit, to everybody, and never when there was none."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import text

from bursar import storage
from bursar.kernel.clock import FixedClock, SystemClock
from bursar.storage import SYSTEM, Change, Database
from bursar.storage import _follow as following
from tests.conftest import open_database

pytestmark = pytest.mark.anyio

HEARD_SECONDS_MAX = 5.0


async def until(condition: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < HEARD_SECONDS_MAX, "it was not heard"
        await asyncio.sleep(0.02)


def listen(database: Database, kind: str = "key") -> list[str]:
    heard: list[str] = []
    database.changes.subscribe(kind, lambda change: heard.append(change.subject))
    return heard


async def announce_and_fail(database: Database, subject: str) -> None:
    with suppress(ZeroDivisionError):
        async with database.begin(SYSTEM) as tx:
            await tx.announce("key", subject)
            raise ZeroDivisionError


async def test_a_change_is_heard_after_the_commit_and_not_before(database: Database):
    heard = listen(database)
    async with database.begin(SYSTEM) as tx:
        await tx.announce("key", "key_1")
        await tx.announce("user", "user_1")
        assert heard == []
    assert heard == ["key_1"]


async def test_a_change_of_a_transaction_that_failed_is_heard_by_nobody(database: Database):
    heard = listen(database)
    await announce_and_fail(database, "key_1")
    async with database.snapshot(SYSTEM) as snapshot:
        assert await snapshot.all(storage.metadata.tables["changes"].select()) == []
    assert heard == []


async def test_one_subscriber_that_fails_does_not_silence_the_others(database: Database, caplog):
    def deaf(change: Change) -> None:
        raise RuntimeError("deaf")

    database.changes.subscribe("key", deaf)
    heard = listen(database)
    async with database.begin(SYSTEM) as tx:
        await tx.announce("key", "key_1")
    assert heard == ["key_1"]
    assert "a subscriber of key failed" in caplog.text


async def test_other_nodes_hear_what_was_committed_once_and_nothing_else(
    postgres_database: Database, postgres_url: str
):
    other = open_database(postgres_url, node="node_other")
    here, there = listen(postgres_database), listen(other)
    followers = [asyncio.create_task(storage.follow(database)) for database in (postgres_database, other)]
    try:
        async with postgres_database.begin(SYSTEM) as tx:
            await tx.announce("key", "first")
        await until(lambda: "first" in there)
        await announce_and_fail(postgres_database, "rolled back")
        async with other.begin(SYSTEM) as tx:
            await tx.announce("key", "from there")
        async with postgres_database.begin(SYSTEM) as tx:
            await tx.announce("key", "last")
        await until(lambda: "last" in there and "from there" in here)
        await asyncio.sleep(3 * following.POLL_SECONDS)
    finally:
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        await other.close()
    assert there.count("first") == there.count("last") == there.count("from there") == 1
    assert sorted(here) == ["first", "from there", "last"]
    assert "rolled back" not in there


async def test_a_node_hears_what_became_visible_out_of_order(postgres_database: Database, postgres_url: str):
    other = open_database(postgres_url, node="node_other")
    there = listen(other)
    follower = asyncio.create_task(storage.follow(other))
    try:
        async with postgres_database.begin(SYSTEM) as slow:
            await slow.announce("key", "slow, with the lower number")
            async with postgres_database.begin(SYSTEM) as quick:
                await quick.announce("key", "quick")
            await until(lambda: "quick" in there)
        await until(lambda: len(there) == 2)
    finally:
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower
        await other.close()
    assert there == ["quick", "slow, with the lower number"]


async def test_following_survives_whatever_a_look_fails_with(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
):
    looks = []

    async def fails(database: Database, seen: set[int], looked_at: int | None) -> tuple[set[int], int]:
        looks.append(1)
        raise OSError("connection reset")

    monkeypatch.setattr(following, "_poll", fails)
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    follower = asyncio.create_task(storage.follow(postgres_database))
    try:
        await until(lambda: len(looks) > 2 or follower.done())
        assert not follower.done(), "a node that stopped listening would never hear of a revoked key"
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


async def test_what_was_announced_while_a_node_was_cut_off_is_heard_afterwards_however_long_that_was(
    postgres_database: Database, postgres_url: str
):
    other = open_database(postgres_url, node="node_other")
    there = listen(other)
    try:
        seen, looked_at = await following._poll(other, set(), None)
        async with postgres_database.begin(SYSTEM) as tx:
            await tx.announce("key", "meanwhile")
        ten_minutes = timedelta(minutes=10)
        await age(postgres_database, ten_minutes)
        before = looked_at - ten_minutes // timedelta(microseconds=1)
        assert (await following._poll(other, seen, None))[0] == set()
        assert there == [], "a look at what is recent only would have missed it"
        await following._poll(other, seen, before)
        assert there == ["meanwhile"]
    finally:
        await other.close()


async def age(database: Database, by: timedelta) -> None:
    """Of every change that was announced: the database dates them, and no test moves its clock."""
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text("UPDATE changes SET at = at - :by").bindparams(by=by // timedelta(microseconds=1)))


async def test_old_changes_are_forgotten_after_an_hour(database: Database):
    async with database.begin(SYSTEM) as tx:
        await tx.announce("key", "old")
    await age(database, following.KEPT / 2)
    async with database.begin(SYSTEM) as tx:
        await tx.announce("key", "new")
    await storage.forget_old_changes(database)
    assert await kept(database) == ["old", "new"]
    await age(database, following.KEPT / 2)
    await storage.forget_old_changes(database)
    assert await kept(database) == ["new"]


async def kept(database: Database) -> list[str]:
    async with database.snapshot(SYSTEM) as snapshot:
        return [row.subject for row in await snapshot.all(text("SELECT subject FROM changes ORDER BY seq"))]


async def test_a_change_is_heard_at_a_knock_and_without_it_a_moment_later(
    postgres_database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(following, "POLL_SECONDS", 2.0)
    monkeypatch.setattr(following, "LISTEN_AGAIN_SECONDS", 0.3)
    other = open_database(postgres_url, node="node_other")
    there = listen(other)
    follower = asyncio.create_task(storage.follow(other))

    async def heard_in(subject: str) -> float:
        async with postgres_database.begin(SYSTEM) as tx:
            await tx.announce("key", subject)
        began = time.monotonic()
        await until(lambda: subject in there)
        return time.monotonic() - began

    owner = postgres_database.owner_engine()  # the application may not see what others do

    async def listeners() -> list[int]:
        asked = "SELECT pid FROM pg_stat_activity WHERE query ILIKE 'LISTEN%' AND datname = current_database()"
        async with owner.connect() as connection:
            return list((await connection.scalars(text(asked))).all())

    async def another_listener(than: int | None) -> int:
        for _ in range(100):
            if found := [pid for pid in await listeners() if pid != than]:
                return found[0]
            await asyncio.sleep(0.05)
        raise AssertionError("nobody listens")

    try:
        before = await another_listener(None)
        await heard_in("first")  # whatever a look at the start would have found
        assert min([await heard_in(f"quick {number}") for number in range(3)]) < 0.5
        async with owner.connect() as connection:
            await connection.scalar(text("SELECT pg_terminate_backend(:pid)").bindparams(pid=before))
        assert await heard_in("nobody listens") < 3
        await another_listener(before)
        await asyncio.sleep(0.1)
        assert min([await heard_in(f"quick again {number}") for number in range(3)]) < 0.5
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        await other.close()
        await owner.dispose()


async def test_a_change_is_heard_by_another_process_of_the_same_node_and_whatever_the_clocks_say(
    postgres_database: Database, postgres_url: str
):
    behind = FixedClock(SystemClock().now() - timedelta(hours=3))
    other = open_database(postgres_url, behind, node=postgres_database.node)
    there = listen(other)
    follower = asyncio.create_task(storage.follow(other))
    here = listen(postgres_database)
    another = asyncio.create_task(storage.follow(postgres_database))
    try:
        async with postgres_database.begin(SYSTEM) as tx:
            await tx.announce("key", "ahead")
        async with other.begin(SYSTEM) as tx:
            await tx.announce("key", "behind")
        await until(lambda: "ahead" in there and "behind" in here)
    finally:
        for task in (follower, another):
            task.cancel()
        await asyncio.gather(follower, another, return_exceptions=True)
        await other.close()


async def test_what_one_process_does_at_a_time_passes_on_when_it_lets_go_or_is_silent(
    database: Database, database_url: str
):
    other = open_database(database_url, node=database.node)
    try:
        assert await storage.hold(database, "jobs", keep=timedelta(seconds=60))
        assert not await storage.hold(other, "jobs", keep=timedelta(seconds=60))
        assert await storage.hold(other, "something else", keep=timedelta(seconds=60))
        assert await storage.hold(database, "jobs", keep=timedelta(seconds=60))
        await storage.let_go(other, "jobs")  # not its own
        assert not await storage.hold(other, "jobs", keep=timedelta(seconds=60))
        await storage.let_go(database, "jobs")
        assert await storage.hold(other, "jobs", keep=timedelta(seconds=-1))
        assert await storage.hold(database, "jobs", keep=timedelta(seconds=60))
    finally:
        await other.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_change_that_comes_together_with_the_stop_does_not_keep_a_process(
    postgres_database: Database, turns: int
):
    for _ in range(3):
        knocked = asyncio.Event()
        looking = asyncio.create_task(following._look_forever(postgres_database, knocked))
        await asyncio.sleep(following.POLL_SECONDS / 3)  # it has looked, and waits
        knocked.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        looking.cancel()
        done, _ = await asyncio.wait([looking], timeout=5 * following.POLL_SECONDS)
        assert done, "the cancellation was lost"
