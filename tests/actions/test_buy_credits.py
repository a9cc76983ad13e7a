"""Buying credits: who may, for how much, and that an event pays once however it arrives."""

import asyncio
import json

import pytest
from sqlalchemy import text

from bursar import actions, audit, ledger, payments
from bursar.access import Actor, PermissionDenied
from bursar.actions import PurchasesOff
from bursar.kernel.errors import Conflict, InvalidField, NotFound
from bursar.kernel.ids import OwnerId, PurchaseId, new_purchase_id
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.payments import Purchase, PurchaseState
from bursar.processors import EventKind, InvalidEvent, SandboxProcessor
from bursar.storage import SYSTEM, Database, Scope
from tests.conftest import SECRET, Cast

pytestmark = pytest.mark.anyio

TEN = Nanos(10 * NANOS_PER_CREDIT)
SANDBOX = SandboxProcessor(SECRET)


@pytest.fixture
def purchase(database: Database) -> PurchaseId:
    return new_purchase_id(database.clock.now())


async def start(database: Database, cast: Cast, purchase: PurchaseId, amount: str = "25", **other) -> str:
    given = {"actor": cast.actor(cast.admin), "owner": cast.owner, "processor": SANDBOX} | other
    checkout = await actions.start_purchase(
        database, given["processor"], given["actor"], owner=given["owner"], purchase=purchase, amount=amount
    )
    return checkout.url


async def receive(
    database: Database, purchase: PurchaseId, kind: EventKind = EventKind.PAID, credits_paid: int = 25
) -> Purchase | None:
    body, signature = SANDBOX.event(kind, purchase, Nanos(credits_paid * NANOS_PER_CREDIT))
    return await actions.receive_event(database, SANDBOX, body, signature)


async def available(database: Database, owner: OwnerId) -> int:
    async with database.snapshot(Scope(owner)) as snapshot:
        return (await ledger.balance(snapshot, owner)).available


async def state(database: Database, cast: Cast, purchase: PurchaseId) -> PurchaseState:
    async with database.snapshot(Scope(cast.owner)) as snapshot:
        return (await payments.get_purchase(snapshot, cast.owner, purchase)).state


async def actions_recorded(database: Database, owner: OwnerId) -> list[str]:
    async with database.snapshot(SYSTEM) as snapshot:
        return [event.action for event in await audit.list_events(snapshot, owner)]


async def test_an_admin_buys_and_the_credits_come_with_the_event(database: Database, cast: Cast, purchase: PurchaseId):
    assert await start(database, cast, purchase, "$25.50") == f"/sandbox/checkout/{purchase}"
    assert await state(database, cast, purchase) is PurchaseState.PENDING
    assert await available(database, cast.owner) == TEN
    body, signature = SANDBOX.event(EventKind.PAID, purchase, Nanos(25_500_000_000))
    paid = await actions.receive_event(database, SANDBOX, body, signature)
    assert paid is not None
    assert (paid.state, paid.amount, paid.created_by) == (PurchaseState.PAID, 25_500_000_000, cast.admin.id)
    assert await available(database, cast.owner) == 35_500_000_000
    assert (await actions_recorded(database, cast.owner))[:2].count("purchase.paid") == 1
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await ledger.verify(snapshot)).drift == 0


async def test_a_member_is_refused_and_told_which_admins_to_ask(database: Database, cast: Cast, purchase: PurchaseId):
    with pytest.raises(PermissionDenied) as refusal:
        await start(database, cast, purchase, actor=cast.actor(cast.member))
    assert refusal.value.status == 403
    assert refusal.value.remedy == "Your admins: Ana Test (ana@example.com)."
    with pytest.raises(NotFound):
        await state(database, cast, purchase)


async def test_a_stranger_is_answered_as_if_the_organization_were_not_there(
    database: Database, cast: Cast, purchase: PurchaseId
):
    refusals = []
    for owner in (cast.owner, OwnerId("org_none")):
        with pytest.raises(NotFound) as refusal:
            await start(database, cast, purchase, actor=cast.actor(cast.stranger), owner=owner)
        refusals.append((str(refusal.value), refusal.value.remedy))
    assert refusals[0] == refusals[1]


