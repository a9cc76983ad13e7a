"""What several verbs on invitations share."""

from bursar import audit, identity, organizations
from bursar.access import Actor, Allow, Context, Permission, may
from bursar.actions._mails import post
from bursar.actions._standing import admins_of
from bursar.identity import User
from bursar.kernel.errors import Forbidden, LinkExpired
from bursar.kernel.ids import InvitationId, OwnerId
from bursar.kernel.secrets import hash_secret
from bursar.mail import invitation as invitation_message
from bursar.organizations import BY_OPERATOR, INVITATION_LIFETIME, Invitation, InvitationState, NoSuchInvitation
from bursar.storage import Snapshot, Tx


class InvitationGone(LinkExpired):
    """The link of an invitation that was used, replaced, revoked or declined, or that expired."""


class InviterMayNot(Forbidden):
    """Whoever invited is no admin any more, so the invitation is nobody's word."""


def invitation_url(public_url: str, token: str) -> str:
    return f"{public_url}/invitations/accept?token={token}"


async def mail_invitation(tx: Tx, invitation: Invitation, token: str, public_url: str) -> None:
    """To the invited address, with the link; the message is emptied when the token dies."""
    inviter = await identity.find_user(tx, invitation.invited_by)
    message = invitation_message(
        invitation.email,
        organization=(await organizations.get_organization(tx, invitation.organization)).name,
        inviter=None if inviter is None else f"{inviter.name} ({inviter.email})",
        role=invitation.role,
        link=invitation_url(public_url, token),
        days=INVITATION_LIFETIME.days,
    )
    await post(tx, message, keep=INVITATION_LIFETIME, reference=hash_secret(token))


async def peek_invitation(snapshot: Snapshot, token: str) -> Invitation:
    """The pending invitation of a token. Raises `InvitationGone`, saying what became of it and whom to ask."""
    found = await organizations.find_by_token(snapshot, token)
    if found is None:
        raise InvitationGone(
            "This invitation was replaced by a newer one, or there never was one.",
            remedy="Open the link in the newest message, or ask whoever invited you.",
        )
    if found.state is not InvitationState.PENDING:
        name = (await organizations.get_organization(snapshot, found.organization)).name
        raise InvitationGone(
            f"This invitation to {name} {found.state.became}.", remedy=await _whom_to_ask(snapshot, found)
        )
    return found


async def opened(tx: Tx, token: str) -> Invitation:
    """The same, with its organization locked: nobody else can use, close or resend it any more. Raises `InvitationGone`."""
    await organizations.lock(tx, (await peek_invitation(tx, token)).organization)
    return await peek_invitation(tx, token)


async def opened_own(tx: Tx, user: User, invitation: InvitationId) -> Invitation:
    """The pending invitation to the person's own verified address, with its organization locked. Raises `NoSuchInvitation`."""
    await organizations.lock(tx, (await _own(tx, user, invitation)).organization)
    return await _own(tx, user, invitation)


async def _own(snapshot: Snapshot, user: User, invitation: InvitationId) -> Invitation:
    for waiting in await waiting_for(snapshot, user):
        if waiting.id == invitation:
            return waiting
    raise NoSuchInvitation("No such invitation waits for you.", remedy="Preferences list what waits.")


async def waiting_for(snapshot: Snapshot, user: User) -> list[Invitation]:
    """Nothing for somebody whose address is not verified: it may be another's."""
    if not user.is_verified:
        return []
    return list(await organizations.list_waiting_for(snapshot, identity.normalize_email(user.email)))


async def join(tx: Tx, actor: Actor, user: User, invitation: Invitation) -> None:
    """Uses the invitation for a person whose address is known to be the invited one; the organization is locked.

    Raises `InviterMayNot`; `OrganizationFull` where the cap was lowered meanwhile.
    """
    await _require_inviter(tx, invitation)
    await organizations.close(tx, invitation, InvitationState.ACCEPTED, accepted_by=user.id)
    if await organizations.find_role(tx, invitation.organization, user.id) is None:
        await organizations.add_member(tx, invitation.organization, user.id, invitation.role, has_seat=True)
    for owner in (OwnerId(invitation.organization), OwnerId(user.id)):
        await audit.record(
            tx,
            actor,
            owner,
            "invitation.accepted",
            invitation.id,
            organization=invitation.organization,
            user=user.id,
            role=invitation.role.value,
        )


async def _require_inviter(snapshot: Snapshot, invitation: Invitation) -> None:
    if invitation.invited_by == BY_OPERATOR:
        return
    role = await organizations.find_role(snapshot, invitation.organization, invitation.invited_by)
    context = Context(OwnerId(invitation.organization), role) if role is not None else None
    if context is None or not isinstance(may(context, Permission.MANAGE_MEMBERS), Allow):
        raise InviterMayNot(
            "Whoever invited you is no longer an admin there, so the invitation does not count.",
            remedy=await _whom_to_ask(snapshot, invitation),
        )


async def _whom_to_ask(snapshot: Snapshot, invitation: Invitation) -> str:
    """Whoever invited, while they are an admin; else all of the admins."""
    admins = await admins_of(snapshot, invitation.organization)
    asked = [admin for admin in admins if admin.id == invitation.invited_by] or admins
    named = " or ".join(f"{admin.name} ({admin.email})" for admin in asked)
    return f"Ask for a new one: {named}." if named else "Ask the operator of this installation."
