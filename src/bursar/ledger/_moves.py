"""Credits that go from one owner to another: two transfers of one id, one on each side, in one transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, case, func, select

from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos
from bursar.ledger import tables
from bursar.ledger._rules import Account, Transfer, TransferKind
from bursar.ledger._store import post
from bursar.storage import Snapshot, Tx

_transfers = tables.transfers


async def move(tx: Tx, source: OwnerId, target: OwnerId, amount: Nanos, *, name: str, reason: str) -> bool:
    """Whether this call did it; repeated with the same id and content it does nothing. In system scope: it touches two owners.

    Raises `InsufficientFunds` where what is not leased is less, `TransferConflict` where the id means something else.
    """
    given = Transfer(source, name, TransferKind.MOVE, Account.CREDITS, Account.MOVES, amount, target, reason)
    taken = Transfer(target, name, TransferKind.MOVE, Account.MOVES, Account.CREDITS, amount, source, reason)
    return await post(tx, [given, taken]) > 0


async def one_sided_moves(snapshot: Snapshot) -> Sequence[Row[Any]]:
    """`id`, `given` and `taken` in nanos: moves of which the two sides differ. There must be none."""
    amount = _transfers.c.amount_nanos
    given = func.sum(case((_transfers.c.debit == Account.CREDITS.value, amount), else_=0))
    taken = func.sum(case((_transfers.c.credit == Account.CREDITS.value, amount), else_=0))
    return await snapshot.all(
        select(_transfers.c.id, given.label("given"), taken.label("taken"))
        .where(_transfers.c.kind == TransferKind.MOVE.value)
        .group_by(_transfers.c.id)
        .having(given != taken)
        .order_by(_transfers.c.id)
    )
