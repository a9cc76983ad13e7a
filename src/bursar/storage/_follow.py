"""Hearing the changes that other nodes on the same database announced."""

import asyncio
import logging
from datetime import timedelta

from sqlalchemy import delete, select

from bursar.kernel.errors import BursarError
from bursar.storage import tables
from bursar.storage._changes import Change
from bursar.storage._database import SYSTEM, Database

POLL_SECONDS = 0.3
OVERLAP = timedelta(seconds=15)
"""How far back a poll reads again: sequence numbers may become visible out of order, by as long as a transaction takes."""
KEPT = timedelta(hours=1)

_log = logging.getLogger("bursar.changes")


async def follow(database: Database) -> None:
    """Publishes other nodes' changes here until cancelled. While the database is away nothing is lost: the table keeps it."""
    seen: set[int] = set()
    while True:
        try:
            seen = await _poll(database, seen)
        except BursarError as error:
            _log.warning("could not read the changes of other nodes: %s", error.sentence)
        except Exception:  # noqa: BLE001 - a node that stopped listening would honour revoked keys for ever
            _log.exception("could not read the changes of other nodes")
        await asyncio.sleep(POLL_SECONDS)


async def _poll(database: Database, seen: set[int]) -> set[int]:
    table = tables.changes
    async with database.snapshot(SYSTEM) as snapshot:
        rows = await snapshot.all(
            select(table.c.seq, table.c.kind, table.c.subject)
            .where(table.c.at >= database.clock.now() - OVERLAP, table.c.node != database.node)
            .order_by(table.c.seq)
        )
    database.changes.publish(Change(row.kind, row.subject) for row in rows if row.seq not in seen)
    return {row.seq for row in rows}


async def forget_old_changes(database: Database) -> None:
    async with database.begin(SYSTEM) as tx:
        await tx.execute(delete(tables.changes).where(tables.changes.c.at < database.clock.now() - KEPT))
