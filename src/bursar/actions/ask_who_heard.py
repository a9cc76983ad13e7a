"""After something was taken away: have all servers heard of it? Asked outside every transaction, for as long as a person waits."""

import asyncio
from dataclasses import dataclass

from bursar import ledger
from bursar.kernel.errors import BursarError
from bursar.storage import ASKED, SYSTEM, Database, to_microseconds

ASK_SECONDS = 1.0
LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Acknowledged:
    """`by` of `of` workers that may be serving have confirmed; `of` None: the database could not tell."""

    by: int
    of: int | None

    @property
    def everywhere(self) -> bool:
        return self.of is not None and self.by >= self.of


async def ask_who_heard(database: Database) -> Acknowledged:
    """Which workers honour what was committed until now. Returns when all do, or after a second, with what is known then.

    What was committed stays committed, whatever the answer: a worker that is cut off from the database refuses everything when its
    blind time is over. On SQLite there is one process, which hears of everything with the commit.
    """
    if database.dialect == "sqlite":
        return Acknowledged(1, 1)
    begun = database.clock.monotonic()
    try:
        async with database.begin(SYSTEM) as tx:
            asked_at = await tx.database_time()
            await tx.announce(ASKED, str(to_microseconds(asked_at)))
        for _ in range(int(ASK_SECONDS / LOOK_SECONDS)):
            async with database.snapshot(SYSTEM) as snapshot:
                heard = await ledger.count_heard(snapshot, asked_at)
            if heard.by >= heard.of or database.clock.monotonic() - begun > ASK_SECONDS:
                break
            await asyncio.sleep(LOOK_SECONDS)
    except BursarError:
        return Acknowledged(0, None)
    return Acknowledged(heard.by, heard.of)
