"""Adds everything up again: the laws of `money.md`, stated as queries that must find nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, CompoundSelect, Select, case, func, select, union_all

from bursar.kernel.ids import SYSTEM_OWNER
from bursar.ledger import tables
from bursar.ledger._allowances import allowances_apart
from bursar.ledger._holds import HoldState
from bursar.ledger._rules import Account
from bursar.ledger._workers import Worker, list_workers
from bursar.storage import Snapshot

_accounts = tables.accounts
_transfers = tables.transfers
_holds = tables.holds
_leases = tables.leases


@dataclass(frozen=True)
class Verification:
    """All in nanos. `drift` must be 0: the sum of the absolute differences between kept balances and added-up entries, plus
    what all accounts together miss to zero, plus what each owner's `held` account and open holds, `leased` account and leases,
    and what is handed out of each allowance and its leases, differ by. `leased` is a part of `available`.

    `workers` says how far each journal was applied: what is journaled beyond its watermark is lag, never drift.
    """

    drift: int
    accounts: int
    transfers: int
    open_holds: int
    held: int
    available: int
    spent: int
    leased: int = 0
    workers: Sequence[Worker] = ()


async def verify(snapshot: Snapshot) -> Verification:
    """Reads every transfer; in one snapshot, so that a running server changes nothing about the answer."""
    entries = _entries().subquery()
    sums = (
        select(entries.c.owner_id, entries.c.account, func.sum(entries.c.amount).label("total"))
        .group_by(entries.c.owner_id, entries.c.account)
        .subquery()
    )
    compared = await snapshot.all(
        select(_accounts.c.account, _accounts.c.balance_nanos, sums.c.total).join(
            sums, (sums.c.owner_id == _accounts.c.owner_id) & (sums.c.account == _accounts.c.account), isouter=True
        )
    )
    without_account = await snapshot.scalar(
        select(func.coalesce(func.sum(func.abs(sums.c.total)), 0))
        .select_from(sums)
        .join(
            _accounts, (sums.c.owner_id == _accounts.c.owner_id) & (sums.c.account == _accounts.c.account), isouter=True
        )
        .where(_accounts.c.account.is_(None))
    )
    is_open = _holds.c.state == HoldState.OPEN.value
    open_holds = int(await snapshot.scalar(select(func.count()).select_from(_holds).where(is_open)))
    by_account = dict.fromkeys(Account, 0)
    drift = int(without_account)
    for row in compared:
        by_account[Account(row.account)] += row.balance_nanos
        drift += abs(row.balance_nanos - int(row.total or 0))
    drift += abs(sum(by_account.values()))
    drift += await _apart(snapshot, Account.HELD, select(_holds.c.owner_id, _holds.c.amount_nanos).where(is_open))
    drift += await _apart(snapshot, Account.LEASED, select(_leases.c.owner_id, _leases.c.amount_nanos))
    drift += await allowances_apart(snapshot)
    return Verification(
        drift=drift,
        accounts=len(compared),
        transfers=int(await snapshot.scalar(select(func.count()).select_from(_transfers))),
        open_holds=open_holds,
        held=by_account[Account.HELD],
        available=by_account[Account.CREDITS] + by_account[Account.LEASED],
        spent=by_account[Account.SPENT],
        leased=by_account[Account.LEASED],
        workers=await list_workers(snapshot),
    )


async def _apart(snapshot: Snapshot, account: Account, parts: Select[Any]) -> int:
    """By how much the owners' accounts differ from what they are made of, (owner, amount) each: one owner's too much does not make
    up for another's too little."""
    kept = select(_accounts.c.owner_id, _accounts.c.balance_nanos.label("amount")).where(_accounts.c.account == account)
    owner, amount = parts.selected_columns
    both = union_all(kept, parts.with_only_columns(owner, (-amount).label("amount"))).subquery()
    by_owner = select(func.abs(func.sum(both.c.amount)).label("apart")).group_by(both.c.owner_id).subquery()
    return int(await snapshot.scalar(select(func.coalesce(func.sum(by_owner.c.apart), 0))))


def _entries() -> CompoundSelect[Any]:
    """Both sides of every transfer as (owner, account, signed amount)."""

    def side(column: Column[Any], sign: int) -> Select[Any]:
        owner = case((column.like("system:%"), SYSTEM_OWNER), else_=_transfers.c.owner_id)
        return select(
            owner.label("owner_id"), column.label("account"), (sign * _transfers.c.amount_nanos).label("amount")
        )

    return union_all(side(_transfers.c.debit, -1), side(_transfers.c.credit, 1))
