"""What only one process does at a time: it holds a name in the database, until it lets go or is not heard of for a while."""

from datetime import timedelta

from sqlalchemy import delete, or_

from bursar.storage import tables
from bursar.storage._database import SYSTEM, Database

_table = tables.holders


async def hold(database: Database, name: str, *, keep: timedelta) -> bool:
    """Whether this process has `name` for the time `keep` from now on, because nobody else had it or it had it before."""
    async with database.begin(SYSTEM) as tx:
        now = await tx.database_time()
        mine = {"holder": database.announcer, "until": now + keep}
        proposed = tx.insert(_table).values(name=name, **mine)
        rows = await tx.returning(
            proposed.on_conflict_do_update(
                index_elements=["name"],
                set_=mine,
                where=or_(_table.c.holder == database.announcer, _table.c.until < now),
            ).returning(_table.c.name)
        )
        return len(rows) == 1


async def let_go(database: Database, name: str) -> None:
    """So that another process need not wait; nothing happens when this one does not have it."""
    async with database.begin(SYSTEM) as tx:
        await tx.execute(delete(_table).where(_table.c.name == name, _table.c.holder == database.announcer))
