"""Accepting an invitation: by the link in the mail, signed in or as a new person; or, signed in, from the list of what waits."""

from dataclasses import dataclass

from bursar import audit, identity, keys, organizations
from bursar.access import Actor, Role
from bursar.actions._attempts import sign_in_subjects
from bursar.actions._departure import disable_keys
from bursar.actions._invitations import join, opened, opened_own, peek_invitation
from bursar.actions.sign_up import EmailNotVerified
from bursar.identity import EmailTaken, Passwords, User
from bursar.kernel.errors import Forbidden
from bursar.kernel.ids import InvitationId, OwnerId
from bursar.organizations import Invitation, Organization
from bursar.storage import SYSTEM, Database, Tx


class InvitedSomebodyElse(Forbidden):
    """The invitation is bound to another address than the one of the person who is signed in."""


@dataclass(frozen=True)
class Joined:
    """`user` is a member of `organization` now, in this role."""

    user: User
    organization: Organization
    role: Role


async def accept_invitation(database: Database, actor: Actor, *, token: str) -> Joined:
    """By the link, for the person who is signed in; once.

    The token went to the invited address and nowhere else, so that holding it proves the address: somebody who signed up with it
    and did not verify it yet is verified by this. Raises `InvitationGone`, `InvitedSomebodyElse`, `InviterMayNot`,
    `OrganizationFull`.
    """
    async with database.begin(SYSTEM) as tx:
        user = await person(tx, actor)
        invitation = await opened(tx, token)
        if identity.normalize_email(user.email) != invitation.email_normalized:
            raise InvitedSomebodyElse(
                f"This invitation is for {invitation.email}, and you are signed in as {user.email}.",
                remedy="Sign in with that address, or ask for an invitation to yours.",
            )
        await _verify(tx, actor, user)
        return await _joined(tx, actor, user, invitation)


async def accept_waiting_invitation(database: Database, actor: Actor, *, invitation: InvitationId) -> Joined:
    """One of those that wait for the person's own verified address. Raises `NoSuchInvitation`, `EmailNotVerified`,
    `InviterMayNot`, `OrganizationFull`."""
    async with database.begin(SYSTEM) as tx:
        user = await person(tx, actor)
        if not user.is_verified:
            raise EmailNotVerified(
                "Verify your e-mail address before you join an organization.",
                remedy="Open the link in the message we sent, or have it sent again.",
            )
        return await _joined(tx, actor, user, await opened_own(tx, user, invitation))


async def join_by_invitation(
    database: Database, passwords: Passwords, *, token: str, name: str, password: str, address: str | None
) -> Joined:
    """A new person signs up by the link and joins; the address is verified by it. Does not sign in.

    Whoever signed up with the address before and never proved it was theirs gives way: the password is replaced, what was signed
    in ends, keys made meanwhile are disabled. Raises `InvalidField` (the link stays good), `InvitationGone`, `InviterMayNot`,
    `OrganizationFull`; `EmailTaken` where the address has an account of its own: then its owner signs in.
    """
    name = identity.require_name(name)
    async with database.snapshot(SYSTEM) as snapshot:
        email = (await peek_invitation(snapshot, token)).email
    hashed = await passwords.hash(identity.require_password(password, name, email))
    async with database.begin(SYSTEM) as tx:
        invitation = await opened(tx, token)
        user = await identity.find_by_email(tx, invitation.email)
        if user is None:
            user = await identity.add_user(tx, email=invitation.email, name=name, password_hash=hashed, verified=True)
            actor = Actor.person(user.id, address)
            await audit.record(tx, actor, OwnerId(user.id), "user.signed_up", user.id, by="invitation")
        elif user.is_verified:
            raise EmailTaken(f"{user.email} already has an account here.", remedy="Sign in instead.")
        else:
            actor = Actor.person(user.id, address)
            await _take_over(tx, actor, user, name, hashed)
        return await _joined(tx, actor, await identity.get_user(tx, user.id), invitation)


async def person(tx: Tx, actor: Actor) -> User:
    """Who acts. Raises `Forbidden` where it is nobody in particular."""
    if actor.user is None:
        raise Forbidden("An invitation is answered by the person it was sent to.", remedy="Sign in.")
    return await identity.get_user(tx, actor.user)


async def _joined(tx: Tx, actor: Actor, user: User, invitation: Invitation) -> Joined:
    await join(tx, actor, user, invitation)
    role = await organizations.find_role(tx, invitation.organization, user.id)
    assert role is not None, "they joined a moment ago"
    return Joined(user, await organizations.get_organization(tx, invitation.organization), role)


async def _verify(tx: Tx, actor: Actor, user: User) -> None:
    if await identity.mark_verified(tx, user.id):
        await audit.record(tx, actor, OwnerId(user.id), "user.verified", user.id, by="invitation")
        await tx.announce("user", user.id)


async def _take_over(tx: Tx, actor: Actor, user: User, name: str, hashed: str) -> None:
    if await identity.find_password_hash(tx, user.id) is not None:
        await disable_keys(tx, actor, await keys.list_keys(tx, OwnerId(user.id)))
    await identity.rename(tx, user.id, name)
    await identity.set_password(tx, user.id, hashed)
    await identity.end_sessions_of(tx, user.id)
    await identity.spend_links_of(tx, user.id)
    await identity.clear_attempts(tx, sign_in_subjects(user.email, None, None))
    await _verify(tx, actor, user)
    await audit.record(tx, actor, OwnerId(user.id), "user.password_set", user.id, by="invitation")
