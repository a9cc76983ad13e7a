"""The end of an organization.

1. Only with no credits left: not as credits, not leased, not held. Else the operator settles them first (`settle_organization`).
2. Its keys are deleted, every membership ends, invitations are revoked, purchases that are not paid are cancelled. All of it is
   announced: what runs ends, and from then on it answers like one that never was.
3. Requests to move credits to it are refused. They are other owners', so this is a transaction of its own; one that it does not reach
   the operator refuses, who cannot carry it out.
4. Its ledger, activity and audit log stay, for the books.
"""

from dataclasses import dataclass

from bursar import audit, identity, keys, ledger, organizations, payments
from bursar.access import Actor, Permission
from bursar.actions._mails import notify
from bursar.actions._standing import admins_of, enter
from bursar.kernel.errors import Conflict, InvalidField
from bursar.kernel.ids import OrganizationId, OwnerId, UserId
from bursar.kernel.money import format_credits, format_exact
from bursar.mail import move_refused, organization_deleted
from bursar.organizations import Organization
from bursar.storage import SYSTEM, Database, Scope, Tx

GONE = "The organization was deleted."


class CreditsLeft(Conflict):
    """An organization with credits is not deleted: somebody paid for them."""


@dataclass(frozen=True)
class Deleted:
    """What went with it, in numbers."""

    organization: Organization
    members: int
    keys: int
    purchases: int


async def delete_organization(
    database: Database, actor: Actor, *, organization: OrganizationId, confirmation: str
) -> Deleted:
    """For good. `confirmation` is its slug, typed again.

    Raises `PermissionDenied`, `NoSuchOwner`, `InvalidField` for another confirmation, `CreditsLeft`.
    """
    owner = OwnerId(organization)
    async with database.begin(Scope(owner)) as tx:
        await enter(tx, actor, owner, Permission.MANAGE_ORGANIZATION)
        found = await organizations.get_locked(tx, organization)
        if confirmation.strip().lower() != found.slug:
            raise InvalidField("confirmation", f"Type {found.slug} to delete this organization.")
        await _require_no_credits(tx, owner)
        admins = await admins_of(tx, organization)
        deleted = await _take_down(tx, found)
        await audit.record(
            tx,
            actor,
            owner,
            "organization.deleted",
            organization,
            name=found.name,
            slug=found.slug,
            members=deleted.members,
            keys=deleted.keys,
            purchases_cancelled=deleted.purchases,
        )
        by = None if actor.user is None else await identity.find_user(tx, actor.user)
        name = "The operator" if by is None else by.name
        await notify(tx, [organization_deleted(each.email, each.name, found.name, name) for each in admins])
    await _refuse_moves(database, found)
    return deleted


async def _require_no_credits(tx: Tx, owner: OwnerId) -> None:
    """From here on none come: whoever brings some keeps the organization, which is locked, and workers find nothing to lease."""
    left = (await ledger.balance(tx, owner)).total
    if left:
        raise CreditsLeft(
            f"The organization has {format_exact(left)} left.",
            remedy="Use them up, or ask the operator to settle them: to move them elsewhere, or to write them off.",
            left_nanos=left,
        )


async def _take_down(tx: Tx, found: Organization) -> Deleted:
    owner = OwnerId(found.id)
    alive = await keys.list_keys(tx, owner)
    for key in alive:
        await keys.delete(tx, key)
    for limit in await ledger.list_limits(tx, owner):
        await ledger.remove_limit(tx, owner, limit.subject)
    purchases = await payments.cancel_pending(tx, owner)
    members = len(await organizations.list_members(tx, found.id))
    await organizations.delete(tx, found)
    return Deleted(found, members, len(alive), purchases)


async def _refuse_moves(database: Database, deleted: Organization) -> None:
    async with database.begin(SYSTEM) as tx:
        moves = await payments.refuse_moves_to(tx, deleted.id, answer=GONE)
        people = await identity.users_by_id(tx, {UserId(move.owner) for move in moves})
        for move in moves:
            person, amount = people[UserId(move.owner)], format_credits(move.amount)
            await audit.record(
                tx, Actor.system(), move.owner, "credits.move_refused", move.id, amount_nanos=move.amount, answer=GONE
            )
            await notify(tx, [move_refused(person.email, person.name, amount, deleted.name, GONE)])
