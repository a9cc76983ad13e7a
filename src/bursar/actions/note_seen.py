from bursar import identity
from bursar.identity import Session
from bursar.storage import SYSTEM, Database


async def note_seen(database: Database, session: Session) -> None:
    """The session is in use: it does not end by standing idle."""
    async with database.begin(SYSTEM) as tx:
        await identity.note_seen(tx, session.id)
