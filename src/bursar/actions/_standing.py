"""In which role an actor stands before an owner, read inside the transaction that acts: never from an older look."""

from collections.abc import Sequence

from bursar import identity, organizations
from bursar.access import Actor, ActorKind, Context, Permission, PermissionDenied, Role, require
from bursar.identity import User
from bursar.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound
from bursar.kernel.ids import OrganizationId, OwnerId, UserId, is_personal
from bursar.organizations import Organization
from bursar.storage import Snapshot, Tx


class NoSuchOwner(NotFound):
    """There is no such context, or it is none of the actor's: the two answer alike."""


class PersonalAccount(InvalidInput):
    """What was asked is about an organization's members, and this owner is a person."""


async def enter(snapshot: Snapshot, actor: Actor, owner: OwnerId, permission: Permission) -> Context:
    """The context, with the permission checked.

    Raises `NoSuchOwner` for somebody who does not belong there and `PermissionDenied`, naming the admins to ask, for a role
    that may not.
    """
    role = await _role(snapshot, actor, owner)
    if role is None:
        raise _no_such_owner()
    context = Context(owner, role)
    try:
        require(context, permission)
    except PermissionDenied as denied:
        denied.remedy = await whom_to_ask(snapshot, OrganizationId(owner))
        raise
    return context


async def enter_locked(tx: Tx, actor: Actor, organization: OrganizationId, permission: Permission) -> Context:
    """The same where members or invitations are to be changed: waits for whoever else changes them, then looks at the role.

    Raises `PersonalAccount` besides.
    """
    if is_personal(OwnerId(organization)):
        raise PersonalAccount("A personal account has no members.", remedy="Go to one of your organizations.")
    if not await organizations.lock(tx, organization):
        raise _no_such_owner()
    return await enter(tx, actor, OwnerId(organization), permission)


async def belongs(snapshot: Snapshot, user: UserId, owner: OwnerId) -> bool:
    """Whether it is their personal account, or an organization of theirs."""
    if is_personal(owner):
        return UserId(owner) == user
    return await organizations.find_role(snapshot, OrganizationId(owner), user) is not None


class OperatorOnly(Forbidden):
    """Only whoever runs this installation does this."""


async def require_operator(snapshot: Snapshot, actor: Actor) -> None:
    """The command line of the installation's own machine, or a person who is an operator now. Raises `OperatorOnly`."""
    if actor.kind is ActorKind.OPERATOR and actor.user is None:
        return
    found = (
        None if actor.user is None or actor.kind is ActorKind.KEY else await identity.find_user(snapshot, actor.user)
    )
    if found is None or not found.is_operator:
        raise OperatorOnly("Only the operator of this installation can do this.", remedy="Ask the operator.")


async def admins_of(snapshot: Snapshot, organization: OrganizationId) -> Sequence[User]:
    """Longest-serving first."""
    members = await organizations.list_members(snapshot, organization)
    admins = [member.user for member in members if member.role is Role.ADMIN]
    users = await identity.users_by_id(snapshot, admins)
    return [users[admin] for admin in admins]


def billing_contacts(organization: Organization, admins: Sequence[User]) -> Sequence[tuple[str, str]]:
    """Address and name of whom to write to about the organization's money."""
    if organization.billing_email is not None:
        return [(organization.billing_email, organization.name)]
    return [(admin.email, admin.name) for admin in admins]


async def name_of(snapshot: Snapshot, owner: OwnerId) -> str:
    """How an owner is called in a mail."""
    if is_personal(owner):
        found = await identity.get_user(snapshot, UserId(owner))
        return f"{found.name} ({found.email})"
    return await organizations.get_name(snapshot, OrganizationId(owner))


async def require_open(tx: Tx, owner: OwnerId) -> None:
    """Before something comes to an owner that must not outlive it: until the transaction ends the organization is not deleted. Raises
    `NoSuchOrganization`."""
    if not is_personal(owner):
        await organizations.keep(tx, OrganizationId(owner))


class AddressUnproven(Conflict):
    """Somebody signed up with this address and never showed that it is theirs."""


async def require_own_address(snapshot: Snapshot, user: UserId) -> None:
    """Before the operator gives something to whoever has an address: a stranger may have signed up with it.

    Somebody the operator added has no password until they opened the link that went to the address. Raises `AddressUnproven`.
    """
    found = await identity.get_user(snapshot, user)
    if not found.is_verified and await identity.find_password_hash(snapshot, user) is not None:
        raise AddressUnproven(
            f"{found.email} signed up but never verified the address: it may be somebody else's.",
            remedy="They open the link in their mail first; `bursar users reset` sends a new one.",
        )


async def whom_to_ask(snapshot: Snapshot, organization: OrganizationId) -> str:
    """`"Your admins: Ana Ruiz (ana@example.com)."`"""
    admins = await admins_of(snapshot, organization)
    return f"Your admins: {', '.join(f'{admin.name} ({admin.email})' for admin in admins)}."


def _no_such_owner() -> NoSuchOwner:
    return NoSuchOwner("There is no such organization.", remedy="Go back to your personal account.")


async def _role(snapshot: Snapshot, actor: Actor, owner: OwnerId) -> Role | None:
    if actor.kind is ActorKind.OPERATOR:
        return Role.PERSONAL if is_personal(owner) else Role.ADMIN
    if actor.user is None:
        return None
    if is_personal(owner):
        return Role.PERSONAL if UserId(owner) == actor.user else None
    return await organizations.find_role(snapshot, OrganizationId(owner), actor.user)
