"""Moving credits from a personal account to an organization: asked for, answered by the operator, once, and never by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from bursar import actions, identity, ledger, organizations, payments, storage
from bursar.access import Actor, ActorKind
from bursar.actions import Answer, CannotMove, NotPersonal, OperatorOnly
from bursar.gateway import Leases, LeaseSizes
from bursar.identity import User
from bursar.kernel.errors import BursarError, InvalidField, NotFound
from bursar.kernel.ids import CreditMoveId, OwnerId, WorkerId, new_credit_move_id
from bursar.kernel.money import Nanos
from bursar.payments import CreditMove, MoveAnswered, MoveConflict, MoveState, TooManyMoves
from bursar.storage import SYSTEM, Database
from tests.actions.books import balance, credits_, grant, mailed, recorded, require_right
from tests.conftest import Cast

pytestmark = pytest.mark.anyio

OPERATOR = Actor.operator()


@pytest.fixture
async def mine(database: Database, cast: Cast) -> OwnerId:
    """The member's personal account, with 20 credits."""
    owner = OwnerId(cast.member.id)
    await grant(database, owner, 20)
    return owner


@pytest.fixture
async def olga(database: Database) -> User:
    async with database.begin(SYSTEM) as tx:
        return await identity.add_user(
            tx, email="olga@example.com", name="Olga Test", password_hash=None, verified=True, is_operator=True
        )


async def ask(database: Database, cast: Cast, amount: str = "5", by: User | None = None, **other: Any) -> CreditMove:
    person = by or cast.member
    given: dict[str, Any] = {
        "owner": OwnerId(person.id),
        "move": new_credit_move_id(database.clock.now()),
        "organization": cast.acme.id,
        "public_url": "https://bursar.example",
        "support_email": None,
    }
    return await actions.request_credit_move(database, cast.actor(person), amount=amount, **given | other)


async def answer(
    database: Database, move: CreditMoveId, answer: Answer = Answer.CARRY_OUT, note: str = "", actor: Actor = OPERATOR
) -> CreditMove:
    return await actions.answer_credit_move(database, actor, move=move, answer=answer, note=note)


async def balances(database: Database, cast: Cast) -> tuple[int, int]:
    """Of the member's personal account and of Acme."""
    personal, acme = await balance(database, OwnerId(cast.member.id)), await balance(database, cast.owner)
    return personal.total, acme.total


async def test_asking_moves_nothing_and_tells_every_operator_or_support(
    database: Database, cast: Cast, mine: OwnerId, olga: User
):
    made = await ask(database, cast, "$5.50", note="for  the demo")
    assert (made.state, made.amount, made.note) == (MoveState.OPEN, credits_(5.5), "for the demo")
    assert await balances(database, cast) == (credits_(20), credits_(10))
    assert (await recorded(database, mine))[0] == "credits.move_requested"
    subject = "Tomas Test asks to move $5.50 to Acme Robotics"
    assert await mailed(database) == [(olga.email, subject)]
    kept = await storage.take(database)
    assert "https://bursar.example/operator/credit-moves" in kept[0].payload["text"]
    assert "for the demo" in kept[0].payload["text"]
    await ask(database, cast, "5.50", support_email="support@example.com")
    assert (await mailed(database))[1:] == [("support@example.com", subject)]


async def test_a_double_click_asks_once_and_its_id_means_nothing_else(database: Database, cast: Cast, mine: OwnerId):
    move = new_credit_move_id(database.clock.now())
    made = [await ask(database, cast, move=move) for _ in range(3)]
    assert made[0] == made[1] == made[2]
    assert (await recorded(database, mine)).count("credits.move_requested") == 1
    with pytest.raises(MoveConflict):
        await ask(database, cast, "6", move=move)


async def test_no_more_than_is_there_and_not_asked_for_already(database: Database, cast: Cast, mine: OwnerId):
    await ask(database, cast, "15")
    with pytest.raises(InvalidField) as refusal:
        await ask(database, cast, "5.01")
    assert (refusal.value.field, refusal.value.sentence) == (
        "amount",
        "You have $5.00 to move beside the $15.00 that you asked to move already.",
    )
    await ask(database, cast, "5")
    with pytest.raises(InvalidField):
        await ask(database, cast, "0.01", by=cast.admin)


async def test_only_so_many_wait_even_when_asked_for_at_once(database: Database, cast: Cast, mine: OwnerId):
    found = await at_once(*(ask(database, cast, "0.01") for _ in range(14)))
    assert sum(isinstance(each, CreditMove) for each in found) == payments.OPEN_MOVES_MAX
    assert sum(isinstance(each, TooManyMoves) for each in found) == 4


