"""The statement: opening + what moved = closing, month by month, and every row's balance follows from the one before."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from bursar import actions, ledger, payments, reports
from bursar.kernel.ids import OrganizationId, OwnerId, new_purchase_id
from bursar.kernel.money import Nanos
from bursar.ledger import OpenHold
from bursar.processors import EventKind, SandboxProcessor
from bursar.reports import Billing, CreditTotals
from bursar.storage import SYSTEM, Scope
from tests.conftest import SECRET
from tests.reports.conftest import NOW, History

pytestmark = pytest.mark.anyio


def at(month: int, day: int, hour: int = 12) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


async def buy(history: History, moment: datetime, credits_bought: int) -> None:
    history.clock.set(moment)
    sandbox = SandboxProcessor(SECRET)
    purchase = new_purchase_id(moment)
    admin = history.cast.actor(history.cast.admin)
    await actions.start_purchase(
        history.database, sandbox, admin, owner=history.owner, purchase=purchase, amount=str(credits_bought)
    )
    body, signature = sandbox.event(EventKind.PAID, purchase, Nanos(credits_bought * 10**9))
    await actions.receive_event(history.database, sandbox, body, signature)


async def statement(history: History, month: str | None) -> Billing:
    return await history.see(lambda snapshot: reports.billing(snapshot, history.owner, month))


@pytest.fixture
async def quarter(history: History) -> History:
    """Acme was granted 10 credits on September 1; it then bought and used some until November 24."""
    await history.serve(at(9, 1, 10), 1_000)
    await history.serve(at(9, 30, 23), 2_000)
    await history.serve(at(10, 1, 0), 4_000)
    await buy(history, at(10, 15), 25)
    await history.serve(at(10, 15, 11), 8_000)
    await history.serve(at(10, 15, 18), 16_000)
    await history.grant(at(10, 31, 23), 500)
    await history.serve(at(11, 24, 9), 32_000)
    await history.serve(at(11, 24, 10), 0)
    history.clock.set(NOW)
    return history


async def test_three_months_follow_one_another_and_each_row_from_the_one_before(quarter: History):
    months = [await statement(quarter, f"2026-{number:02}") for number in (9, 10, 11)]
    assert [found.month for found in months] == ["2026-09", "2026-10", "2026-11"]
    assert months[0].opening == 0
    for earlier, later in pairwise(months):
        assert earlier.closing == later.opening
    assert months[-1].closing == months[-1].balance.total
    for found in months:
        running = found.opening
        for row in reversed(found.rows):
            running += row.amount
            assert row.after == running
            assert row.after >= 0
        assert running == found.closing
        assert [row.at for row in found.rows] == sorted((row.at for row in found.rows), reverse=True)


async def test_the_rows_are_purchases_grants_and_usage_by_day(quarter: History):
    rows = (await statement(quarter, "2026-10")).rows
    assert [(row.kind, row.amount, row.requests) for row in rows] == [
        ("grant", 500, None),
        ("usage", -24_000, 2),
        ("purchase", 25_000_000_000, None),
        ("usage", -4_000, 1),
    ]
    assert rows[0].reason == "more"
    assert (rows[2].reference or "").startswith("pur_")
    (only,) = (await statement(quarter, "2026-11")).rows
    assert (only.amount, only.requests, only.at) == (-32_000, 2, NOW)


async def test_one_can_turn_to_the_months_that_have_something_and_no_further(quarter: History):
    first, second, present = [await statement(quarter, f"2026-{number:02}") for number in (9, 10, 11)]
    assert (first.earlier, first.later) == (None, "2026-10")
    assert (second.earlier, second.later) == ("2026-09", "2026-11")
    assert (present.earlier, present.later) == ("2026-10", None)


async def test_a_month_that_is_none_or_has_not_come_is_the_present_one(quarter: History):
    for month in (None, "", "x", "2026-13", "2027-01", "9999-12", "2026-11-01", "2026-11; --", "\x00", "12-2026", "०"):
        found = await statement(quarter, month)
        assert (found.month, found.closing) == ("2026-11", found.balance.total)


async def test_a_month_long_before_everything_is_empty(quarter: History):
    for month in ("0001-01", "1969-12", "2026-08"):
        found = await statement(quarter, month)
        assert (found.opening, found.closing, list(found.rows), found.earlier) == (0, 0, [], None)


async def test_what_a_running_request_holds_is_neither_spent_nor_gone(quarter: History):
    before = await statement(quarter, None)
    async with quarter.database.begin(Scope(quarter.owner)) as tx:
        user = quarter.cast.admin.id
        await ledger.open_hold(
            tx, OpenHold(quarter.owner, "gen-running", Nanos(700), "node", "v1", None, user, "demo/echo-1", tx.now)
        )
    after = await statement(quarter, None)
    assert (after.balance.held, after.balance.total) == (700, before.balance.total)
    assert (after.opening, after.closing, after.rows) == (before.opening, before.closing, before.rows)
    assert await quarter.see(lambda snapshot: reports.credit_totals(snapshot, quarter.owner)) == CreditTotals(
        Nanos(35_000_000_500), Nanos(quarter.cost())
    )


async def test_purchases_are_listed_newest_first_whatever_became_of_them(quarter: History):
    quarter.clock.set(NOW)
    admin = quarter.cast.actor(quarter.cast.admin)
    pending = new_purchase_id(NOW)
    await actions.start_purchase(
        quarter.database, SandboxProcessor(SECRET), admin, owner=quarter.owner, purchase=pending, amount="5"
    )
    found = await statement(quarter, None)
    assert [purchase.state for purchase in found.purchases] == [
        payments.PurchaseState.PENDING,
        payments.PurchaseState.PAID,
    ]
    assert found.closing == found.balance.total


async def test_credit_totals_differ_by_what_is_left(quarter: History):
    totals = await quarter.see(lambda snapshot: reports.credit_totals(snapshot, quarter.owner))
    balance = await quarter.see(lambda snapshot: ledger.balance(snapshot, quarter.owner))
    assert totals.total_credits - totals.total_usage == balance.total
    assert totals.total_usage == quarter.cost()
    nothing = await quarter.see(lambda snapshot: reports.credit_totals(snapshot, OwnerId("org_none")))
    assert nothing == CreditTotals(Nanos(0), Nanos(0))


# The switcher and people.


async def test_the_switcher_shows_the_personal_account_first_then_organizations_by_name(quarter: History):
    cast = quarter.cast
    await actions.create_organization(
        quarter.database, cast.actor(cast.member), creator=cast.member.id, name="aardvark", slug="aardvark"
    )
    async with quarter.database.snapshot(SYSTEM) as snapshot:
        entries = await reports.contexts_of(snapshot, cast.member)
        of_stranger = await reports.contexts_of(snapshot, cast.stranger)
    assert [(entry.name, entry.slug, entry.context.role.value) for entry in entries] == [
        ("Personal account", None, "personal"),
        ("aardvark", "aardvark", "admin"),
        ("Acme Robotics", "acme", "member"),
    ]
    assert [entry.balance.total for entry in entries] == [0, 0, 35_000_000_500 - quarter.cost()]
    assert [entry.organization for entry in entries] == [None, OrganizationId(entries[1].context.owner), cast.acme.id]
    assert len(of_stranger) == 1
    assert reports.resolve_context(entries, "acme") is entries[2]
    assert reports.resolve_context(entries, None) is entries[0]
    refusals = []
    for slug in ("globex", "", "ACME"):
        with pytest.raises(reports.NoSuchContext) as refusal:
            reports.resolve_context(of_stranger if slug == "" else entries, slug)
        refusals.append(str(refusal.value))
    assert len(set(refusals)) == 1


async def test_a_member_is_told_which_admins_to_ask_longest_serving_first(quarter: History):
    from bursar import organizations
    from bursar.access import Role

    cast = quarter.cast
    async with quarter.database.begin(SYSTEM) as tx:
        await organizations.add_member(tx, cast.acme.id, cast.stranger.id, Role.ADMIN)
    admins = await quarter.see(lambda snapshot: reports.admins_of(snapshot, cast.acme.id))
    assert [(person.name, person.email) for person in admins] == [
        ("Ana Test", "ana@example.com"),
        ("Sasha Test", "sasha@example.com"),
    ]


async def test_credits_that_moved_stand_in_both_statements_and_in_both_totals(quarter: History):
    theirs = OwnerId(quarter.cast.member.id)
    async with quarter.database.begin(SYSTEM) as tx:
        await ledger.move(tx, quarter.owner, theirs, Nanos(900), name="mov_1", reason="asked for")
    mine = await statement(quarter, None)
    assert (mine.rows[0].kind, mine.rows[0].amount, mine.rows[0].reason) == ("move", -900, "asked for")
    assert mine.rows[0].after == mine.closing == mine.balance.total
    async with quarter.database.snapshot(Scope(theirs)) as snapshot:
        other = await reports.billing(snapshot, theirs, None)
        assert await reports.credit_totals(snapshot, theirs) == CreditTotals(Nanos(900), Nanos(0))
    assert [(row.kind, row.amount, row.after) for row in other.rows] == [("move", 900, 900)]
    totals = await quarter.see(lambda snapshot: reports.credit_totals(snapshot, quarter.owner))
    assert totals.total_credits - totals.total_usage == mine.balance.total
