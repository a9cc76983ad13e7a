"""Changes are told after the commit, to everybody, and never when there was none."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from bursar import storage
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

    async def fails(database: Database, seen: set[int]) -> set[int]:
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


async def test_old_changes_are_forgotten_after_an_hour(fixed_database: Database, fixed_clock):
    async with fixed_database.begin(SYSTEM) as tx:
        await tx.announce("key", "old")
    fixed_clock.advance(following.KEPT)
    async with fixed_database.begin(SYSTEM) as tx:
        await tx.announce("key", "new")
    await storage.forget_old_changes(fixed_database)
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        assert len(await snapshot.all(storage.metadata.tables["changes"].select())) == 2
    fixed_clock.advance(following.KEPT / 2)
    await storage.forget_old_changes(fixed_database)
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        left = await snapshot.all(storage.metadata.tables["changes"].select())
    assert [row.subject for row in left] == ["new"]
