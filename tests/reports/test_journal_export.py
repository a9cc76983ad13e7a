"""The books as other programs read them: real beancount checks them and comes to the same balances."""

import csv
import io
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from bursar import actions, ledger, reports
from bursar.access import Actor
from bursar.kernel.clock import FixedClock
from bursar.kernel.ids import GenerationId, OwnerId
from bursar.kernel.money import Nanos
from bursar.ledger import Batch, Settlement
from bursar.reports import ExportFormat, ExportRange
from bursar.storage import SYSTEM, Database
from tests.conftest import make_cast
from tests.rooms.books import ONE, hold_of
from tests.support.clients import run_client

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
OP = "op@example.com"


@dataclass
class Books:
    """Four days of every kind of transfer: on the first Acme got 10 credits, on the second requests were charged and one was more
    than anybody could pay, on the third a person got credits, on the fourth a charge was corrected."""

    database: Database
    owner: OwnerId
    person: OwnerId
    begun: datetime

    async def export(self, format_: ExportFormat, **wanted: Any) -> str:
        async with self.database.snapshot(SYSTEM) as snapshot:
            return "".join([piece async for piece in reports.export_journal(snapshot, ExportRange(**wanted), format_)])

    async def balances(self) -> dict[str, int]:
        async with self.database.snapshot(SYSTEM) as snapshot:
            found = await ledger.verify(snapshot)
        assert found.drift == 0
        return {account: amount for account, amount in found.balances.items() if amount}


@pytest.fixture
async def books(fixed_database: Database, fixed_clock: FixedClock) -> Books:
    database, clock = fixed_database, fixed_clock
    begun = clock.now()
    cast = await make_cast(database)
    owner, person = cast.owner, OwnerId(cast.stranger.id)
    clock.set(begun + DAY)
    async with database.begin(SYSTEM) as tx:
        await ledger.register_worker(tx, ONE, "node_a")
        await ledger.lease(tx, owner, ONE, Nanos(5_000_000_000), transfer_id="lease-1")
        charges = [("gen-1", 25), ("gen-2", 123_456_789), ("gen-3", 20_000_000_000)]
        made = [Settlement(owner, GenerationId(name), Nanos(cost)) for name, cost in charges]
        await ledger.apply_batch(tx, ONE, Batch(1, 3, made))
    clock.set(begun + 2 * DAY)
    await actions.grant_credits(
        database, Actor.operator(), owner=person, amount=Nanos(7), reason='a "gift" \\ of\nmore', transfer_id="tr_gift"
    )
    async with database.begin(SYSTEM) as tx:
        await ledger.open_hold(tx, hold_of(person, "gen-9", 4))
    await add_operator(database)
    clock.set(begun + 3 * DAY)
    made = await actions.propose_correction(
        database, owner=owner, transfer="charge-gen-2", amount=Nanos(9), reason="=1+1", operator=OP
    )
    await actions.confirm_correction(database, correction=made.id, operator=OP, alone=True)
    return Books(database, owner, person, begun)


async def add_operator(database: Database) -> None:
    await actions.add_user(
        database, Actor.operator(), email=OP, name="Op", public_url="http://x", verified=True, is_operator=True
    )


def account(owner: str, name: str) -> str:
    return f"{owner.replace('_', '-').capitalize()}:{name}"


def expected(books: Books, balances: dict[str, int]) -> dict[str, Decimal]:
    """What beancount should say, which counts debits positive: the signs are the other way round."""
    mine, theirs = books.owner, books.person
    return {
        f"Liabilities:{account(theirs, 'Credits')}": Decimal("-0.000000003"),
        f"Liabilities:{account(theirs, 'Held')}": Decimal("-0.000000004"),
        f"Liabilities:{account(mine, 'Credits')}": Decimal("-0.000000009"),
        f"Income:{account(mine, 'Usage')}": Decimal(-10),
        "Expenses:Grants": Decimal("10.000000007"),
        "Expenses:Corrections": Decimal("0.000000009"),
        "Expenses:Losses": Decimal(balances["system:house"]).scaleb(-9),
        "Liabilities:House": -Decimal(balances["system:house"]).scaleb(-9),
    }


def nonzero(balances: dict[str, str]) -> dict[str, Decimal]:
    return {name: Decimal(amount) for name, amount in balances.items() if Decimal(amount)}


