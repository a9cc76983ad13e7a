from bursar import audit, identity, organizations
from bursar.access import Actor, Role
from bursar.actions._standing import require_own_address
from bursar.kernel.ids import OrganizationId, OwnerId, UserId
from bursar.organizations import InvitationState
from bursar.storage import SYSTEM, Database


async def add_member(
    database: Database, actor: Actor, *, organization: OrganizationId, user: UserId, role: Role
) -> None:
    """The operator puts a user into an organization, never past its cap. An invitation that waits for them is used up by it.

    Raises `AddressUnproven`, `OrganizationFull`, `AlreadyMember`, `NoSuchOrganization`.
    """
    async with database.begin(SYSTEM) as tx:
        await require_own_address(tx, user)
        await organizations.lock(tx, organization)
        address = identity.normalize_email((await identity.get_user(tx, user)).email)
        waiting = await organizations.find_pending(tx, organization, address)
        if waiting is not None and waiting.state is InvitationState.PENDING:
            await organizations.close(tx, waiting, InvitationState.ACCEPTED, accepted_by=user)
        await organizations.add_member(tx, organization, user, role)
        await audit.record(tx, actor, OwnerId(organization), "member.added", user, role=role.value)
