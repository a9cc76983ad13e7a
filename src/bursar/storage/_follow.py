"""Hearing the changes that other processes on the same database announced.

The table is what is read, so that nothing is lost and nothing heard twice; PostgreSQL's notification only says that now is a good
time to look. Without it, because the connection that listens was lost, looking by the clock goes on.
"""

import asyncio
import logging
from datetime import timedelta

from sqlalchemy import BigInteger, cast, delete, func, select

from bursar.kernel.clock import wait_at_most
from bursar.kernel.errors import BursarError
from bursar.storage import tables
from bursar.storage._changes import Change
from bursar.storage._database import SYSTEM, Database

CHANNEL = "bursar_changes"
"""A trigger on the table notifies it."""
POLL_SECONDS = 0.3
LISTEN_AGAIN_SECONDS = 2.0
"""After the connection that listens was lost."""
OVERLAP = timedelta(seconds=15)
"""How far before the last look one reads again: sequence numbers may become visible out of order, by as long as a transaction takes."""
KEPT = timedelta(hours=1)

_NOW = select(cast(func.extract("epoch", func.now()) * 1_000_000, BigInteger))
"""When the transaction began, which is before what it sees: nothing is overlooked between one look and the next."""

_log = logging.getLogger("bursar.changes")


async def follow(database: Database) -> None:
    """Publishes other processes' changes here until cancelled. While the database is away nothing is lost: the table keeps it."""
    knocked = asyncio.Event()
    listening = asyncio.create_task(_listen_forever(database, knocked))
    try:
        await _look_forever(database, knocked)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _look_forever(database: Database, knocked: asyncio.Event) -> None:
    seen: set[int] = set()
    looked_at: int | None = None
    while True:
        knocked.clear()
        try:
            seen, looked_at = await _poll(database, seen, looked_at)
        except BursarError as error:
            _log.warning("could not read the changes of other processes: %s", error.sentence)
        except Exception:  # noqa: BLE001 - a node that stopped listening would honour revoked keys for ever
            _log.exception("could not read the changes of other processes")
        await wait_at_most(knocked, POLL_SECONDS)


async def _listen_forever(database: Database, knocked: asyncio.Event) -> None:
    while True:
        try:
            async with database.listen(CHANNEL, knocked.set) as lost:
                knocked.set()  # what was announced before anybody listened
                await lost.wait()
                _log.warning("the connection that hears of changes was lost; it is made again")
        except BursarError as error:
            _log.debug("cannot listen for changes: %s", error.sentence)
        except Exception:  # noqa: BLE001 - looking by the clock goes on, but slower
            _log.exception("cannot listen for changes")
        await asyncio.sleep(LISTEN_AGAIN_SECONDS)


async def _poll(database: Database, seen: set[int], looked_at: int | None) -> tuple[set[int], int]:
    """What it saw, and when it looked (the database's time, in microseconds); `looked_at`: the last time, however long ago."""
    table = tables.changes
    async with database.snapshot(SYSTEM) as snapshot:
        # By the database's clock, as the rows are: a node whose own is wrong must hear of a revoked key all the same.
        now: int = await snapshot.scalar(_NOW)
        since = (now if looked_at is None else looked_at) - OVERLAP // timedelta(microseconds=1)
        rows = await snapshot.all(
            select(table.c.seq, table.c.kind, table.c.subject)
            .where(cast(table.c.at, BigInteger) >= since, table.c.node != database.announcer)
            .order_by(table.c.seq)
        )
    database.changes.publish(Change(row.kind, row.subject) for row in rows if row.seq not in seen)
    return {row.seq for row in rows}, now


async def forget_old_changes(database: Database) -> None:
    async with database.begin(SYSTEM) as tx:
        await tx.execute(delete(tables.changes).where(tables.changes.c.at < await tx.database_time() - KEPT))
