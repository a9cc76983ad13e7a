"""Renaming an organization, its seats, and its end: who may, what is refused, what goes with it, and that races do it once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from bursar import actions, audit, identity, keys, ledger, organizations, payments
from bursar.access import Actor, ActorKind, PermissionDenied, Role
from bursar.actions import CreditsInUse, CreditsLeft, Deleted, NothingToSettle, OperatorOnly
from bursar.identity import User
from bursar.kernel.errors import BursarError, InvalidField, NotFound
from bursar.kernel.ids import (
    GenerationId,
    OrganizationId,
    OwnerId,
    UserId,
    WorkerId,
    new_credit_move_id,
    new_purchase_id,
)
from bursar.kernel.money import Nanos
from bursar.keys import KeyChecker
from bursar.ledger import OpenHold
from bursar.organizations import NoSuchOrganization, Organization
from bursar.processors import EventKind, SandboxProcessor
from bursar.storage import SYSTEM, Change, Database
from tests.actions.books import balance, credits_, grant, mailed, recorded, require_right
from tests.conftest import SECRET, Cast

pytestmark = pytest.mark.anyio

SANDBOX = SandboxProcessor(SECRET)
WORKER = WorkerId("node_a.1")
OPERATOR = Actor.operator()


async def change(database: Database, cast: Cast, by: User | None = None, **changes: str) -> Organization:
    actor = cast.actor(by or cast.admin)
    return await actions.update_organization(database, actor, organization=cast.acme.id, **changes)


async def delete(database: Database, cast: Cast, by: User | None = None, confirmation: str = "acme") -> Deleted:
    actor = cast.actor(by or cast.admin)
    return await actions.delete_organization(database, actor, organization=cast.acme.id, confirmation=confirmation)


async def settle(database: Database, cast: Cast, to: OwnerId | None = None, actor: Actor = OPERATOR) -> Nanos:
    return await actions.settle_organization(
        database, actor, organization=cast.acme.id, to=to, reason="The contract ended."
    )


async def make_operator(database: Database, email: str = "olga@example.com") -> User:
    async with database.begin(SYSTEM) as tx:
        return await identity.add_user(
            tx, email=email, name="Olga Test", password_hash=None, verified=True, is_operator=True
        )


# Names, addresses, the billing contact.


async def test_an_admin_changes_name_slug_and_billing_contact_and_the_log_says_what_was_before(
    database: Database, cast: Cast
):
    changed = await change(database, cast, name=" Acme  GmbH ", slug="acme-gmbh", billing_email="bills@acme.example")
    assert (changed.name, changed.slug, changed.billing_email) == ("Acme GmbH", "acme-gmbh", "bills@acme.example")
    async with database.snapshot(SYSTEM) as snapshot:
        assert await organizations.find_by_slug(snapshot, "acme") is None
        assert await organizations.find_by_slug(snapshot, "acme-gmbh") == changed
        events = await details_of(snapshot, cast.owner)
    assert events["organization.changed"] == {
        "name": audit.Change("Acme Robotics", "Acme GmbH"),
        "slug": audit.Change("acme", "acme-gmbh"),
        "billing_email": audit.Change(None, "bills@acme.example"),
    }
    assert (await change(database, cast, billing_email="  ")).billing_email is None


async def details_of(snapshot: Any, owner: OwnerId) -> dict[str, Any]:
    return {event.action: event.details for event in reversed(await audit.list_events(snapshot, owner))}


async def test_what_changes_nothing_is_not_recorded(database: Database, cast: Cast):
    before = await recorded(database, cast.owner)
    await change(database, cast, name="Acme Robotics", slug="acme", billing_email="")
    assert await recorded(database, cast.owner) == before


async def test_a_member_may_not_and_is_told_whom_to_ask_and_a_stranger_finds_nothing(database: Database, cast: Cast):
    with pytest.raises(PermissionDenied) as refusal:
        await change(database, cast, cast.member, name="Mine")
    assert refusal.value.remedy == "Your admins: Ana Test (ana@example.com)."
    for verb in (change(database, cast, cast.stranger, name="Mine"), delete(database, cast, cast.stranger)):
        with pytest.raises(NotFound):
            await verb
    with pytest.raises(PermissionDenied):
        await delete(database, cast, cast.member)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "),
        ("name", "x" * 81),
        ("slug", "A"),
        ("slug", "with space"),
        ("slug", "settings"),
        ("slug", "api"),
        ("billing_email", "nobody"),
        ("billing_email", "a@b.example, c@d.example"),
    ],
)
async def test_what_cannot_be_is_wrong_in_its_field(database: Database, cast: Cast, field: str, value: str):
    with pytest.raises(InvalidField) as refusal:
        await change(database, cast, **{field: value})
    assert refusal.value.field == field


async def test_a_slug_of_an_organization_one_cannot_see_is_taken_and_of_two_at_once_one_gets_it(
    database: Database, cast: Cast
):
    globex = await actions.create_organization(
        database, cast.actor(cast.stranger), creator=cast.stranger.id, name="Globex", slug="globex"
    )
    with pytest.raises(InvalidField) as refusal:
        await change(database, cast, slug="globex")
    assert refusal.value.field == "slug"
    both = await asyncio.gather(
        change(database, cast, slug="newest"),
        actions.update_organization(database, cast.actor(cast.stranger), organization=globex.id, slug="newest"),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in both) == ["Organization", "SlugTaken"]


# Seats.


async def test_the_operator_raises_seats_and_lowers_them_to_those_in_use_and_nobody_else_does(
    database: Database, cast: Cast
):
    olga = await make_operator(database)
    for actor in (cast.actor(cast.admin), Actor(ActorKind.OPERATOR, user=cast.admin.id), Actor.system()):
        with pytest.raises(OperatorOnly):
            await actions.set_seats(database, actor, organization=cast.acme.id, seats=50)
    by_name = Actor(ActorKind.OPERATOR, user=olga.id)
    assert (await actions.set_seats(database, by_name, organization=cast.acme.id, seats=50)).seats_max == 50
    assert (await actions.set_seats(database, OPERATOR, organization=cast.acme.id, seats=2)).seats_max == 2
    for wrong in (1, 0, -1, 100_001):
        with pytest.raises(InvalidField) as refusal:
            await actions.set_seats(database, OPERATOR, organization=cast.acme.id, seats=wrong)
        assert refusal.value.field == "seats"
    with pytest.raises(NoSuchOrganization):
        await actions.set_seats(database, OPERATOR, organization=OrganizationId("org_none"), seats=5)
    async with database.snapshot(SYSTEM) as snapshot:
        details = await details_of(snapshot, cast.owner)
    assert details["organization.seats_changed"] == {"seats": audit.Change(50, 2)}


async def test_somebody_who_joins_while_seats_are_lowered_never_ends_above_the_cap(database: Database, cast: Cast):
    joined, lowered = await asyncio.gather(
        actions.add_member(database, OPERATOR, organization=cast.acme.id, user=cast.stranger.id, role=Role.MEMBER),
        actions.set_seats(database, OPERATOR, organization=cast.acme.id, seats=2),
        return_exceptions=True,
    )
    assert isinstance(joined, BursarError) != isinstance(lowered, BursarError), (joined, lowered)


# The end.


async def test_an_organization_with_credits_stays_and_says_what_is_left(database: Database, cast: Cast):
    with pytest.raises(CreditsLeft) as refusal:
        await delete(database, cast)
    assert (refusal.value.status, refusal.value.ids["left_nanos"]) == (409, credits_(10))
    assert "$10.000000000" in refusal.value.sentence
    assert "operator" in (refusal.value.remedy or "")
    await lease(database, cast.owner, credits_(10))
    with pytest.raises(CreditsLeft):
        await delete(database, cast)


async def lease(database: Database, owner: OwnerId, amount: int) -> None:
    async with database.begin(SYSTEM) as tx:
        await ledger.register_worker(tx, WORKER, "node_a")
        await ledger.lease(tx, owner, WORKER, Nanos(amount), transfer_id=f"tr_lease_{amount}")


async def test_it_is_deleted_only_by_its_slug_typed_again(database: Database, cast: Cast):
    await settle(database, cast)
    for wrong in ("", "acm", "Acme Robotics"):
        with pytest.raises(InvalidField) as refusal:
            await delete(database, cast, confirmation=wrong)
        assert refusal.value.field == "confirmation"
    assert (await delete(database, cast, confirmation=" ACME ")).organization.id == cast.acme.id


async def test_everything_goes_with_it_is_announced_and_answers_as_if_it_had_never_been(
    database: Database, cast: Cast, checker: KeyChecker
):
    made = [
        (await actions.create_key(database, checker, OPERATOR, owner=cast.owner, creator=who.id, name="ci"))[0]
        for who in (cast.admin, cast.member)
    ]
    await settle(database, cast)
    heard: list[Change] = []
    for kind in ("key", "membership", "organization"):
        database.changes.subscribe(kind, heard.append)
    deleted = await delete(database, cast)
    assert (deleted.members, deleted.keys) == (2, 2)
    assert {(change.kind, change.subject) for change in heard} == {
        *(("key", key.hash) for key in made),
        *(("membership", user.id) for user in (cast.admin, cast.member)),
        ("organization", cast.acme.id),
    }
    async with database.snapshot(SYSTEM) as snapshot:
        for name in ("acme", cast.acme.id):
            assert await organizations.find_by_slug(snapshot, name) is None
        assert await organizations.list_organizations(snapshot) == []
        assert await organizations.list_of_user(snapshot, cast.admin.id) == []
        assert await organizations.find_role(snapshot, cast.acme.id, cast.admin.id) is None
        with pytest.raises(NoSuchOrganization):
            await organizations.get_organization(snapshot, cast.acme.id)
        assert await keys.list_keys(snapshot, cast.owner) == []
        found = [await keys.find_by_hash(snapshot, key.hash) for key in made]
        assert not any(key is not None and key.is_usable for key in found)
    assert (await recorded(database, cast.owner))[0] == "organization.deleted"
    assert (await mailed(database))[-1] == ("ana@example.com", "Acme Robotics was deleted")
    for verb in (change(database, cast, name="Back"), delete(database, cast), grant(database, cast.owner, 1)):
        with pytest.raises(NotFound):
            await verb
    again = await actions.create_organization(
        database, cast.actor(cast.stranger), creator=cast.stranger.id, name="Acme", slug="acme"
    )
    assert again.id != cast.acme.id
    await require_right(database)


async def test_a_purchase_that_is_paid_after_the_end_is_credited_and_the_operator_told_and_settles_it(
    database: Database, cast: Cast
):
    olga = await make_operator(database)
    await settle(database, cast)
    purchase = new_purchase_id(database.clock.now())
    await actions.start_purchase(
        database, SANDBOX, cast.actor(cast.admin), owner=cast.owner, purchase=purchase, amount="25"
    )
    assert (await delete(database, cast)).purchases == 1
    async with database.snapshot(SYSTEM) as snapshot:
        found = await payments.get_purchase(snapshot, cast.owner, purchase)
    assert found.state is payments.PurchaseState.CANCELLED
    await actions.receive_event(database, SANDBOX, *SANDBOX.event(EventKind.PAID, purchase, credits_(25)))
    assert (await balance(database, cast.owner)).unleased == credits_(25)
    subject = "A payment arrived for Acme Robotics, which was deleted"
    assert (await mailed(database))[-1] == (olga.email, subject)
    assert await settle(database, cast, to=OwnerId(cast.admin.id)) == credits_(25)
    assert (await balance(database, OwnerId(cast.admin.id))).unleased == credits_(25)
    await require_right(database)


async def at_once(*verbs: Awaitable[Any]) -> list[Any]:
    """Each one's answer, or what it was refused with; anything else is a fault."""
    found = await asyncio.gather(*verbs, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException) and not isinstance(each, BursarError):
            raise each
    return list(found)


