from bursar import audit, keys
from bursar.access import Actor
from bursar.kernel.ids import OwnerId, UserId
from bursar.storage import Tx


async def disable_personal_keys(tx: Tx, actor: Actor, user: UserId) -> int:
    """The keys of a personal account stop working: those that a stranger made before the address was proved, or all when it goes.
    How many did."""
    working = [key for key in await keys.list_keys(tx, OwnerId(user)) if key.disabled_at is None]
    for key in working:
        await keys.set_disabled(tx, key, disabled=True)
        await audit.record(tx, actor, OwnerId(user), "key.disabled", key.id, name=key.name)
    return len(working)
