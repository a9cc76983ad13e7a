from bursar import audit, organizations
from bursar.access import Actor
from bursar.actions._standing import require_operator
from bursar.audit import Change
from bursar.kernel.ids import OrganizationId, OwnerId
from bursar.organizations import Organization
from bursar.storage import Database, Scope


async def set_seats(database: Database, actor: Actor, *, organization: OrganizationId, seats: int) -> Organization:
    """The operator raises or lowers how many members an organization may have; never below the seats in use.

    Raises `OperatorOnly`, `NoSuchOrganization`, `SeatsTaken`, `InvalidField`.
    """
    owner = OwnerId(organization)
    async with database.begin(Scope(owner)) as tx:
        await require_operator(tx, actor)
        before = await organizations.get_locked(tx, organization)
        if before.seats_max != seats:
            await organizations.set_seats_max(tx, before, seats)
            await audit.record(
                tx, actor, owner, "organization.seats_changed", organization, seats=Change(before.seats_max, seats)
            )
        return await organizations.get_organization(tx, organization)
