from bursar import audit, identity
from bursar.access import Actor
from bursar.kernel.ids import OwnerId, UserId
from bursar.storage import SYSTEM, Database


async def rename_user(database: Database, actor: Actor, user: UserId, name: str) -> None:
    """Raises `InvalidField`."""
    async with database.begin(SYSTEM) as tx:
        await identity.rename(tx, user, name)
        await audit.record(tx, actor, OwnerId(user), "user.renamed", user, name=name)
