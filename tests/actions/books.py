"""Short words for tests of actions that touch money: what somebody has, what was recorded, what was written to whom."""

import json

from sqlalchemy import text

from bursar import actions, audit, ledger, reports
from bursar.access import Actor
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.storage import SYSTEM, Database


def credits_(amount: float) -> Nanos:
    return Nanos(int(amount * 100) * (NANOS_PER_CREDIT // 100))


async def grant(database: Database, owner: OwnerId, amount: float) -> None:
    await actions.grant_credits(database, Actor.operator(), owner=owner, amount=credits_(amount), reason="for tests")


async def balance(database: Database, owner: OwnerId) -> ledger.Balance:
    async with database.snapshot(SYSTEM) as snapshot:
        return await ledger.balance(snapshot, owner)


async def recorded(database: Database, owner: OwnerId) -> list[str]:
    """Newest first."""
    async with database.snapshot(SYSTEM) as snapshot:
        return [event.action for event in await audit.list_events(snapshot, owner)]


async def mailed(database: Database) -> list[tuple[str, str]]:
    """To whom, and the subject, in order."""
    async with database.snapshot(SYSTEM) as snapshot:
        rows = await snapshot.all(text("SELECT summary FROM outbox WHERE topic = 'mail' ORDER BY id"))
    found = [json.loads(row.summary) for row in rows]
    return [(each["to"], each["subject"]) for each in found]


async def require_right(database: Database) -> None:
    """Everything adds up: the ledger, the leases, the moves, and what was charged."""
    async with database.snapshot(SYSTEM) as snapshot:
        found = await reports.verify_all(snapshot)
    assert found.drift == 0, found.differences
    assert found.difference_count == 0, found.differences
