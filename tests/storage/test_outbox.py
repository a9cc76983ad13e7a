"""The outbox: committed with its cause, sealed while it waits, sent by one, tried again, emptied in the end."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import text

from bursar import storage
from bursar.kernel.clock import FixedClock
from bursar.storage import SYSTEM, Database
from bursar.storage._outbox import ATTEMPTS_MAX, RETRY_FIRST, RETRY_LONGEST, SENDING_LONGEST
from tests.conftest import open_database
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio

LINK = "https://bursar.example/verify?token=plaintext-of-the-link"
KEEP = timedelta(days=2)


async def enqueue(database: Database, *, link: str = LINK, reference: str | None = None) -> str:
    async with database.begin(SYSTEM) as tx:
        return await tx.enqueue(
            "mail", {"text": link}, summary={"to": "ana@example.com"}, keep=KEEP, reference=reference
        )


async def state_of(database: Database, message: str) -> tuple[str, bool]:
    """Its state, and whether there still is something sealed."""
    async with database.snapshot(SYSTEM) as snapshot:
        row = await snapshot.first(text(f"SELECT state, sealed FROM outbox WHERE id = '{message}'"))
    assert row is not None
    return row.state, row.sealed is not None


async def test_a_message_is_sealed_at_rest_until_it_left(database: Database):
    message = await enqueue(database)
    stored = await everything_stored(database)
    assert "ana@example.com" in stored  # what is plain is found, so what is not found is not plain
    assert "plaintext-of-the-link" not in stored
    assert LINK.encode().hex() not in stored
    (taken,) = await storage.take(database)
    assert (taken.id, taken.payload, taken.summary) == (message, {"text": LINK}, {"to": "ana@example.com"})


async def test_a_message_of_a_transaction_that_failed_was_never_there(database: Database):
    woken = []
    database.changes.subscribe(storage.ENQUEUED, lambda _change: woken.append(1))
    with suppress(ZeroDivisionError):
        async with database.begin(SYSTEM) as tx:
            await tx.enqueue("mail", {}, summary={}, keep=KEEP, reference=None)
            raise ZeroDivisionError
    assert list(await storage.take(database)) == []
    assert woken == []
    await enqueue(database)
    assert woken == [1]


async def test_two_that_take_at_once_share_the_messages_and_none_is_taken_twice(database: Database, database_url: str):
    expected = {await enqueue(database, link=f"link {number}") for number in range(30)}
    other = open_database(database_url, node="node_other")
    try:
        batches = await asyncio.gather(*(storage.take(taker, limit=7) for _ in range(4) for taker in (database, other)))
    finally:
        await other.close()
    while rest := await storage.take(
        database, limit=7
    ):  # what was locked by one was skipped by the other, not waited for
        batches.append(rest)
    taken = [message.id for batch in batches for message in batch]
    assert len(taken) == len(set(taken))
    assert set(taken) == expected


async def test_delivered_only_its_summary_stays(fixed_database: Database):
    message = await enqueue(fixed_database)
    (taken,) = await storage.take(fixed_database)
    await storage.mark_delivered(fixed_database, taken.id)
    assert await state_of(fixed_database, message) == ("done", False)
    assert list(await storage.take(fixed_database)) == []


async def test_a_failed_message_waits_twice_as_long_each_time_and_is_kept_for_the_operator_in_the_end(
    fixed_database: Database, fixed_clock: FixedClock
):
    message = await enqueue(fixed_database)
    waits = []
    for attempt in range(1, ATTEMPTS_MAX + 1):
        (taken,) = await storage.take(fixed_database)
        assert taken.attempts == attempt
        await storage.mark_failed(fixed_database, taken, "The mail server did not answer.")
        if attempt < ATTEMPTS_MAX:
            wait = min(RETRY_FIRST * 2 ** (attempt - 1), RETRY_LONGEST)
            waits.append(wait)
            fixed_clock.advance(wait - timedelta(microseconds=1))
            assert list(await storage.take(fixed_database)) == []
            fixed_clock.advance(timedelta(microseconds=1))
    assert waits[:3] == [timedelta(seconds=10), timedelta(seconds=20), timedelta(seconds=40)]
    assert waits[-1] == RETRY_LONGEST
    assert await state_of(fixed_database, message) == ("kept", True)
    assert [kept.payload for kept in await storage.list_kept(fixed_database)] == [{"text": LINK}]


async def test_a_message_whose_sender_died_is_offered_again(fixed_database: Database, fixed_clock: FixedClock):
    await enqueue(fixed_database)
    assert len(await storage.take(fixed_database)) == 1
    fixed_clock.advance(SENDING_LONGEST - timedelta(seconds=1))
    assert list(await storage.take(fixed_database)) == []
    fixed_clock.advance(timedelta(seconds=1))
    (again,) = await storage.take(fixed_database)
    assert again.attempts == 2


async def test_what_could_only_be_printed_is_kept_newest_first_until_it_is_too_old(
    fixed_database: Database, fixed_clock: FixedClock
):
    for link in ("older", "newer"):
        await enqueue(fixed_database, link=link)
        fixed_clock.advance(timedelta(seconds=1))
        (taken,) = await storage.take(fixed_database)
        await storage.mark_kept(fixed_database, taken.id)
    assert [kept.payload["text"] for kept in await storage.list_kept(fixed_database)] == ["newer", "older"]
    fixed_clock.advance(KEEP - timedelta(seconds=1))
    assert list(await storage.list_kept(fixed_database)) == []


async def test_a_used_link_empties_every_message_that_carries_it_and_no_other(fixed_database: Database):
    waiting = await enqueue(fixed_database, reference="link 1")
    other = await enqueue(fixed_database, reference="link 2")
    kept = await enqueue(fixed_database, reference="link 1")
    await storage.mark_kept(fixed_database, kept)
    async with fixed_database.begin(SYSTEM) as tx:
        await storage.strip(tx, "link 1")
    assert await state_of(fixed_database, waiting) == ("done", False)
    assert await state_of(fixed_database, kept) == ("done", False)
    assert [message.id for message in await storage.take(fixed_database)] == [other]


async def test_a_link_used_while_its_message_is_being_sent_stays_gone(fixed_database: Database):
    message = await enqueue(fixed_database, reference="link 1")
    (taken,) = await storage.take(fixed_database)
    async with fixed_database.begin(SYSTEM) as tx:
        await storage.strip(tx, "link 1")
    await storage.mark_kept(fixed_database, taken.id)
    assert await state_of(fixed_database, message) == ("kept", False)
    assert list(await storage.list_kept(fixed_database)) == []


async def test_what_nobody_fetched_in_time_is_emptied(fixed_database: Database, fixed_clock: FixedClock):
    old = await enqueue(fixed_database)
    fixed_clock.advance(KEEP - timedelta(seconds=1))
    new = await enqueue(fixed_database)
    assert await storage.strip_expired(fixed_database) == 0
    fixed_clock.advance(timedelta(seconds=1))
    assert await storage.strip_expired(fixed_database) == 1
    assert await state_of(fixed_database, old) == ("done", False)
    assert await state_of(fixed_database, new) == ("waiting", True)
    assert await storage.strip_expired(fixed_database) == 0


async def test_one_message_that_does_not_open_does_not_keep_the_others(database: Database, caplog):
    altered, other = await enqueue(database), await enqueue(database)
    async with database.begin(SYSTEM) as tx:
        await tx.execute(
            storage.metadata.tables["outbox"].update().where(text(f"id = '{altered}'")).values(sealed=b"\x01" * 64)
        )
    assert [message.id for message in await storage.take(database)] == [other]
    assert altered in caplog.text
    for message in (altered, other):
        await storage.mark_kept(database, message)
    assert [message.id for message in await storage.list_kept(database)] == [other]
