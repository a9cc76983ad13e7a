from bursar import identity
from bursar.storage import SYSTEM, Database


async def forget_ended(database: Database) -> None:
    """Deletes sessions that ended by themselves, and failed attempts that say nothing any more."""
    async with database.begin(SYSTEM) as tx:
        await identity.forget_ended_sessions(tx)
        await identity.forget_old_attempts(tx)
