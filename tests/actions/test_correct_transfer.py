"""A correction is a transfer of its own that names what it corrects, proposed by one operator and confirmed by another."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from bursar import actions, audit, identity, ledger, reports
from bursar.actions import NotAnOperator, ReasonMissing, SecondOperatorNeeded
from bursar.kernel.ids import GenerationId
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.ledger import (
    CannotCorrect,
    Correction,
    CorrectionDecided,
    CorrectionState,
    NoSuchCorrection,
    NoSuchTransfer,
)
from bursar.storage import SYSTEM, Database, Scope
from tests.conftest import Cast
from tests.rooms.books import hold_of

pytestmark = pytest.mark.anyio

CHARGE = "charge-gen-1"
PAT, QUINN = "pat@example.com", "quinn@example.com"
CREDIT = NANOS_PER_CREDIT


@dataclass
class Office:
    """Acme had 10 credits and paid 4 for one request. Pat is an operator."""

    database: Database
    cast: Cast

    async def propose(self, amount: int | None = None, transfer: str = CHARGE, operator: str = PAT) -> Correction:
        return await actions.propose_correction(
            self.database,
            owner=self.cast.owner,
            transfer=transfer,
            amount=None if amount is None else Nanos(amount),
            reason="the price was  wrong",
            operator=operator,
        )

    async def confirm(self, correction: Correction, operator: str = PAT, alone: bool = True) -> ledger.Transfer:
        return await actions.confirm_correction(self.database, correction=correction.id, operator=operator, alone=alone)

    async def available(self) -> int:
        async with self.database.snapshot(SYSTEM) as snapshot:
            assert (await ledger.verify(snapshot)).drift == 0
            return (await ledger.balance(snapshot, self.cast.owner)).available

    async def hire(self, email: str) -> None:
        async with self.database.begin(SYSTEM) as tx:
            await identity.add_user(tx, email=email, name="Op", password_hash=None, verified=True, is_operator=True)


@pytest.fixture
async def office(database: Database, cast: Cast) -> Office:
    async with database.begin(SYSTEM) as tx:
        await ledger.open_hold(tx, hold_of(cast.owner, "gen-1", 4 * CREDIT))
        await ledger.settle_hold(tx, cast.owner, GenerationId("gen-1"), Nanos(4 * CREDIT))
    made = Office(database, cast)
    await made.hire(PAT)
    return made


async def grants(office: Office) -> str:
    async with office.database.snapshot(SYSTEM) as snapshot:
        [granted] = await ledger.list_transfers(
            snapshot, office.cast.owner, [ledger.TransferKind.GRANT], datetime.min.replace(tzinfo=UTC), snapshot.now
        )
    return granted.transfer.id


async def test_nothing_moves_until_another_operator_confirms(office: Office):
    await office.hire(QUINN)
    made = await office.propose(3 * CREDIT)
    assert await office.available() == 6 * CREDIT
    with pytest.raises(SecondOperatorNeeded) as refused:
        await office.confirm(made)
    assert refused.value.remedy == f"Ask {QUINN}."
    assert await office.available() == 6 * CREDIT
    posted = await office.confirm(made, QUINN, alone=False)
    assert await office.available() == 9 * CREDIT
    assert (posted.id, posted.reference, posted.reason) == (made.id, CHARGE, "the price was wrong")


async def test_the_only_operator_confirms_alone_by_saying_so(office: Office):
    made = await office.propose()
    with pytest.raises(SecondOperatorNeeded, match="yourself"):
        await office.confirm(made, alone=False)
    await office.confirm(made, alone=True)
    assert await office.available() == 10 * CREDIT


async def test_the_charge_stands_as_it_was_and_the_customer_reads_the_correction_with_its_reason(office: Office):
    made = await office.propose(CREDIT)
    await office.confirm(made)
    async with office.database.snapshot(Scope(office.cast.owner)) as snapshot:
        billing = await reports.billing(snapshot, office.cast.owner, None)
        totals = await reports.credit_totals(snapshot, office.cast.owner)
        balance = await ledger.balance(snapshot, office.cast.owner)
    row = next(row for row in billing.rows if row.kind == "correction")
    assert (row.amount, row.reason, row.corrects) == (CREDIT, "the price was wrong", CHARGE)
    assert totals.total_credits - totals.total_usage == balance.total == 7 * CREDIT
    assert balance.spent == 4 * CREDIT, "the charge is not changed"
    assert billing.closing == balance.total


async def test_a_grant_is_taken_back_and_taking_back_is_itself_corrected(office: Office):
    given = await grants(office)
    back = await office.propose(2 * CREDIT, given)
    await office.confirm(back)
    assert await office.available() == 4 * CREDIT
    async with office.database.snapshot(Scope(office.cast.owner)) as snapshot:
        billing = await reports.billing(snapshot, office.cast.owner, None)
    assert next(row.amount for row in billing.rows if row.kind == "correction") == -2 * CREDIT
    again = await office.propose(None, back.id)
    await office.confirm(again)
    assert await office.available() == 6 * CREDIT


async def test_no_more_than_is_there_is_taken_back_and_the_proposal_stays(office: Office):
    made = await office.propose(7 * CREDIT, await grants(office))
    with pytest.raises(ledger.InsufficientFunds):
        await office.confirm(made)
    assert await office.available() == 6 * CREDIT
    async with office.database.snapshot(SYSTEM) as snapshot:
        found = await ledger.find_correction(snapshot, made.id)
    assert found is not None
    assert found.state is CorrectionState.PROPOSED


async def test_corrections_never_exceed_what_they_correct_in_all(office: Office):
    await office.confirm(await office.propose(3 * CREDIT))
    waiting = await office.propose(CREDIT // 2)
    with pytest.raises(CannotCorrect, match=r"\$0\.500000000 can be corrected"):
        await office.propose(CREDIT)
    await actions.withdraw_correction(office.database, correction=waiting.id, operator=PAT)
    await office.confirm(await office.propose(CREDIT))
    with pytest.raises(CannotCorrect, match=r"\$0\.000000000"):
        await office.propose()
    assert await office.available() == 10 * CREDIT


async def test_a_correction_is_decided_once(office: Office):
    made = await office.propose(CREDIT)
    await office.confirm(made)
    with pytest.raises(CorrectionDecided, match="posted before"):
        await office.confirm(made)
    with pytest.raises(CorrectionDecided):
        await actions.withdraw_correction(office.database, correction=made.id, operator=PAT)
    assert await office.available() == 7 * CREDIT


async def test_what_cannot_be_corrected_is_refused(office: Office):
    for transfer, refusal in (("hold-gen-1", CannotCorrect), ("charge-gen-9", NoSuchTransfer)):
        with pytest.raises(refusal):
            await office.propose(1, transfer)
    for amount in (0, -1, 4 * CREDIT + 1):
        with pytest.raises(CannotCorrect):
            await office.propose(amount)
    with pytest.raises(NotAnOperator):
        await office.propose(1, operator=office.cast.admin.email)
    with pytest.raises(NotAnOperator):
        await office.confirm(await office.propose(1), operator=office.cast.admin.email)
    with pytest.raises(NoSuchCorrection):
        await actions.withdraw_correction(office.database, correction="tr_nothing", operator=PAT)
    for reason in ("", "  ", "x" * 501):
        with pytest.raises(ReasonMissing):
            await actions.propose_correction(
                office.database, owner=office.cast.owner, transfer=CHARGE, amount=None, reason=reason, operator=PAT
            )
    assert await office.available() == 6 * CREDIT


async def test_both_steps_stand_in_the_audit_log_with_who_did_them(office: Office):
    await office.hire(QUINN)
    made = await office.propose(CREDIT)
    await office.confirm(made, QUINN)
    async with office.database.snapshot(SYSTEM) as snapshot:
        confirmed, proposed, *_ = await audit.list_events(snapshot, office.cast.owner)
        people = {each.id: each.email for each in await identity.list_operators(snapshot)}
    assert (proposed.action, proposed.subject, confirmed.action) == (
        "correction.proposed",
        made.id,
        "correction.confirmed",
    )
    assert [people.get(each.actor.user or "") for each in (proposed, confirmed)] == [PAT, QUINN]
    assert proposed.details["reason"] == "the price was wrong"


async def test_of_eight_proposals_at_once_no_more_succeed_than_there_is_to_correct(office: Office):
    outcomes = await asyncio.gather(*(office.propose(CREDIT) for _ in range(8)), return_exceptions=True)
    made = [each for each in outcomes if isinstance(each, Correction)]
    assert len(made) == 4
    assert {type(each) for each in outcomes} == {Correction, CannotCorrect}
    await asyncio.gather(*(office.confirm(each) for each in made))
    assert await office.available() == 10 * CREDIT
