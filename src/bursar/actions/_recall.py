"""Getting back what workers leased of an owner's credits and do not need just now, before the credits go elsewhere."""

import asyncio

from bursar import ledger
from bursar.kernel.errors import Conflict
from bursar.kernel.ids import OwnerId
from bursar.storage import Database, Scope

LOOK_SECONDS = 0.02
LOOKS_MAX = 50
"""A second in all: as long as a change takes to be heard on every node."""


class CreditsInUse(Conflict):
    """A part of the credits is reserved for requests that run."""


async def recall(database: Database, owner: OwnerId, amount: int | None = None) -> None:
    """Returns when nothing is leased, or (`amount`) so many nanos are not or never will be, or after a while: the caller then finds
    what there is."""
    async with database.begin(Scope(owner)) as tx:
        if _is_enough(await ledger.balance(tx, owner), amount):
            return
        await ledger.recall(tx, owner)
    for _ in range(LOOKS_MAX):
        await asyncio.sleep(LOOK_SECONDS)
        async with database.snapshot(Scope(owner)) as snapshot:
            if _is_enough(await ledger.balance(snapshot, owner), amount):
                return


def _is_enough(found: ledger.Balance, amount: int | None) -> bool:
    if found.leased == 0:
        return True
    return amount is not None and (found.unleased >= amount or found.available < amount)