async def test_a_person_buys_for_themselves_and_for_nobody_else(database: Database, cast: Cast, purchase: PurchaseId):
    mine = OwnerId(cast.member.id)
    await start(database, cast, purchase, actor=cast.actor(cast.member), owner=mine)
    await receive(database, purchase)
    assert await available(database, mine) == 25 * NANOS_PER_CREDIT
    assert await available(database, cast.owner) == TEN
    with pytest.raises(NotFound):
        await start(database, cast, purchase, actor=cast.actor(cast.admin), owner=mine)


async def test_where_purchases_are_off_not_even_an_admin_buys(database: Database, cast: Cast, purchase: PurchaseId):
    with pytest.raises(PurchasesOff) as refusal:
        await start(database, cast, purchase, processor=None)
    assert "operator" in (refusal.value.remedy or "")


@pytest.mark.parametrize(
    "amount", ["", "x", "0", "-25", "4.99", "25000.01", "25.001", "1e9", "NaN", "inf", "25\x00", "9" * 100_000], ids=len
)
def test_an_amount_that_cannot_be_bought_is_refused_by_its_field(amount: str):
    with pytest.raises(InvalidField) as refusal:
        payments.require_amount(amount)
    assert refusal.value.field == "amount"


async def test_a_purchase_of_an_amount_that_cannot_be_bought_is_not_started(
    database: Database, cast: Cast, purchase: PurchaseId
):
    for amount in ("4.99", "nonsense"):
        with pytest.raises(InvalidField):
            await start(database, cast, purchase, amount)
    with pytest.raises(NotFound):
        await state(database, cast, purchase)


async def test_a_double_click_is_one_purchase_and_another_amount_under_its_id_is_refused(
    database: Database, cast: Cast, purchase: PurchaseId
):
    urls = await asyncio.gather(*(start(database, cast, purchase) for _ in range(5)))
    assert len(set(urls)) == 1
    with pytest.raises(Conflict) as refusal:
        await start(database, cast, purchase, "26")
    assert refusal.value.status == 409
    async with database.snapshot(SYSTEM) as snapshot:
        assert [found.amount for found in await payments.list_purchases(snapshot, cast.owner)] == [25_000_000_000]


async def test_an_event_that_arrives_ten_times_at_once_pays_once(database: Database, cast: Cast, purchase: PurchaseId):
    await start(database, cast, purchase)
    results = await asyncio.gather(*(receive(database, purchase) for _ in range(10)))
    assert {result.state for result in results if result} == {PurchaseState.PAID}
    assert await available(database, cast.owner) == TEN + 25 * NANOS_PER_CREDIT
    assert (await actions_recorded(database, cast.owner)).count("purchase.paid") == 1


async def test_what_was_cancelled_and_then_paid_is_paid_and_stays_so(
    database: Database, cast: Cast, purchase: PurchaseId
):
    await start(database, cast, purchase)
    await receive(database, purchase, EventKind.CANCELLED)
    assert await state(database, cast, purchase) is PurchaseState.CANCELLED
    assert await available(database, cast.owner) == TEN
    await receive(database, purchase)
    await receive(database, purchase, EventKind.CANCELLED)
    assert await state(database, cast, purchase) is PurchaseState.PAID
    assert await available(database, cast.owner) == TEN + 25 * NANOS_PER_CREDIT


async def test_paying_and_cancelling_at_once_always_ends_paid_once(
    database: Database, cast: Cast, purchase: PurchaseId
):
    await start(database, cast, purchase)
    kinds = [EventKind.PAID, EventKind.CANCELLED] * 5
    await asyncio.gather(*(receive(database, purchase, kind) for kind in kinds))
    assert await state(database, cast, purchase) is PurchaseState.PAID
    assert await available(database, cast.owner) == TEN + 25 * NANOS_PER_CREDIT


async def test_an_event_with_a_wrong_signature_is_refused(database: Database, cast: Cast, purchase: PurchaseId):
    await start(database, cast, purchase)
    body, _ = SANDBOX.event(EventKind.PAID, purchase, Nanos(25 * NANOS_PER_CREDIT))
    for signature in ("", "0" * 64, "é", "\ud800"):
        with pytest.raises(InvalidEvent):
            await actions.receive_event(database, SANDBOX, body, signature)
    assert await available(database, cast.owner) == TEN


