"""In which role an actor stands before an owner, read inside the transaction that acts: never from an older look."""

from bursar import identity, organizations
from bursar.access import Actor, ActorKind, Context, Permission, PermissionDenied, Role, require
from bursar.kernel.errors import Conflict, InvalidInput, NotFound
from bursar.kernel.ids import OrganizationId, OwnerId, UserId, is_personal
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
    members = await organizations.list_members(snapshot, organization)
    admins = [member.user for member in members if member.role is Role.ADMIN]
    users = await identity.users_by_id(snapshot, admins)
    named = ", ".join(f"{users[admin].name} ({users[admin].email})" for admin in admins)
    return f"Your admins: {named}."


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
