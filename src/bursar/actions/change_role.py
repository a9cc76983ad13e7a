from bursar import audit, identity, keys, organizations
from bursar.access import Actor, Permission, Role
from bursar.actions._departure import disable_keys, to_notes
from bursar.actions._mails import notify
from bursar.actions._standing import enter_locked
from bursar.audit import Change
from bursar.kernel.ids import OrganizationId, OwnerId, UserId
from bursar.keys import Key, KeyKind
from bursar.mail import role_changed
from bursar.organizations import Member
from bursar.storage import Database, Scope, Tx


async def change_role(
    database: Database,
    actor: Actor,
    *,
    organization: OrganizationId,
    member: UserId,
    role: Role,
    public_url: str,
) -> Member:
    """The member as they are then; told by mail when somebody else changed it. An admin who becomes a member loses the management
    keys they made: only admins have such keys, so they are disabled.

    Raises `PermissionDenied`, `NoSuchOwner`, `PersonalAccount`, `InvalidField`, `NoSuchMember`; `LastAdminStays` for the only
    admin.
    """
    role = organizations.require_role(role)
    owner = OwnerId(organization)
    async with database.begin(Scope(owner)) as tx:
        await enter_locked(tx, actor, organization, Permission.MANAGE_MEMBERS)
        before = await organizations.change_role(tx, organization, member, role)
        if before is not role:
            await audit.record(tx, actor, owner, "member.role_changed", member, role=Change(before.value, role.value))
            disabled = await _disable_management_keys(tx, actor, owner, member) if role is Role.MEMBER else []
            if actor.user != member:
                await _tell(tx, actor, organization, member, role, disabled, public_url)
        return await organizations.get_member(tx, organization, member)


async def _disable_management_keys(tx: Tx, actor: Actor, owner: OwnerId, member: UserId) -> list[Key]:
    made = await keys.list_keys(tx, owner, creator=member)
    return await disable_keys(tx, actor, [key for key in made if key.kind is KeyKind.MANAGEMENT])


async def _tell(
    tx: Tx,
    actor: Actor,
    organization: OrganizationId,
    member: UserId,
    role: Role,
    disabled: list[Key],
    public_url: str,
) -> None:
    found = await organizations.get_organization(tx, organization)
    user = await identity.get_user(tx, member)
    by = None if actor.user is None else (await identity.get_user(tx, actor.user)).name
    keys_page = f"{public_url}/orgs/{found.slug}/keys"
    message = role_changed(user.email, user.name, found.name, role, by, keys_page, await to_notes(tx, disabled, None))
    await notify(tx, [message])