async def test_beancount_accepts_the_journal_and_comes_to_the_same_balances(books: Books):
    found = run_client("beancount", "beancount_check.py", {}, given=await books.export("beancount"))
    assert (found["code"], found["said"], found["errors"]) == (0, "", [])
    balances = await books.balances()
    assert balances["system:house"] == 10_123_456_814
    assert nonzero(found["balances"]) == expected(books, balances)
    corrected = [links for _, links in found["links"]]
    assert corrected == [["charge-gen-2"], ["charge-gen-2"]], "the charge and its correction share a link"


async def test_beancount_refuses_the_journal_when_an_amount_in_it_is_changed(books: Books):
    text = (await books.export("beancount")).replace("0.000000025 USD", "0.000000026 USD", 1)
    assert run_client("beancount", "beancount_check.py", {}, given=text)["code"] != 0


@pytest.mark.parametrize("day", [0, 1, 2, 3])
async def test_a_journal_from_a_day_on_opens_with_what_was_there_and_ends_at_the_same_balances(books: Books, day: int):
    text = await books.export("beancount", since=books.begun + day * DAY)
    found = run_client("beancount", "beancount_check.py", {}, given=text)
    assert (found["code"], found["said"]) == (0, "")
    assert nonzero(found["balances"]) == expected(books, await books.balances())


async def test_a_journal_of_one_owner_has_nobody_elses(books: Books):
    text = await books.export("beancount", owner=books.person, until=books.begun + 3 * DAY)
    assert books.owner not in text
    found = run_client("beancount", "beancount_check.py", {}, given=text)
    assert found["code"] == 0
    assert nonzero(found["balances"]) == {
        f"Liabilities:{account(books.person, 'Credits')}": Decimal("-0.000000003"),
        f"Liabilities:{account(books.person, 'Held')}": Decimal("-0.000000004"),
        "Expenses:Grants": Decimal("0.000000007"),
    }


async def test_credits_that_moved_are_two_transactions_that_share_a_link_and_nothing_stays_in_between(books: Books):
    async with books.database.begin(SYSTEM) as tx:
        await ledger.move(tx, books.owner, books.person, Nanos(5), name="mov_1", reason="asked for")
    found = run_client("beancount", "beancount_check.py", {}, given=await books.export("beancount"))
    assert (found["code"], found["said"], found["errors"]) == (0, "", [])
    assert [links for _, links in found["links"]].count(["mov_1"]) == 2
    assert Decimal(found["balances"]["Equity:Moves"]) == 0
    assert Decimal(found["balances"][f"Liabilities:{account(books.person, 'Credits')}"]) == Decimal("-0.000000008")


async def test_an_empty_journal_is_one_too(books: Books):
    text = await books.export("beancount", since=books.begun - 9 * DAY, until=books.begun - 8 * DAY)
    assert run_client("beancount", "beancount_check.py", {}, given=text)["code"] == 0


async def test_csv_has_two_rows_for_each_transfer_whose_amounts_add_up_exactly(books: Books, monkeypatch: Any):
    monkeypatch.setattr("bursar.reports.journal_export.PAGE", 2)
    text = await books.export("csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    by_transfer: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    by_account: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        by_transfer[row["owner"], row["transfer"]].append(Decimal(row["amount"]))
        by_account[row["account"]] += Decimal(row["amount"])
    assert all(len(amounts) == 2 and sum(amounts) == 0 for amounts in by_transfer.values())
    found = {name: int(amount.scaleb(9)) for name, amount in by_account.items() if amount}
    assert found == await books.balances()
    [_, correction] = [row for row in rows if row["kind"] == "correction"]
    assert (correction["corrects"], correction["amount"]) == ("charge-gen-2", "0.000000009")
    assert correction["reason"] == "'=1+1", "no formula for a spreadsheet"
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    later = list(csv.DictReader(io.StringIO(await books.export("csv", since=books.begun + DAY))))
    assert {row["kind"] for row in later[:2]} == {"opening"}
    total: dict[str, Decimal] = defaultdict(Decimal)
    for row in later:
        total[row["account"]] += Decimal(row["amount"])
    assert {name: int(amount.scaleb(9)) for name, amount in total.items() if amount} == await books.balances()


async def test_an_owner_is_found_by_slug_address_or_id(books: Books):
    async with books.database.snapshot(SYSTEM) as snapshot:
        for name in ("acme", books.owner):
            assert await reports.find_owner(snapshot, name) == books.owner
        for name in ("Sasha@example.com", books.person):
            assert await reports.find_owner(snapshot, name) == books.person
        with pytest.raises(reports.NoOwner):
            await reports.find_owner(snapshot, "nobody")