async def test_two_who_delete_it_at_once_delete_it_once(database: Database, cast: Cast):
    await settle(database, cast)
    found = await at_once(*(delete(database, cast) for _ in range(5)))
    assert sum(isinstance(each, Deleted) for each in found) == 1
    assert (await recorded(database, cast.owner)).count("organization.deleted") == 1


async def comers(
    database: Database, cast: Cast, checker: KeyChecker
) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    """What may come to an organization at the wrong moment: each brings 5 credits, a key or a member."""
    await grant(database, OwnerId(cast.member.id), 5)
    purchase, move = new_purchase_id(database.clock.now()), new_credit_move_id(database.clock.now())
    await actions.start_purchase(
        database, SANDBOX, cast.actor(cast.admin), owner=cast.owner, purchase=purchase, amount="5"
    )
    await actions.request_credit_move(
        database,
        cast.actor(cast.member),
        owner=OwnerId(cast.member.id),
        move=move,
        organization=cast.acme.id,
        amount="5",
        public_url="https://bursar.example",
        support_email=None,
    )
    return {
        "grant": lambda: grant(database, cast.owner, 5),
        "purchase": lambda: actions.receive_event(
            database, SANDBOX, *SANDBOX.event(EventKind.PAID, purchase, credits_(5))
        ),
        "key": lambda: actions.create_key(
            database, checker, cast.actor(cast.member), owner=cast.owner, creator=cast.member.id, name="late"
        ),
        "member": lambda: actions.add_member(
            database, OPERATOR, organization=cast.acme.id, user=cast.stranger.id, role=Role.MEMBER
        ),
        "move": lambda: actions.answer_credit_move(database, OPERATOR, move=move, answer=actions.Answer.CARRY_OUT),
    }


