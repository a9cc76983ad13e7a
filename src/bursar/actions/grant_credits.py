from bursar import audit, ledger
from bursar.access import Actor
from bursar.actions._standing import require_open
from bursar.kernel.ids import OwnerId, new_transfer_id
from bursar.kernel.money import Nanos
from bursar.ledger import Account, Transfer, TransferKind
from bursar.storage import SYSTEM, Database


async def grant_credits(
    database: Database, actor: Actor, *, owner: OwnerId, amount: Nanos, reason: str, transfer_id: str | None = None
) -> str:
    """The operator gives credits; returns the transfer's id. A repeat with the same id and content grants once. Raises
    `NoSuchOrganization`, also for one that was deleted."""
    async with database.begin(SYSTEM) as tx:
        await require_open(tx, owner)
        name = transfer_id or new_transfer_id(tx.now)
        transfer = Transfer(owner, name, TransferKind.GRANT, Account.GRANTS, Account.CREDITS, amount, reason=reason)
        if await ledger.post(tx, [transfer]):
            await audit.record(tx, actor, owner, "credits.granted", name, amount_nanos=amount, reason=reason)
        return name