@pytest.mark.parametrize("amount", ["", "x", "0", "-1", "1.001", "NaN", "1e99", "9" * 1000], ids=len)
async def test_an_amount_that_is_none_is_wrong_in_its_field(database: Database, cast: Cast, mine: OwnerId, amount: str):
    with pytest.raises(InvalidField) as refusal:
        await ask(database, cast, amount)
    assert refusal.value.field == "amount"


async def test_only_to_an_organization_of_ones_own_and_only_from_ones_personal_account(
    database: Database, cast: Cast, mine: OwnerId
):
    with pytest.raises(InvalidField) as refusal:
        await ask(database, cast, by=cast.stranger)
    assert refusal.value.field == "organization"
    with pytest.raises(NotPersonal):
        await ask(database, cast, by=cast.admin, owner=cast.owner)
    with pytest.raises(NotFound):
        await ask(database, cast, by=cast.admin, owner=mine)
    with pytest.raises(InvalidField):
        await ask(database, cast, note="x" * 501)


async def test_carried_out_both_statements_show_it_and_the_person_and_the_admins_are_told(
    database: Database, cast: Cast, mine: OwnerId, olga: User
):
    made = await ask(database, cast)
    by_olga = Actor(ActorKind.OPERATOR, user=olga.id, address="192.0.2.9")
    closed = await answer(database, made.id, note="Done.", actor=by_olga)
    assert (closed.state, closed.closed_by, closed.answer) == (MoveState.CARRIED_OUT, olga.id, "Done.")
    assert await balances(database, cast) == (credits_(15), credits_(15))
    for owner in (mine, cast.owner):
        assert (await recorded(database, owner))[0] == "credits.moved"
    moved = [to for to, subject in await mailed(database) if subject == "$5.00 moved to Acme Robotics"]
    assert sorted(moved) == ["ana@example.com", "tomas@example.com"]
    await require_right(database)


async def test_a_billing_contact_is_told_in_place_of_the_admins(database: Database, cast: Cast, mine: OwnerId):
    await actions.update_organization(
        database, cast.actor(cast.admin), organization=cast.acme.id, billing_email="bills@acme.example"
    )
    await answer(database, (await ask(database, cast)).id)
    assert sorted(to for to, _ in await mailed(database)) == ["bills@acme.example", "tomas@example.com"]


async def test_refused_nothing_moves_and_the_person_reads_why(database: Database, cast: Cast, mine: OwnerId):
    made = await ask(database, cast)
    with pytest.raises(InvalidField) as refusal:
        await answer(database, made.id, Answer.REFUSE, note=" ")
    assert refusal.value.field == "note"
    closed = await answer(database, made.id, Answer.REFUSE, note="Promotional credits stay where they are.")
    assert (closed.state, closed.answer) == (MoveState.REFUSED, "Promotional credits stay where they are.")
    assert await balances(database, cast) == (credits_(20), credits_(10))
    assert (await recorded(database, mine))[0] == "credits.move_refused"
    assert await mailed(database) == [("tomas@example.com", "$5.00 was not moved to Acme Robotics")]


async def test_only_the_operator_answers_and_only_the_person_withdraws(database: Database, cast: Cast, mine: OwnerId):
    made = await ask(database, cast)
    for actor in (cast.actor(cast.member), cast.actor(cast.admin), Actor(ActorKind.OPERATOR, user=cast.admin.id)):
        with pytest.raises(OperatorOnly):
            await answer(database, made.id, actor=actor)
    with pytest.raises(NotFound):
        await answer(database, CreditMoveId("mov_none"))
    for person, owner in ((cast.admin, OwnerId(cast.admin.id)), (cast.admin, mine)):
        with pytest.raises(NotFound):
            await actions.withdraw_credit_move(database, cast.actor(person), owner=owner, move=made.id)
    closed = await actions.withdraw_credit_move(database, cast.actor(cast.member), owner=mine, move=made.id)
    assert closed.state is MoveState.WITHDRAWN
    for late in Answer:
        with pytest.raises(MoveAnswered) as refusal:
            await answer(database, made.id, late, note="Too late.")
        assert refusal.value.sentence == "This request was withdrawn before."
    assert await balances(database, cast) == (credits_(20), credits_(10))


async def test_what_was_spent_meanwhile_is_not_moved_and_nothing_is_changed(
    database: Database, cast: Cast, mine: OwnerId
):
    made = await ask(database, cast, "20")
    async with database.begin(SYSTEM) as tx:
        await ledger.write_off(tx, mine, Nanos(1), reason="for tests", by=None)
    with pytest.raises(CannotMove) as refusal:
        await answer(database, made.id)
    assert refusal.value.sentence == "Only $19.999999999 is left of the $20.00 that was asked for."
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await payments.get_any_move(snapshot, made.id)).state is MoveState.OPEN
    assert await balances(database, cast) == (credits_(20) - 1, credits_(10))
    await require_right(database)


