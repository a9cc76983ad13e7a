"""Declining an invitation: by the link in the mail, without signing in, or from the list of what waits."""

from bursar import audit, organizations
from bursar.access import Actor, ActorKind
from bursar.actions._invitations import opened, opened_own
from bursar.actions.accept_invitation import person
from bursar.kernel.ids import InvitationId, OwnerId
from bursar.organizations import Invitation, InvitationState
from bursar.storage import SYSTEM, Database, Tx


async def decline_invitation(database: Database, *, token: str, address: str | None) -> Invitation:
    """By whoever holds the link, that is by whoever reads the invited address. Raises `InvitationGone`."""
    async with database.begin(SYSTEM) as tx:
        return await _decline(tx, Actor(ActorKind.SYSTEM, address=address), await opened(tx, token))


async def decline_waiting_invitation(database: Database, actor: Actor, *, invitation: InvitationId) -> Invitation:
    """One of those that wait for the person's own verified address. Raises `NoSuchInvitation`."""
    async with database.begin(SYSTEM) as tx:
        return await _decline(tx, actor, await opened_own(tx, await person(tx, actor), invitation))


async def _decline(tx: Tx, actor: Actor, invitation: Invitation) -> Invitation:
    await organizations.close(tx, invitation, InvitationState.DECLINED)
    await audit.record(
        tx, actor, OwnerId(invitation.organization), "invitation.declined", invitation.id, email=invitation.email
    )
    return await organizations.get_invitation(tx, invitation.organization, invitation.id)
