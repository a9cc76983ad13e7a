from bursar import audit, organizations
from bursar.access import Actor, Permission
from bursar.actions._invitations import mail_invitation
from bursar.actions._standing import enter_locked
from bursar.kernel.ids import InvitationId, OrganizationId, OwnerId
from bursar.organizations import BY_OPERATOR, Invitation
from bursar.storage import Database, Scope


async def resend_invitation(
    database: Database, actor: Actor, *, organization: OrganizationId, invitation: InvitationId, public_url: str
) -> Invitation:
    """A new link, good for the whole time; the old one is dead, and whoever sends it again is the inviter from now on.

    Raises `PermissionDenied`, `NoSuchOwner`, `PersonalAccount`, `NoSuchInvitation`, `InvitationClosed`, `InvitedTooOften`;
    `OrganizationFull` for one that expired, whose seat is somebody else's now.
    """
    async with database.begin(Scope(OwnerId(organization))) as tx:
        await enter_locked(tx, actor, organization, Permission.MANAGE_MEMBERS)
        found = await organizations.get_invitation(tx, organization, invitation)
        renewed, token = await organizations.resend(tx, found, invited_by=actor.user or BY_OPERATOR)
        await mail_invitation(tx, renewed, token, public_url)
        await audit.record(tx, actor, OwnerId(organization), "invitation.resent", invitation, email=found.email)
        return renewed
