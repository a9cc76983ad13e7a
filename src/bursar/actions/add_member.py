from bursar import audit, organizations
from bursar.access import Actor, Role
from bursar.actions._standing import require_own_address
from bursar.kernel.ids import OrganizationId, OwnerId, UserId
from bursar.storage import SYSTEM, Database


async def add_member(
    database: Database, actor: Actor, *, organization: OrganizationId, user: UserId, role: Role
) -> None:
    """The operator puts a user into an organization, never past its cap.

    Raises `AddressUnproven`, `OrganizationFull`, `AlreadyMember`, `NoSuchOrganization`.
    """
    async with database.begin(SYSTEM) as tx:
        await require_own_address(tx, user)
        await organizations.add_member(tx, organization, user, role)
        await audit.record(tx, actor, OwnerId(organization), "member.added", user, role=role.value)
