from bursar import audit, organizations
from bursar.access import Actor, Permission
from bursar.actions._standing import enter_locked
from bursar.kernel.ids import InvitationId, OrganizationId, OwnerId
from bursar.organizations import Invitation, InvitationState
from bursar.storage import Database, Scope


async def revoke_invitation(
    database: Database, actor: Actor, *, organization: OrganizationId, invitation: InvitationId
) -> Invitation:
    """Its link is dead and its seat free.

    Raises `PermissionDenied`, `NoSuchOwner`, `PersonalAccount`, `NoSuchInvitation`, `InvitationClosed`.
    """
    async with database.begin(Scope(OwnerId(organization))) as tx:
        await enter_locked(tx, actor, organization, Permission.MANAGE_MEMBERS)
        found = await organizations.get_invitation(tx, organization, invitation)
        await organizations.close(tx, found, InvitationState.REVOKED)
        await audit.record(tx, actor, OwnerId(organization), "invitation.revoked", invitation, email=found.email)
        return await organizations.get_invitation(tx, organization, invitation)