@pytest.mark.parametrize("what", ["grant", "purchase", "key", "member", "move"])
async def test_what_comes_while_it_is_deleted_is_there_first_or_refused_and_never_lost(
    database: Database, cast: Cast, checker: KeyChecker, what: str
):
    """Credits, keys and members never end up in an organization that is no more, but for a payment, which is told."""
    await settle(database, cast)
    verbs = await comers(database, cast, checker)
    deleted, came = await at_once(delete(database, cast), verbs[what]())
    left = (await balance(database, cast.owner)).total
    async with database.snapshot(SYSTEM) as snapshot:
        alive = await keys.list_keys(snapshot, cast.owner)
        members = await organizations.list_members(snapshot, cast.acme.id)
        mine = (await ledger.balance(snapshot, OwnerId(cast.member.id))).total
    if isinstance(deleted, Deleted):
        assert (alive, members) == ([], [])
        if what == "purchase":
            assert left == credits_(5)
        else:
            assert (left, mine) == (0, credits_(5))
            assert isinstance(came, BursarError) or what in ("key", "member")
    else:
        assert isinstance(deleted, CreditsLeft)
        assert left == credits_(5)
    await require_right(database)


@pytest.mark.parametrize("what", ["grant", "purchase", "key", "member", "move"])
async def test_what_comes_while_a_deletion_is_not_committed_yet_waits_and_is_refused(
    database: Database, cast: Cast, checker: KeyChecker, what: str
):
    verbs = await comers(database, cast, checker)
    async with database.begin(SYSTEM) as tx:
        await organizations.delete(tx, await organizations.get_locked(tx, cast.acme.id))
        task = asyncio.create_task(at_once(verbs[what]()))
        await asyncio.sleep(0.15)
        assert not task.done()
    (came,) = await task
    if what == "purchase":
        assert came.state is payments.PurchaseState.PAID
        assert (await balance(database, cast.owner)).total == credits_(15)
        assert "purchase.paid" in await recorded(database, cast.owner)
    else:
        assert isinstance(came, actions.CannotMove if what == "move" else NotFound)
        assert (await balance(database, cast.owner)).total == credits_(10)
        async with database.snapshot(SYSTEM) as snapshot:
            assert await keys.list_keys(snapshot, cast.owner) == []
            assert await organizations.list_members(snapshot, cast.acme.id) == []
    await require_right(database)


