from bursar.access import Actor, Permission
from bursar.actions._departure import Departure, depart
from bursar.actions._standing import enter_locked
from bursar.kernel.errors import Conflict, InvalidInput
from bursar.kernel.ids import OrganizationId, UserId
from bursar.storage import SYSTEM, Database


class ThatIsYou(Conflict):
    """Nobody removes themselves: they leave."""


class NobodyToHandOverTo(InvalidInput):
    """Keys are handed over to the admin who acts, and here it is no admin who does."""


async def remove_member(
    database: Database,
    actor: Actor,
    *,
    organization: OrganizationId,
    member: UserId,
    hand_over_keys: bool = False,
    public_url: str,
) -> Departure:
    """Ends a membership. The keys that the member created are disabled, unless the admin who acts says that they take them over:
    production must be able to go on while the admin rotates what the person knew.

    Raises `PermissionDenied`, `NoSuchOwner`, `PersonalAccount`, `NoSuchMember`, `LastAdminStays`, `ThatIsYou`,
    `NobodyToHandOverTo`.
    """
    async with database.begin(SYSTEM) as tx:  # sees where the person worked, which stands with the person
        await enter_locked(tx, actor, organization, Permission.MANAGE_MEMBERS)
        if member == actor.user:
            raise ThatIsYou("That is you.", remedy="Leave the organization instead.")
        if hand_over_keys and actor.user is None:
            raise NobodyToHandOverTo("Keys are handed over to the admin who acts.", remedy="Let an admin do it.")
        return await depart(
            tx,
            actor,
            organization,
            member,
            hand_over_to=actor.user if hand_over_keys else None,
            public_url=public_url,
        )
