from bursar.access import Actor, Permission
from bursar.actions._departure import Departure, depart
from bursar.actions._standing import enter_locked
from bursar.kernel.errors import Forbidden
from bursar.kernel.ids import OrganizationId
from bursar.storage import SYSTEM, Database


async def leave_organization(
    database: Database, actor: Actor, *, organization: OrganizationId, public_url: str
) -> Departure:
    """Ends the actor's own membership. The keys they created are disabled: who leaves knows their secrets, and whether something
    may go on with them is for an admin to say, who can enable one again or remove the person instead and take the keys over. The
    personal account stays as it is.

    Raises `NoSuchOwner`, `PersonalAccount`, `LastAdminStays`.
    """
    async with database.begin(SYSTEM) as tx:  # sees where the person worked, which stands with the person
        await enter_locked(tx, actor, organization, Permission.LEAVE)
        if actor.user is None:
            raise Forbidden("Only a member can leave an organization.", remedy="An admin can remove a member.")
        return await depart(tx, actor, organization, actor.user, hand_over_to=None, public_url=public_url)
