"""Moving credits from a personal account to an organization of the person's.

1. `request_credit_move`: the person asks; nothing moves. The operator gets a mail.
2. `answer_credit_move`: the operator carries it out or refuses it, once. Carried out, both sides of the move, whose transfers have
   the request's id, and the request's new state are in one transaction.
3. Or `withdraw_credit_move`: the person thinks better of it.
"""

from collections.abc import Iterator, Sequence
from enum import Enum

from bursar import audit, identity, ledger, organizations, payments
from bursar.access import Actor, Permission
from bursar.actions._mails import notify
from bursar.actions._recall import recall
from bursar.actions._standing import admins_of, billing_contacts, enter, require_operator
from bursar.identity import User
from bursar.kernel.errors import Conflict, Forbidden, InvalidField
from bursar.kernel.ids import CreditMoveId, OrganizationId, OwnerId, UserId, is_personal
from bursar.kernel.money import format_credits, format_exact
from bursar.mail import Message, move_asked, move_carried_out, move_refused
from bursar.organizations import Organization
from bursar.payments import CreditMove, MoveState
from bursar.storage import SYSTEM, Database, Scope, Snapshot


class NotPersonal(Forbidden):
    """Credits are moved from a personal account only, by the person."""


class CannotMove(Conflict):
    """There is not enough to move just now, or nobody to move it to any more; nothing was changed."""


class Answer(Enum):
    CARRY_OUT = MoveState.CARRIED_OUT
    REFUSE = MoveState.REFUSED


async def request_credit_move(
    database: Database,
    actor: Actor,
    *,
    owner: OwnerId,
    move: CreditMoveId,
    organization: OrganizationId,
    amount: str,
    note: str = "",
    public_url: str,
    support_email: str | None,
) -> CreditMove:
    """Asks; `move` is an id made by whoever shows the form, so that a double click asks once. Mails `support_email`, or every operator.

    Raises `NotPersonal`, `NoSuchOwner`, `InvalidField` by its field, `TooManyMoves`, `MoveConflict`.
    """
    if not is_personal(owner):
        raise NotPersonal(
            "Credits are moved from a personal account.", remedy="Switch to your personal account to ask for it."
        )
    async with database.begin(Scope(owner)) as tx:
        await enter(tx, actor, owner, Permission.MOVE_CREDITS)
        person = await identity.get_user(tx, UserId(owner))
        if await organizations.find_role(tx, organization, person.id) is None:
            raise InvalidField("organization", "Choose an organization that you are in.")
        target = await organizations.get_organization(tx, organization)
        nanos = payments.require_move_amount(amount)
        await ledger.lock_credits(tx, owner)  # two requests at once see each other
        made, is_new = await payments.open_move(
            tx,
            owner=owner,
            move=move,
            organization=organization,
            amount=nanos,
            available=(await ledger.balance(tx, owner)).available,
            note=payments.require_note(note),
        )
        if is_new:
            await audit.record(
                tx, actor, owner, "credits.move_requested", move, amount_nanos=nanos, organization=organization
            )
            operators = [(each.email, each.name) for each in await identity.list_operators(tx)]
            asked = [(support_email, "")] if support_email else operators
            about = (person.name, person.email, target.name, format_credits(nanos), made.note)
            url = f"{public_url}/operator/credit-moves"
            await notify(tx, [move_asked(email, name, *about, url) for email, name in asked])
        return made


async def withdraw_credit_move(database: Database, actor: Actor, *, owner: OwnerId, move: CreditMoveId) -> CreditMove:
    """Raises `NotPersonal`, `NoSuchOwner`, `NoSuchMove`, `MoveAnswered`."""
    async with database.begin(Scope(owner)) as tx:
        await enter(tx, actor, owner, Permission.MOVE_CREDITS)
        found = await payments.get_move(tx, owner, move)
        closed = await payments.close_move(tx, found, MoveState.WITHDRAWN, by=actor.user, answer=None)
        await audit.record(tx, actor, owner, "credits.move_withdrawn", move, amount_nanos=found.amount)
        return closed


