"""Adds everything up again: the laws of `money.md`, stated as queries that must find nothing."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, CompoundSelect, Select, case, func, select, union_all

from bursar.kernel.ids import SYSTEM_OWNER
from bursar.ledger import tables
from bursar.ledger._holds import HoldState
from bursar.ledger._rules import Account
from bursar.storage import Snapshot

_accounts = tables.accounts
_transfers = tables.transfers
_holds = tables.holds


@dataclass(frozen=True)
class Verification:
    """All in nanos. `drift` must be 0: the sum of the absolute differences between kept balances and added-up entries, plus
    what all accounts together miss to zero, plus what `held` accounts and open holds differ by."""

    drift: int
    accounts: int
    transfers: int
    open_holds: int
    held: int
    available: int
    spent: int


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
    open_amount = int(await snapshot.scalar(select(func.coalesce(func.sum(_holds.c.amount_nanos), 0)).where(is_open)))
    by_account = dict.fromkeys(Account, 0)
    drift = int(without_account)
    for row in compared:
        by_account[Account(row.account)] += row.balance_nanos
        drift += abs(row.balance_nanos - int(row.total or 0))
    drift += abs(sum(by_account.values()))
    drift += abs(by_account[Account.HELD] - open_amount)
    return Verification(
        drift=drift,
        accounts=len(compared),
        transfers=int(await snapshot.scalar(select(func.count()).select_from(_transfers))),
        open_holds=open_holds,
        held=by_account[Account.HELD],
        available=by_account[Account.CREDITS],
        spent=by_account[Account.SPENT],
    )


def _entries() -> CompoundSelect[Any]:
    """Both sides of every transfer as (owner, account, signed amount)."""

    def side(column: Column[Any], sign: int) -> Select[Any]:
        owner = case((column.like("system:%"), SYSTEM_OWNER), else_=_transfers.c.owner_id)
        return select(
            owner.label("owner_id"), column.label("account"), (sign * _transfers.c.amount_nanos).label("amount")
        )

    return union_all(side(_transfers.c.debit, -1), side(_transfers.c.credit, 1))