async def test_a_request_that_holds_or_leases_the_last_credits_keeps_it(database: Database, cast: Cast):
    hold = OpenHold(
        cast.owner, GenerationId("gen-1"), credits_(10), "n", "v1", None, UserId("user_1"), "m", database.clock.now()
    )
    async with database.begin(SYSTEM) as tx:
        await ledger.open_hold(tx, hold)
    with pytest.raises(CreditsLeft):
        await delete(database, cast)
    with pytest.raises(CreditsInUse) as refusal:
        await settle(database, cast)
    assert "reserved for requests that run" in refusal.value.sentence
    async with database.begin(SYSTEM) as tx:
        await ledger.settle_hold(tx, cast.owner, hold.generation, credits_(10))
    await delete(database, cast)
    async with database.begin(SYSTEM) as tx:
        await ledger.register_worker(tx, WORKER, "node_a")
        assert await ledger.lease(tx, cast.owner, WORKER, credits_(1), transfer_id="tr_late") == 0
        with pytest.raises(ledger.InsufficientFunds):
            await ledger.open_hold(
                tx,
                OpenHold(
                    cast.owner,
                    GenerationId("gen-2"),
                    credits_(1),
                    "n",
                    "v1",
                    None,
                    UserId("u"),
                    "m",
                    database.clock.now(),
                ),
            )