async def answer_credit_move(
    database: Database, actor: Actor, *, move: CreditMoveId, answer: Answer, note: str = ""
) -> CreditMove:
    """The operator's, once: whoever is second is told so. `note` is for the person; a refusal needs one.

    Raises `OperatorOnly`, `NoSuchMove`, `MoveAnswered`, `InvalidField`, `CannotMove`.
    """
    said = payments.require_note(note)
    if answer is Answer.REFUSE and said is None:
        raise InvalidField("note", "Say why, for the person who asked.")
    async with database.snapshot(SYSTEM) as snapshot:
        await require_operator(snapshot, actor)
        asked = await payments.get_any_move(snapshot, move)
    payments.require_open_move(asked)
    if answer is Answer.REFUSE:
        return await _refuse(database, actor, asked, said)
    await recall(database, asked.owner, asked.amount)
    return await _carry_out(database, actor, asked, said)


async def _refuse(database: Database, actor: Actor, asked: CreditMove, said: str | None) -> CreditMove:
    async with database.begin(SYSTEM) as tx:
        await require_operator(tx, actor)
        closed = await payments.close_move(tx, asked, MoveState.REFUSED, by=actor.user, answer=said)
        await audit.record(
            tx, actor, asked.owner, "credits.move_refused", asked.id, amount_nanos=asked.amount, answer=said
        )
        person = await identity.find_user(tx, UserId(asked.owner))
        if person is not None:
            name = await organizations.get_name(tx, asked.organization)
            await notify(tx, [move_refused(person.email, person.name, format_credits(asked.amount), name, said or "")])
        return closed


async def _carry_out(database: Database, actor: Actor, asked: CreditMove, said: str | None) -> CreditMove:
    async with database.begin(SYSTEM) as tx:
        await require_operator(tx, actor)
        try:
            target = await organizations.keep(tx, asked.organization)
        except organizations.NoSuchOrganization:
            raise CannotMove("The organization was deleted.", remedy="Refuse the request.", move=asked.id) from None
        person = await identity.get_user(tx, UserId(asked.owner))
        if await organizations.find_role(tx, asked.organization, person.id) is None:
            raise CannotMove(
                f"{person.name} is not in {target.name} any more.", remedy="Refuse the request.", move=asked.id
            )
        closed = await payments.close_move(tx, asked, MoveState.CARRIED_OUT, by=actor.user, answer=said)
        reason = f"From {person.name} to {target.name}"
        try:
            await ledger.move(tx, asked.owner, OwnerId(target.id), asked.amount, name=asked.id, reason=reason)
        except ledger.InsufficientFunds:
            raise await _too_little(tx, asked) from None
        both = ((asked.owner, OwnerId(target.id)), (OwnerId(target.id), asked.owner))
        for owner, other in both:
            await audit.record(
                tx,
                actor,
                owner,
                "credits.moved",
                asked.id,
                amount_nanos=asked.amount,
                other=other,
                answer=said,
            )
        admins = await admins_of(tx, target.id)
        await notify(tx, _told(person, admins, target, asked, said))
        return closed


async def _too_little(snapshot: Snapshot, asked: CreditMove) -> CannotMove:
    found = await ledger.balance(snapshot, asked.owner)
    if found.total < asked.amount:
        return CannotMove(
            f"Only {format_exact(found.total)} is left of the {format_credits(asked.amount)} that was asked for.",
            remedy="Refuse the request, or wait until credits are bought. Nothing was changed.",
            move=asked.id,
        )
    return CannotMove(
        f"{format_exact(found.leased + found.held)} is reserved for requests that run.",
        remedy="Try again in a moment. Nothing was changed.",
        move=asked.id,
    )


def _told(
    person: User, admins: Sequence[User], target: Organization, asked: CreditMove, said: str | None
) -> Iterator[Message]:
    """To the person, and to the organization's other admins or its billing contact."""
    amount = format_credits(asked.amount)
    yield move_carried_out(person.email, person.name, amount, person.name, target.name, said)
    for email, name in billing_contacts(target, admins):
        if email != person.email:
            yield move_carried_out(email, name, amount, person.name, target.name, None)
