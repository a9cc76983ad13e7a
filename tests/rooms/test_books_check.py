"""The regular check of the books: what it found is kept for everybody, and told to the operators once each time it begins to differ."""

import itertools
import logging

import pytest

from bursar import identity, ledger, reports, storage
from bursar.jobs._books import CHECK_SECONDS, SHARE, BooksCheck
from bursar.kernel.errors import Unavailable
from bursar.kernel.ids import new_generation_id
from bursar.kernel.money import Nanos
from bursar.storage import SYSTEM, Database, Snapshot
from tests.conftest import Cast
from tests.support.tampering import behind_their_backs

pytestmark = pytest.mark.anyio

RICHER = "UPDATE accounts SET balance_nanos = balance_nanos + 5 WHERE account = 'credits'"
POORER = "UPDATE accounts SET balance_nanos = balance_nanos - 5 WHERE account = 'credits'"


async def hire(database: Database, *names: str) -> None:
    async with database.begin(SYSTEM) as tx:
        for name in names:
            email = f"{name}@example.com"
            await identity.add_user(tx, email=email, name=name, password_hash=None, verified=True, is_operator=True)


async def mailed(database: Database) -> list[tuple[str, str]]:
    """To whom, and the text, of what was not taken before."""
    messages = await storage.take(database)
    return sorted((message.payload["to"], message.payload["text"]) for message in messages)


async def test_what_was_found_is_kept_for_whoever_asks(database: Database, cast: Cast):
    async with database.snapshot(SYSTEM) as snapshot:
        assert await reports.last_check(snapshot) is None
    assert await BooksCheck(database).run() == CHECK_SECONDS
    async with database.snapshot(SYSTEM) as snapshot:
        found = await reports.last_check(snapshot)
    assert found is not None
    assert (found.is_right, found.drift, found.transfers) == (True, 0, 1)
    assert found.balances["credits"] == 10_000_000_000
    assert await mailed(database) == []


async def test_a_difference_is_logged_as_critical_and_mailed_to_each_operator_once(
    database: Database, cast: Cast, caplog: pytest.LogCaptureFixture
):
    await hire(database, "pat", "quinn")
    checks = [BooksCheck(database), BooksCheck(database)]  # of two processes
    await checks[0].run()
    await behind_their_backs(database, RICHER)
    for check in [*checks, *checks]:
        await check.run()
    said = [record.message for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(said) == 1
    assert f"balance: {cast.owner} credits: the balance is 10000000005, its entries make 10000000000" in said[0]
    mails = await mailed(database)
    assert [to for to, _ in mails] == ["pat@example.com", "quinn@example.com"]
    assert all(f"{cast.owner} credits" in text and "$0.000000010 in all" in text for _, text in mails)


async def test_when_the_books_are_right_again_the_next_difference_is_news(
    database: Database, cast: Cast, caplog: pytest.LogCaptureFixture
):
    await hire(database, "pat")
    check = BooksCheck(database)
    for change in (RICHER, POORER, RICHER):
        await behind_their_backs(database, change)
        await check.run()
    assert [record.levelname for record in caplog.records] == ["CRITICAL", "WARNING", "CRITICAL"]
    assert len(await mailed(database)) == 2


async def test_on_large_books_it_runs_less_often(database: Database, monkeypatch: pytest.MonkeyPatch):
    moments = itertools.chain([100.0], itertools.repeat(130.0))
    monkeypatch.setattr(database.clock, "monotonic", lambda: next(moments), raising=False)
    assert await BooksCheck(database).run() == 30 * SHARE


async def test_every_charge_is_looked_at_less_often_than_balances_and_what_was_found_stays_said(
    database: Database, cast: Cast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A charge without a request: only looking at each shows it."""
    now = [100.0]
    monkeypatch.setattr(database.clock, "monotonic", lambda: now[0], raising=False)
    verify_each = reports.verify_each

    async def slowly(snapshot: Snapshot) -> ledger.Findings:
        now[0] += 30
        return await verify_each(snapshot)

    monkeypatch.setattr(reports, "verify_each", slowly)
    check = BooksCheck(database)
    assert await check.run() == CHECK_SECONDS
    charge = await charge_nobody_asked_for(database, cast)
    await check.run()
    async with database.snapshot(SYSTEM) as snapshot:
        found = await reports.last_check(snapshot)
        assert (await reports.verify_all(snapshot)).difference_count == 1
    assert found is not None
    assert found.is_right, "not seen yet"
    assert found.each_at is not None
    assert found.each_at < found.at
    now[0] += 30 * SHARE
    await check.run()
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert charge in caplog.records[0].message
    await check.run()
    await behind_their_backs(database, RICHER)
    await check.run()
    async with database.snapshot(SYSTEM) as snapshot:
        found = await reports.last_check(snapshot)
    assert found is not None
    assert found.difference_count == 3, "the balance, all accounts, and still the charge"
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


async def charge_nobody_asked_for(database: Database, cast: Cast) -> str:
    now = database.clock.now()
    generation = new_generation_id(now)
    hold = ledger.OpenHold(
        cast.owner, generation, Nanos(7), "node_test", "price-1", None, cast.admin.id, "demo/echo-1", now
    )
    async with database.begin(SYSTEM) as tx:
        await ledger.open_hold(tx, hold)
        await ledger.settle_hold(tx, cast.owner, generation, Nanos(7))
    return generation


async def test_a_database_that_is_away_is_no_difference(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def away(*_: object) -> None:
        raise Unavailable("The database does not answer.")

    monkeypatch.setattr(database, "snapshot", away)
    assert await BooksCheck(database).run() == CHECK_SECONDS
    assert [record.levelname for record in caplog.records] == ["WARNING"]