# Settling.


async def test_the_operator_moves_what_is_left_to_somebody_and_then_it_can_be_deleted(database: Database, cast: Cast):
    mine = OwnerId(cast.admin.id)
    assert await settle(database, cast, to=mine) == credits_(10)
    assert ((await balance(database, cast.owner)).total, (await balance(database, mine)).total) == (0, credits_(10))
    assert (await recorded(database, cast.owner))[0] == "credits.settled"
    assert (await recorded(database, mine))[0] == "credits.received"
    assert (await mailed(database))[-1] == ("ana@example.com", "The credits of Acme Robotics were settled")
    with pytest.raises(NothingToSettle):
        await settle(database, cast)
    await require_right(database)
    await delete(database, cast)


async def test_what_is_written_off_corrects_what_brought_it_and_is_never_more(database: Database, cast: Cast):
    await grant(database, cast.owner, 3)
    async with database.snapshot(SYSTEM) as snapshot:
        latest = (await grants_of(snapshot, cast.owner))[0]
    await correct(database, latest, credits_(1))
    await spend(database, cast.owner, credits_(4))
    assert await settle(database, cast) == credits_(8)
    async with database.snapshot(SYSTEM) as snapshot:
        made = await ledger.list_corrections(snapshot)
    assert sorted(each.amount for each in made) == [credits_(1), credits_(2), credits_(6)]
    assert {each.reason for each in made} == {"twice", "The contract ended."}
    assert (await balance(database, cast.owner)).total == 0
    async with database.snapshot(SYSTEM) as snapshot:  # of the ledger alone: what was spent here has no generation
        assert (await ledger.verify(snapshot)).difference_count == 0


async def grants_of(snapshot: Any, owner: OwnerId) -> list[str]:
    moved = await ledger.list_transfers(
        snapshot, owner, [ledger.TransferKind.GRANT], snapshot.now - timedelta(days=1), snapshot.now + timedelta(days=1)
    )
    return [each.transfer.id for each in moved]


async def correct(database: Database, transfer: str, amount: Nanos) -> None:
    async with database.begin(SYSTEM) as tx:
        owner = (await organizations.list_organizations(tx))[0].id
        made = await ledger.propose_correction(tx, OwnerId(owner), transfer, amount, reason="twice", by=None)
        await ledger.confirm_correction(tx, OwnerId(owner), made.id, by=None)


async def spend(database: Database, owner: OwnerId, amount: Nanos) -> None:
    hold = OpenHold(
        owner, GenerationId("gen-spent"), amount, "n", "v1", None, UserId("user_1"), "m", database.clock.now()
    )
    async with database.begin(SYSTEM) as tx:
        await ledger.open_hold(tx, hold)
        await ledger.settle_hold(tx, owner, hold.generation, amount)


async def test_settling_needs_the_operator_a_reason_and_somebody_who_exists(database: Database, cast: Cast):
    with pytest.raises(OperatorOnly):
        await settle(database, cast, actor=cast.actor(cast.admin))
    with pytest.raises(InvalidField) as refusal:
        await actions.settle_organization(database, OPERATOR, organization=cast.acme.id, to=None, reason=" ")
    assert refusal.value.field == "reason"
    for nobody in (OwnerId("org_none"), OwnerId("user_none")):
        with pytest.raises(NotFound):
            await settle(database, cast, to=nobody)
    with pytest.raises(InvalidField):
        await settle(database, cast, to=cast.owner)
    assert (await balance(database, cast.owner)).total == credits_(10)


async def test_what_is_settled_ten_times_at_once_is_settled_once(database: Database, cast: Cast):
    mine = OwnerId(cast.admin.id)
    found = await at_once(*(settle(database, cast, to=mine) for _ in range(10)))
    assert found.count(credits_(10)) == 1
    assert (await balance(database, mine)).total == credits_(10)
    await require_right(database)
