from bursar import audit, identity
from bursar.access import Actor
from bursar.audit import Change
from bursar.kernel.ids import OwnerId, UserId
from bursar.storage import SYSTEM, Database


async def rename_user(database: Database, actor: Actor, user: UserId, name: str) -> None:
    """Raises `InvalidField`."""
    async with database.begin(SYSTEM) as tx:
        before = await identity.get_user(tx, user)
        await identity.rename(tx, user, name)
        named = Change(before.name, (await identity.get_user(tx, user)).name)
        if named.is_one:
            await audit.record(tx, actor, OwnerId(user), "user.renamed", user, name=named)
