from dataclasses import dataclass

from sqlalchemy import case, func, select

from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos
from bursar.ledger import Account, balance
from bursar.ledger import tables as ledger_tables
from bursar.payments import tables as payment_tables
from bursar.storage import Snapshot

_transfers = ledger_tables.transfers


@dataclass(frozen=True)
class CreditTotals:
    """Over the owner's whole life. Their difference is what is left (what running requests hold counts as left);
    corrections, and credits moved from or to another owner, count among the credits."""

    total_credits: Nanos
    total_usage: Nanos


async def has_sandbox_credits(snapshot: Snapshot) -> bool:
    """Whether anybody ever bought credits from the sandbox: credits that cost nobody anything."""
    purchases = payment_tables.purchases
    found = await snapshot.first(
        select(purchases.c.id).where(purchases.c.processor == "sandbox", purchases.c.state == "paid").limit(1)
    )
    return found is not None


async def credit_totals(snapshot: Snapshot, owner: OwnerId) -> CreditTotals:
    into = _transfers.c.credit == Account.CREDITS.value
    came_in = await snapshot.scalar(
        select(
            func.coalesce(func.sum(case((into, _transfers.c.amount_nanos), else_=-_transfers.c.amount_nanos)), 0)
        ).where(_transfers.c.owner_id == owner, _transfers.c.kind.in_(("purchase", "grant", "correction", "move")))
    )
    now = await balance(snapshot, owner)
    return CreditTotals(Nanos(int(came_in)), now.spent)
