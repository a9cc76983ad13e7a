"""The operator settles what credits an organization has left, so that it can be deleted: to somebody else, or written off."""

from bursar import audit, ledger, organizations
from bursar.access import Actor
from bursar.actions._mails import notify
from bursar.actions._recall import CreditsInUse, recall
from bursar.actions._standing import admins_of, name_of, require_open, require_operator
from bursar.kernel.errors import Conflict, InvalidField
from bursar.kernel.ids import OrganizationId, OwnerId, new_transfer_id
from bursar.kernel.money import Nanos, format_exact
from bursar.mail import credits_settled
from bursar.storage import SYSTEM, Database, Tx

REASON_CHARACTERS_MAX = 500


class NothingToSettle(Conflict):
    """The organization has no credits left."""


async def settle_organization(
    database: Database, actor: Actor, *, organization: OrganizationId, to: OwnerId | None, reason: str
) -> Nanos:
    """Moves all of its credits to `to`, or (None) writes them off; returns how much that was. All or nothing. Also of an organization
    that was deleted before a payment arrived.

    Raises `OperatorOnly`, `InvalidField`, `NoSuchOrganization`, `NothingToSettle`, `CreditsInUse`, `CannotCorrect`.
    """
    reason = require_reason(reason)
    owner = OwnerId(organization)
    if to == owner:
        raise InvalidField("to", "These are the organization's own credits; name somebody else.")
    await recall(database, owner)
    async with database.begin(SYSTEM) as tx:
        await require_operator(tx, actor)
        name = await organizations.get_name(tx, organization)
        left = await _settleable(tx, owner)
        if to is None:
            await ledger.write_off(tx, owner, left, reason=reason, by=actor.user)
        else:
            await require_open(tx, to)
            await ledger.move(tx, owner, to, left, name=new_transfer_id(tx.now), reason=reason)
            await audit.record(
                tx, actor, to, "credits.received", organization, amount_nanos=left, source=owner, reason=reason
            )
        await audit.record(
            tx, actor, owner, "credits.settled", organization, amount_nanos=left, target=to, reason=reason
        )
        where = "written off" if to is None else f"moved to {await name_of(tx, to)}"
        await notify(
            tx,
            [
                credits_settled(each.email, each.name, name, format_exact(left), where, reason)
                for each in await admins_of(tx, organization)
            ],
        )
        return left


def require_reason(text: str) -> str:
    reason = " ".join(text.split())
    if not 0 < len(reason) <= REASON_CHARACTERS_MAX or not reason.isprintable():
        raise InvalidField("reason", f"Say why, in at most {REASON_CHARACTERS_MAX} ordinary characters.")
    return reason


async def _settleable(tx: Tx, owner: OwnerId) -> Nanos:
    found = await ledger.balance(tx, owner)
    if not found.total:
        raise NothingToSettle("The organization has no credits left.", remedy="It can be deleted as it is.")
    if found.leased or found.held:
        raise CreditsInUse(
            f"{format_exact(found.leased + found.held)} is reserved for requests that run.",
            remedy="Wait until they end, or disable the organization's keys; then try again. Nothing was changed.",
        )
    return found.unleased