async def test_to_an_organization_the_person_left_or_that_is_no_more_nothing_is_moved(
    database: Database, cast: Cast, mine: OwnerId
):
    made = [await ask(database, cast) for _ in range(2)]
    async with database.begin(SYSTEM) as tx:
        await tx.execute(
            organizations.tables.memberships.update()
            .where(organizations.tables.memberships.c.user_id == cast.member.id)
            .values(ended_at=tx.now)
        )
    with pytest.raises(CannotMove) as refusal:
        await answer(database, made[0].id)
    assert refusal.value.sentence == "Tomas Test is not in Acme Robotics any more."
    await actions.settle_organization(database, OPERATOR, organization=cast.acme.id, to=None, reason="The end.")
    await actions.delete_organization(database, cast.actor(cast.admin), organization=cast.acme.id, confirmation="acme")
    with pytest.raises(MoveAnswered):
        await answer(database, made[1].id)
    async with database.snapshot(SYSTEM) as snapshot:
        found = await payments.list_moves(snapshot, mine)
    assert [(each.state, each.answer) for each in found] == [(MoveState.REFUSED, "The organization was deleted.")] * 2
    assert ("tomas@example.com", "$5.00 was not moved to Acme Robotics") in await mailed(database)
    assert await balances(database, cast) == (credits_(20), 0)
    await require_right(database)


async def at_once(*verbs: Awaitable[Any]) -> list[Any]:
    found = await asyncio.gather(*verbs, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException) and not isinstance(each, BursarError):
            raise each
    return list(found)


async def test_carried_out_refused_and_withdrawn_at_once_one_of_them_happens(
    database: Database, cast: Cast, mine: OwnerId
):
    made = await ask(database, cast)
    found = await at_once(
        *(answer(database, made.id) for _ in range(4)),
        answer(database, made.id, Answer.REFUSE, note="No."),
        actions.withdraw_credit_move(database, cast.actor(cast.member), owner=mine, move=made.id),
    )
    done = [each for each in found if isinstance(each, CreditMove)]
    assert len(done) == 1
    assert sum(isinstance(each, MoveAnswered) for each in found) == 5
    moved = credits_(5) if done[0].state is MoveState.CARRIED_OUT else 0
    assert await balances(database, cast) == (credits_(20) - moved, credits_(10) + moved)
    await require_right(database)


async def test_two_that_ask_for_the_same_credits_and_are_carried_out_at_once_never_move_more_than_there_is(
    database: Database, cast: Cast, mine: OwnerId
):
    made = [await ask(database, cast, "10") for _ in range(2)]
    async with database.begin(SYSTEM) as tx:
        await ledger.write_off(tx, mine, credits_(5), reason="for tests", by=None)
    found = await at_once(*(answer(database, each.id) for each in made))
    assert sum(isinstance(each, CannotMove) for each in found) == 1
    assert await balances(database, cast) == (credits_(5), credits_(20))
    await require_right(database)


# What workers leased.


@pytest.fixture(params=[True, False], ids=["alone", "among others"])
async def worker(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Leases]:
    """A worker of this process, which leases all there is."""
    name = WorkerId("node_test.1")
    async with database.begin(SYSTEM) as tx:
        await ledger.register_worker(tx, name, "node_test")
    return Leases(database, name, database.clock, sizes=LeaseSizes(least=credits_(20)), alone=request.param)


async def test_what_a_worker_leased_and_does_not_need_is_recalled_and_moved(
    database: Database, cast: Cast, mine: OwnerId, worker: Leases
):
    purses = await worker.take(mine, credits_(1), [], database.clock.now())
    worker.resolve(purses, credits_(1), 0)
    assert (await balance(database, mine)).leased == credits_(20)
    await answer(database, (await ask(database, cast, "20")).id)
    assert await balances(database, cast) == (0, credits_(30))
    await require_right(database)


async def test_what_a_running_request_holds_is_not_moved_and_that_is_said(
    database: Database, cast: Cast, mine: OwnerId, worker: Leases
):
    purses = await worker.take(mine, credits_(1), [], database.clock.now())
    made = await ask(database, cast, "20")
    with pytest.raises(CannotMove) as refusal:
        await answer(database, made.id)
    assert refusal.value.sentence == "$1.000000000 is reserved for requests that run."
    worker.resolve(purses, credits_(1), 0)
    assert (await answer(database, made.id)).state is MoveState.CARRIED_OUT
    await require_right(database)
