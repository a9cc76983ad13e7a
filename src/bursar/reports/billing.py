"""What was bought, granted and spent: purchases, and a statement by calendar month like a bank's."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, func, select, type_coerce

from bursar import ledger, payments
from bursar.activity import tables as activity_tables
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos
from bursar.ledger import Account, Balance, PostedTransfer, TransferKind
from bursar.ledger import tables as ledger_tables
from bursar.payments import Purchase
from bursar.storage import Snapshot

_hours = activity_tables.usage_hours

DAY_MICROSECONDS = 86_400_000_000
_KINDS = (TransferKind.PURCHASE, TransferKind.GRANT, TransferKind.CORRECTION, TransferKind.MOVE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class StatementRow:
    """One transfer, or one day's usage summed up (`requests` says of how many). `amount` is signed, `after` the balance then.
    `corrects` is the transfer that a correction is of."""

    at: datetime
    kind: str
    amount: Nanos
    after: Nanos
    reference: str | None
    reason: str | None
    requests: int | None
    corrects: str | None = None


@dataclass(frozen=True)
class Billing:
    """`rows` of one month, newest first; `opening` and `closing` are the balance (with what requests hold) at its ends.

    `month`, `earlier`, `later` are like "2026-11"; the last two are None where there is nothing.
    """

    balance: Balance
    purchases: Sequence[Purchase]
    month: str
    earlier: str | None
    later: str | None
    opening: Nanos
    closing: Nanos
    rows: Sequence[StatementRow]


async def billing(snapshot: Snapshot, owner: OwnerId, month: str | None) -> Billing:
    """The statement of a month like "2026-11"; anything else means the present one."""
    start, end = _bounds(month, snapshot.now)
    balance = await ledger.balance(snapshot, owner)
    later = await _moves(snapshot, owner, end, snapshot.now + timedelta(days=1))
    closing = balance.total - sum(amount for _, _, amount, *_ in later)
    after = closing
    rows = []
    moves = await _moves(snapshot, owner, start, end)
    for at, kind, amount, reference, reason, requests, corrects in moves:
        rows.append(StatementRow(at, kind, Nanos(amount), Nanos(after), reference, reason, requests, corrects))
        after -= amount
    first = await _first(snapshot, owner)
    return Billing(
        balance=balance,
        purchases=await payments.list_purchases(snapshot, owner),
        month=_name(start),
        earlier=_name(start - timedelta(days=1)) if first is not None and first < start else None,
        later=_name(end) if end <= snapshot.now else None,
        opening=Nanos(after),
        closing=Nanos(closing),
        rows=rows,
    )


_Move = tuple[datetime, str, int, str | None, str | None, int | None, str | None]


async def _moves(snapshot: Snapshot, owner: OwnerId, since: datetime, until: datetime) -> list[_Move]:
    """Newest first; usage by day, dated at its last moment so that it stands above what came in that day."""
    moves = [_move(found) for found in await ledger.list_transfers(snapshot, owner, _KINDS, since, until)]
    day = type_coerce(_hours.c.hour, BigInteger) // DAY_MICROSECONDS
    by_day = (
        select(
            day.label("day"), func.sum(_hours.c.cost_nanos).label("cost"), func.sum(_hours.c.requests).label("requests")
        )
        .where(_hours.c.owner_id == owner, _hours.c.hour >= since, _hours.c.hour < until)
        .group_by("day")
    )
    rows = await snapshot.all(by_day)
    for row in rows:
        if row.cost:
            end_of_day = _EPOCH + timedelta(days=int(row.day) + 1, microseconds=-1)
            moves.append((min(end_of_day, snapshot.now), "usage", -int(row.cost), None, None, int(row.requests), None))
    return sorted(moves, key=lambda move: move[0], reverse=True)


def _move(found: PostedTransfer) -> _Move:
    transfer = found.transfer
    amount = transfer.amount if transfer.credit is Account.CREDITS else -transfer.amount
    corrects = transfer.reference if transfer.kind is TransferKind.CORRECTION else None
    return found.at, transfer.kind.value, amount, transfer.id, transfer.reason, None, corrects


async def _first(snapshot: Snapshot, owner: OwnerId) -> datetime | None:
    found: Any = await snapshot.scalar(
        select(func.min(ledger_tables.transfers.c.at)).where(ledger_tables.transfers.c.owner_id == owner)
    )
    return found if isinstance(found, datetime) else None


def _bounds(month: str | None, now: datetime) -> tuple[datetime, datetime]:
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    with suppress(ValueError):
        start = min(start, datetime.strptime(month or "", "%Y-%m").replace(tzinfo=UTC))
    return start, (start + timedelta(days=32)).replace(day=1)


def _name(moment: datetime) -> str:
    return moment.strftime("%Y-%m")
