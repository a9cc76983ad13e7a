"""Short words for the ledger's tests: grant, lease, apply, look, add up, and change what nobody may."""

from datetime import UTC, datetime

from sqlalchemy import text

from bursar import ledger
from bursar.kernel.ids import GenerationId, OwnerId, UserId, WorkerId
from bursar.kernel.money import Nanos
from bursar.ledger import Account, Applied, Batch, OpenHold, Settlement, Transfer, TransferKind, Verification
from bursar.storage import SYSTEM, Database, Scope

ACME = OwnerId("org_acme")
GLOBEX = OwnerId("org_globex")
ONE = WorkerId("node_a.1")
TWO = WorkerId("node_a.2")
AT = datetime(2026, 11, 24, tzinfo=UTC)


def grant_of(owner: OwnerId, name: str, amount: int, reason: str | None = None) -> Transfer:
    return Transfer(owner, name, TransferKind.GRANT, Account.GRANTS, Account.CREDITS, Nanos(amount), reason=reason)


def hold_of(owner: OwnerId, generation: str, amount: int, node: str = "node_test") -> OpenHold:
    return OpenHold(
        owner, GenerationId(generation), Nanos(amount), node, "v1", None, UserId("user_1"), "demo/echo-1", AT
    )


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


async def register(database: Database, *workers: WorkerId) -> None:
    async with database.begin(SYSTEM) as tx:
        for worker in workers:
            await ledger.register_worker(tx, worker, worker.partition(".")[0])


async def lease(database: Database, want: int, name: str, worker: WorkerId = ONE, owner: OwnerId = ACME) -> int:
    async with database.begin(Scope(owner)) as tx:
        return await ledger.lease(tx, owner, worker, Nanos(want), transfer_id=name)


async def give_back(database: Database, amount: int, name: str, worker: WorkerId = ONE, owner: OwnerId = ACME) -> int:
    async with database.begin(Scope(owner)) as tx:
        return await ledger.return_lease(tx, owner, worker, Nanos(amount), transfer_id=name)


async def leases(database: Database, worker: WorkerId | None = None) -> dict[tuple[OwnerId, WorkerId], int]:
    async with database.snapshot(SYSTEM) as snapshot:
        return {(each.owner, each.worker): each.amount for each in await ledger.list_leases(snapshot, worker)}


def batch_of(first: int, last: int, *settlements: tuple[str, int] | tuple[str, int, OwnerId]) -> Batch:
    """Each settlement is a generation, a charge and, unless that is Acme, an owner."""
    made = [
        Settlement(owner[0] if owner else ACME, GenerationId(name), Nanos(charge))
        for name, charge, *owner in settlements
    ]
    return Batch(first, last, made)


async def apply(database: Database, batch: Batch, worker: WorkerId = ONE) -> Applied:
    async with database.begin(SYSTEM) as tx:
        return await ledger.apply_batch(tx, worker, batch)
