from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from bursar.kernel.errors import Conflict, PaymentRequired
from bursar.kernel.ids import SYSTEM_OWNER, OwnerId
from bursar.kernel.money import NANOS_MAX, Nanos, format_credits
from bursar.ledger import tables
from bursar.ledger._rules import Account, Transfer, TransferKind, net_changes
from bursar.storage import Snapshot, Tx

_accounts = tables.accounts
_transfers = tables.transfers


class InsufficientFunds(PaymentRequired):
    """A transfer would take an account below zero; nothing of its transaction happens."""

    def __init__(self, owner: OwnerId, account: Account) -> None:
        super().__init__("Insufficient credits.", owner=owner, account=account.value)


class TransferConflict(Conflict):
    """A transfer with this id exists and says something else."""


class BalanceTooLarge(Conflict):
    """A balance would not fit its 64-bit column; nothing of its transaction happens."""


@dataclass(frozen=True)
class Balance:
    """An owner's money. `unleased` is what a lease or a hold may still take; `leased` is with the workers, who spend it; `held` is
    reserved for requests that run; `spent` is the sum of all charges."""

    unleased: Nanos
    leased: Nanos
    held: Nanos
    spent: Nanos

    @property
    def available(self) -> Nanos:
        """What the owner may spend, wherever it lies."""
        return Nanos(self.unleased + self.leased)

    @property
    def total(self) -> Nanos:
        """What is left when nothing that runs costs anything."""
        return Nanos(self.available + self.held)


async def post(tx: Tx, transfers: Sequence[Transfer]) -> int:
    """Posts transfers, all or none; returns how many were new.

    A transfer whose id was posted before with the same content is skipped, so that repeating is harmless. Raises
    `TransferConflict` when the content differs, `InsufficientFunds` when an account would go below zero and `BalanceTooLarge`
    when one would not fit: in all cases the caller's transaction must not commit, and does not, because the error leaves its block.
    """
    fresh: list[Transfer] = []
    for transfer, is_new in await insert(tx, transfers):
        if is_new:
            fresh.append(transfer)
        else:
            await _require_same(tx, transfer)
    for owner, account, change in net_changes(fresh):
        await _add(tx, owner, account, change)
    return len(fresh)


async def balance(snapshot: Snapshot, owner: OwnerId) -> Balance:
    return (await balances(snapshot, [owner]))[owner]


async def lock_credits(tx: Tx, owner: OwnerId) -> Nanos:
    """What may be leased or held, kept still until the transaction ends (`credits` comes first in the order in which rows are locked)."""
    found = await tx.scalar(
        select(_accounts.c.balance_nanos)
        .where(_accounts.c.owner_id == owner, _accounts.c.account == Account.CREDITS.value)
        .with_for_update()
    )
    return Nanos(int(found or 0))


async def balances(snapshot: Snapshot, owners: Iterable[OwnerId]) -> dict[OwnerId, Balance]:
    """Every owner asked for; one that never had money has zeros."""
    owners = list(owners)
    rows = await snapshot.all(select(_accounts).where(_accounts.c.owner_id.in_(owners)))
    found: dict[tuple[str, str], int] = {(row.owner_id, row.account): row.balance_nanos for row in rows}
    return {
        owner: Balance(
            unleased=Nanos(found.get((owner, Account.CREDITS), 0)),
            leased=Nanos(found.get((owner, Account.LEASED), 0)),
            held=Nanos(found.get((owner, Account.HELD), 0)),
            spent=Nanos(found.get((owner, Account.SPENT), 0)),
        )
        for owner in owners
    }


@dataclass(frozen=True)
class PostedTransfer:
    transfer: Transfer
    at: datetime


async def list_transfers(
    snapshot: Snapshot, owner: OwnerId, kinds: Iterable[TransferKind], since: datetime, until: datetime
) -> Sequence[PostedTransfer]:
    """Of these kinds, `since` ≤ at < `until`, newest first."""
    rows = await snapshot.all(
        select(_transfers)
        .where(
            _transfers.c.owner_id == owner,
            _transfers.c.kind.in_([kind.value for kind in kinds]),
            _transfers.c.at >= since,
            _transfers.c.at < until,
        )
        .order_by(_transfers.c.at.desc(), _transfers.c.id.desc())
    )
    return [PostedTransfer(_transfer(row), row.at) for row in rows]


async def insert(tx: Tx, transfers: Sequence[Transfer]) -> list[tuple[Transfer, bool]]:
    """Adds the rows and nothing to any balance; each transfer with whether it was new. Of two with one id the first may be new."""
    if not transfers:
        return []
    added = await tx.returning(
        tx.insert(_transfers)
        .on_conflict_do_nothing(index_elements=["owner_id", "id"])
        .returning(_transfers.c.owner_id, _transfers.c.id),
        [_row(transfer, tx.now) for transfer in transfers],
    )
    new = {(row.owner_id, row.id) for row in added}
    found = []
    for transfer in transfers:
        name = (transfer.owner, transfer.id)
        found.append((transfer, name in new))
        new.discard(name)
    return found


async def find_transfer(snapshot: Snapshot, owner: OwnerId, name: str) -> Transfer | None:
    row = await snapshot.first(select(_transfers).where(_transfers.c.owner_id == owner, _transfers.c.id == name))
    return None if row is None else _transfer(row)


async def _require_same(tx: Tx, transfer: Transfer) -> None:
    if await find_transfer(tx, transfer.owner, transfer.id) != transfer:
        raise TransferConflict(
            f"Transfer {transfer.id} was posted before with other content "
            f"({format_credits(transfer.amount)} {transfer.kind.value} now).",
            transfer=transfer.id,
        )


async def _add(tx: Tx, owner: OwnerId, account: Account, change: int) -> None:
    """Adds to one balance by compare-and-set; a first entry makes the account."""
    if change < 0 and owner != SYSTEM_OWNER:
        changed = await tx.execute(
            update(_accounts)
            .where(
                _accounts.c.owner_id == owner,
                _accounts.c.account == account.value,
                _accounts.c.balance_nanos + change >= 0,
            )
            .values(balance_nanos=_accounts.c.balance_nanos + change)
        )
        if changed != 1:
            raise InsufficientFunds(owner, account)
        return
    # SQLite would turn a sum beyond 64 bits into a float, PostgreSQL would fail without a name.
    fits = (
        _accounts.c.balance_nanos <= NANOS_MAX - change
        if change > 0
        else _accounts.c.balance_nanos >= -NANOS_MAX - change
    )
    added = await tx.execute(
        tx.insert(_accounts)
        .values(owner_id=owner, account=account.value, balance_nanos=change)
        .on_conflict_do_update(
            index_elements=["owner_id", "account"],
            set_={"balance_nanos": _accounts.c.balance_nanos + change},
            where=fits,
        )
    )
    if added != 1:
        raise BalanceTooLarge("That is more credits than one account can hold.", owner=owner, account=account.value)


def _row(transfer: Transfer, at: datetime) -> dict[str, Any]:
    return {
        "owner_id": transfer.owner,
        "id": transfer.id,
        "kind": transfer.kind.value,
        "debit": transfer.debit.value,
        "credit": transfer.credit.value,
        "amount_nanos": transfer.amount,
        "reference": transfer.reference,
        "reason": transfer.reason,
        "at": at,
    }


def _transfer(row: Any) -> Transfer:
    return Transfer(
        OwnerId(row.owner_id),
        row.id,
        TransferKind(row.kind),
        Account(row.debit),
        Account(row.credit),
        Nanos(row.amount_nanos),
        row.reference,
        row.reason,
    )
