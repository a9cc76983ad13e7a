from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select, update

from bursar.kernel.errors import Conflict, InvalidField, NotFound
from bursar.kernel.ids import OwnerId, PurchaseId, UserId
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos, format_credits, parse_credits
from bursar.payments import tables
from bursar.storage import Snapshot, Tx

PURCHASE_NANOS_MIN = Nanos(5 * NANOS_PER_CREDIT)
PURCHASE_NANOS_MAX = Nanos(25_000 * NANOS_PER_CREDIT)
CENT_NANOS = 10_000_000

_purchases = tables.purchases


class PurchaseState(StrEnum):
    PENDING = "pending"
    """Waits for the processor."""
    PAID = "paid"
    """The processor said so, and the credits were added in the same transaction."""
    CANCELLED = "cancelled"
    """The buyer turned back; nothing was charged."""


@dataclass(frozen=True)
class Purchase:
    owner: OwnerId
    id: PurchaseId
    amount: Nanos
    state: PurchaseState
    processor: str
    created_by: UserId
    created_at: datetime
    closed_at: datetime | None


class NoSuchPurchase(NotFound):
    """No purchase has this id here."""


class PurchaseConflict(Conflict):
    """The purchase id was used with another amount."""


def require_amount(text: str) -> Nanos:
    """Credits to buy, to the cent. Raises `InvalidField`."""
    try:
        amount = parse_credits(text.replace("$", "").replace(",", ""))
    except ValueError:
        raise InvalidField("amount", "Enter an amount like 25 or 25.50.") from None
    if not PURCHASE_NANOS_MIN <= amount <= PURCHASE_NANOS_MAX:
        low, high = format_credits(PURCHASE_NANOS_MIN), format_credits(PURCHASE_NANOS_MAX)
        raise InvalidField("amount", f"Buy between {low} and {high} at a time.")
    if amount % CENT_NANOS:
        raise InvalidField("amount", "An amount has at most two decimal places.")
    return amount


async def open_purchase(
    tx: Tx, *, owner: OwnerId, purchase: PurchaseId, amount: Nanos, processor: str, created_by: UserId
) -> Purchase:
    """The purchase with this id, made now or by an earlier click on the same button. Raises `PurchaseConflict`."""
    await tx.execute(
        tx.insert(_purchases)
        .values(
            owner_id=owner,
            id=purchase,
            amount_nanos=amount,
            state=PurchaseState.PENDING.value,
            processor=processor,
            created_by=created_by,
            created_at=tx.now,
        )
        .on_conflict_do_nothing()
    )
    found = await get_purchase(tx, owner, purchase)
    if found.amount != amount:
        raise PurchaseConflict("This purchase was already started with another amount.", remedy="Reload the page.")
    return found


async def mark_paid(tx: Tx, owner: OwnerId, purchase: PurchaseId, processor_event: str) -> bool:
    """Whether this call did it: of any number of events for one purchase, exactly one pays.

    A cancelled purchase can still be paid: events arrive in any order, and money that was taken is never kept for nothing.
    """
    unpaid = (PurchaseState.PENDING, PurchaseState.CANCELLED)
    return await _close(tx, owner, purchase, unpaid, PurchaseState.PAID, processor_event)


async def mark_cancelled(tx: Tx, owner: OwnerId, purchase: PurchaseId) -> bool:
    return await _close(tx, owner, purchase, (PurchaseState.PENDING,), PurchaseState.CANCELLED, None)


async def cancel_pending(tx: Tx, owner: OwnerId) -> int:
    """All that wait for the processor; returns how many. One that is paid all the same is credited all the same."""
    return await tx.execute(
        update(_purchases)
        .where(_purchases.c.owner_id == owner, _purchases.c.state == PurchaseState.PENDING.value)
        .values(state=PurchaseState.CANCELLED.value, closed_at=tx.now)
    )


async def find_purchase(snapshot: Snapshot, purchase: PurchaseId) -> Purchase | None:
    """Any owner's, in system scope: for what arrives from a processor."""
    row = await snapshot.first(select(_purchases).where(_purchases.c.id == purchase))
    return None if row is None else _purchase(row)


async def get_purchase(snapshot: Snapshot, owner: OwnerId, purchase: PurchaseId) -> Purchase:
    row = await snapshot.first(select(_purchases).where(_purchases.c.owner_id == owner, _purchases.c.id == purchase))
    if row is None:
        raise NoSuchPurchase("There is no such purchase.", purchase=purchase)
    return _purchase(row)


async def list_purchases(snapshot: Snapshot, owner: OwnerId, limit: int = 50) -> Sequence[Purchase]:
    """Newest first."""
    rows = await snapshot.all(
        select(_purchases).where(_purchases.c.owner_id == owner).order_by(_purchases.c.id.desc()).limit(limit)
    )
    return [_purchase(row) for row in rows]


async def _close(
    tx: Tx,
    owner: OwnerId,
    purchase: PurchaseId,
    before: tuple[PurchaseState, ...],
    state: PurchaseState,
    event: str | None,
) -> bool:
    changed = await tx.execute(
        update(_purchases)
        .where(
            _purchases.c.owner_id == owner,
            _purchases.c.id == purchase,
            _purchases.c.state.in_(before),
        )
        .values(state=state.value, processor_event=event, closed_at=tx.now)
    )
    return changed == 1


def _purchase(row: Any) -> Purchase:
    return Purchase(
        OwnerId(row.owner_id),
        PurchaseId(row.id),
        Nanos(row.amount_nanos),
        PurchaseState(row.state),
        row.processor,
        UserId(row.created_by),
        row.created_at,
        row.closed_at,
    )