async def test_an_event_signed_for_another_purchase_body_or_installation_is_refused(
    database: Database, cast: Cast, purchase: PurchaseId
):
    await start(database, cast, purchase)
    body, signature = SANDBOX.event(EventKind.PAID, purchase, Nanos(25 * NANOS_PER_CREDIT))
    _, of_another = SANDBOX.event(EventKind.PAID, PurchaseId("pur_x"), Nanos(25 * NANOS_PER_CREDIT))
    _, elsewhere = SandboxProcessor(SECRET + b".").event(EventKind.PAID, purchase, Nanos(25 * NANOS_PER_CREDIT))
    for wrong_body, wrong_signature in ((body, of_another), (body, elsewhere), (body + b" ", signature)):
        with pytest.raises(InvalidEvent):
            await actions.receive_event(database, SANDBOX, wrong_body, wrong_signature)
    assert await available(database, cast.owner) == TEN


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b"\xff", b'{"id": 1}', b'{"kind": "paid"}', b'"x"', b"7"])
def test_a_signed_event_that_cannot_be_read_is_refused(body: bytes):
    with pytest.raises(InvalidEvent):
        SANDBOX.read_event(body, SANDBOX._sign(body))


def test_a_sandbox_event_reads_back_what_was_said():
    body, signature = SANDBOX.event(EventKind.CANCELLED, PurchaseId("pur_1"), TEN)
    event = SANDBOX.read_event(body, signature)
    assert (event.kind, event.purchase, event.amount) == (EventKind.CANCELLED, "pur_1", TEN)
    assert json.loads(body)["id"] == event.id


async def test_another_amount_than_was_asked_for_is_refused_and_the_right_one_still_pays(
    database: Database, cast: Cast, purchase: PurchaseId
):
    await start(database, cast, purchase)
    for credits_paid in (24, 26, 0, -25):
        with pytest.raises(InvalidEvent, match="amount"):
            await receive(database, purchase, credits_paid=credits_paid)
    assert await available(database, cast.owner) == TEN
    await receive(database, purchase)
    assert await available(database, cast.owner) == TEN + 25 * NANOS_PER_CREDIT


async def test_an_event_of_a_purchase_that_is_not_ours_or_not_this_processors_changes_nothing(
    database: Database, cast: Cast, purchase: PurchaseId
):
    assert await receive(database, PurchaseId("pur_unknown")) is None
    await start(database, cast, purchase)
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text("UPDATE purchases SET processor = 'other'"))
    assert await receive(database, purchase) is None
    assert await available(database, cast.owner) == TEN


async def test_one_purchase_id_never_means_two_owners_purchases(database: Database, cast: Cast, purchase: PurchaseId):
    await start(database, cast, purchase)
    with pytest.raises(NotFound):
        await start(database, cast, purchase, actor=cast.actor(cast.stranger), owner=OwnerId(cast.stranger.id))
    await receive(database, purchase)
    assert await available(database, OwnerId(cast.stranger.id)) == 0
    assert await available(database, cast.owner) == TEN + 25 * NANOS_PER_CREDIT


async def test_a_purchase_is_not_read_through_another_owner(database: Database, cast: Cast, purchase: PurchaseId):
    await start(database, cast, purchase)
    async with database.snapshot(SYSTEM) as snapshot:
        with pytest.raises(NotFound):
            await payments.get_purchase(snapshot, OwnerId(cast.stranger.id), purchase)
        assert list(await payments.list_purchases(snapshot, OwnerId(cast.stranger.id))) == []


async def test_a_grant_repeated_under_its_id_counts_once(database: Database, cast: Cast):
    async def grant(amount: int) -> str:
        return await actions.grant_credits(
            database, Actor.operator(), owner=cast.owner, amount=Nanos(amount), reason="monthly", transfer_id="tr_11"
        )

    assert set(await asyncio.gather(*(grant(5) for _ in range(5)))) == {"tr_11"}
    with pytest.raises(Conflict):
        await grant(6)
    assert await available(database, cast.owner) == TEN + 5
    assert (await actions_recorded(database, cast.owner)).count("credits.granted") == 2
