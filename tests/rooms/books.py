"""Short words for the ledger's tests: grant, look, add up, and change what nobody may."""

from datetime import UTC, datetime

from sqlalchemy import text

from bursar import ledger
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos
from bursar.ledger import Account, Transfer, TransferKind, Verification
from bursar.storage import SYSTEM, Database, Scope

ACME = OwnerId("org_acme")
GLOBEX = OwnerId("org_globex")
AT = datetime(2026, 11, 24, tzinfo=UTC)


def grant_of(owner: OwnerId, name: str, amount: int, reason: str | None = None) -> Transfer:
    return Transfer(owner, name, TransferKind.GRANT, Account.GRANTS, Account.CREDITS, Nanos(amount), reason=reason)


async def grant(database: Database, owner: OwnerId, amount: int, name: str = "tr_grant") -> int:
    async with database.begin(SYSTEM) as tx:
        return await ledger.post(tx, [grant_of(owner, name, amount)])


async def balance(database: Database, owner: OwnerId) -> tuple[int, int, int]:
    async with database.snapshot(Scope(owner)) as snapshot:
        found = await ledger.balance(snapshot, owner)
    return found.available, found.held, found.spent


async def verify(database: Database) -> Verification:
    async with database.snapshot(SYSTEM) as snapshot:
        return await ledger.verify(snapshot)


async def tamper(database: Database, statement: str) -> None:
    engine = database.owner_engine()
    try:
        async with engine.begin() as connection:
            if database.dialect == "postgresql":
                await connection.execute(text("SELECT set_config('bursar.owner', '*', true)"))
            assert (await connection.execute(text(statement))).rowcount == 1
    finally:
        await engine.dispose()
