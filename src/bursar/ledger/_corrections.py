"""Corrections: a posted transfer is reversed, or a part of it, by another that names it and says why. In two steps, never by an update.

1. `propose_correction` writes down which transfer, how much and why. Nothing moves.
2. `confirm_correction` posts the transfer, of the same id; `withdraw_correction` lets it be. One of the two happens, once.

What is corrected in all never exceeds the transfer; a correction is itself corrected by another. Who may confirm is the caller's to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select, update

from bursar.kernel.errors import Conflict, NotFound
from bursar.kernel.ids import OwnerId, UserId, new_transfer_id
from bursar.kernel.money import Nanos, format_exact
from bursar.ledger import tables
from bursar.ledger._rules import Account, Transfer, TransferKind
from bursar.ledger._store import find_transfer, lock_credits, post
from bursar.storage import Snapshot, Tx

_corrections = tables.corrections
_transfers = tables.transfers

CORRIGIBLE = (TransferKind.CHARGE, TransferKind.GRANT, TransferKind.PURCHASE, TransferKind.CORRECTION)
"""What moves between an owner and the world; holds, leases and their way back only move within."""
_INFLOWS = (TransferKind.PURCHASE, TransferKind.GRANT, TransferKind.CORRECTION, TransferKind.MOVE)
"""What brings credits to an owner."""


class CorrectionState(StrEnum):
    PROPOSED = "proposed"
    """Waits for whoever confirms it."""
    POSTED = "posted"
    """Confirmed: the transfer of its id stands in the ledger."""
    WITHDRAWN = "withdrawn"
    """Nothing came of it."""


class NoSuchTransfer(NotFound):
    """The owner has no transfer of this id."""


class NoSuchCorrection(NotFound):
    """The owner has no correction of this id."""


class CannotCorrect(Conflict):
    """The transfer is of a kind that is not corrected, or less is left of it."""


class CorrectionDecided(Conflict):
    """It was confirmed or withdrawn before."""


@dataclass(frozen=True)
class Correction:
    """`corrects` is the transfer that is reversed by `amount`; `id` that of the transfer that does it. `proposed_by` and `decided_by`
    are operators, None for the command line without a name."""

    owner: OwnerId
    id: str
    corrects: str
    amount: Nanos
    reason: str
    state: CorrectionState
    proposed_by: UserId | None
    proposed_at: datetime
    decided_by: UserId | None = None
    decided_at: datetime | None = None


async def propose_correction(
    tx: Tx, owner: OwnerId, corrects: str, amount: Nanos | None, *, reason: str, by: UserId | None
) -> Correction:
    """`amount` None is all that is left to correct. Raises `NoSuchTransfer`, `CannotCorrect`."""
    await lock_credits(tx, owner)  # so that two proposals at once see each other
    found = await _corrigible(tx, owner, corrects)
    left = found.amount - await _taken(tx, owner, corrects, CorrectionState.PROPOSED, CorrectionState.POSTED)
    wanted = Nanos(left) if amount is None else amount
    if not 0 < wanted <= left:
        raise CannotCorrect(
            f"Of transfer {corrects} {format_exact(max(left, 0))} can be corrected.",
            remedy="Name a smaller amount, or withdraw what is proposed." if left else "It was corrected whole.",
            transfer=corrects,
        )
    made = Correction(
        owner, new_transfer_id(tx.now), corrects, wanted, reason, CorrectionState.PROPOSED, by, tx.now
    )  # fmt: skip
    await tx.execute(
        _corrections.insert().values(
            owner_id=owner,
            id=made.id,
            corrects=corrects,
            amount_nanos=wanted,
            reason=reason,
            state=made.state.value,
            proposed_by=by,
            proposed_at=made.proposed_at,
        )
    )
    return made


async def confirm_correction(tx: Tx, owner: OwnerId, correction: str, *, by: UserId | None) -> Transfer:
    """Posts it. Raises `NoSuchCorrection`, `CorrectionDecided`, and `InsufficientFunds` where it takes more than there is."""
    made = await _decide(tx, owner, correction, CorrectionState.POSTED, by)
    found = await _corrigible(tx, owner, made.corrects)
    into = found.credit is not Account.CREDITS
    debit, credit = (Account.CORRECTIONS, Account.CREDITS) if into else (Account.CREDITS, Account.CORRECTIONS)
    transfer = Transfer(
        owner, made.id, TransferKind.CORRECTION, debit, credit, made.amount, reference=made.corrects, reason=made.reason
    )
    await post(tx, [transfer])
    return transfer


async def withdraw_correction(tx: Tx, owner: OwnerId, correction: str, *, by: UserId | None) -> Correction:
    """Raises `NoSuchCorrection`, `CorrectionDecided`."""
    return await _decide(tx, owner, correction, CorrectionState.WITHDRAWN, by)


async def write_off(tx: Tx, owner: OwnerId, amount: Nanos, *, reason: str, by: UserId | None) -> Sequence[Transfer]:
    """Takes `amount` of the credits away for good, in one step: corrects what brought them, the latest first.

    Raises `InsufficientFunds` where what is not leased is less, `CannotCorrect` where corrections that are proposed stand in the way.
    """
    await lock_credits(tx, owner)
    left, transfers = int(amount), []
    for found, correctable in await _inflows(tx, owner):
        if left == 0:
            break
        taken = Nanos(min(left, correctable))
        name = new_transfer_id(tx.now)
        transfers.append(
            Transfer(owner, name, TransferKind.CORRECTION, Account.CREDITS, Account.CORRECTIONS, taken, found, reason)
        )
        left -= taken
    if left:
        raise CannotCorrect(
            f"{format_exact(Nanos(left))} of it may be needed for corrections that are proposed.",
            remedy="Confirm or withdraw them first; `bursar ledger corrections` lists them.",
        )
    for transfer in transfers:
        await tx.execute(
            _corrections.insert().values(
                owner_id=owner,
                id=transfer.id,
                corrects=transfer.reference,
                amount_nanos=transfer.amount,
                reason=reason,
                state=CorrectionState.POSTED.value,
                proposed_by=by,
                proposed_at=tx.now,
                decided_by=by,
                decided_at=tx.now,
            )
        )
    await post(tx, transfers)
    return transfers


async def _inflows(snapshot: Snapshot, owner: OwnerId) -> Sequence[tuple[str, int]]:
    """By transfer, what of it can still be corrected; the latest first."""
    pending = (CorrectionState.PROPOSED.value, CorrectionState.POSTED.value)
    taken = (
        select(_corrections.c.corrects, func.sum(_corrections.c.amount_nanos).label("taken"))
        .where(_corrections.c.owner_id == owner, _corrections.c.state.in_(pending))
        .group_by(_corrections.c.corrects)
        .subquery()
    )
    left = _transfers.c.amount_nanos - func.coalesce(taken.c.taken, 0)
    rows = await snapshot.all(
        select(_transfers.c.id, left.label("left"))
        .join(taken, taken.c.corrects == _transfers.c.id, isouter=True)
        .where(
            _transfers.c.owner_id == owner,
            _transfers.c.credit == Account.CREDITS.value,
            _transfers.c.kind.in_([kind.value for kind in _INFLOWS]),
            left > 0,
        )
        .order_by(_transfers.c.at.desc(), _transfers.c.id.desc())
    )
    return [(row.id, int(row.left)) for row in rows]


async def find_correction(snapshot: Snapshot, correction: str) -> Correction | None:
    """Whoever's it is: in system scope."""
    row = await snapshot.first(select(_corrections).where(_corrections.c.id == correction))
    return None if row is None else _correction(row)


async def list_corrections(snapshot: Snapshot, limit: int = 100) -> Sequence[Correction]:
    """Newest first."""
    rows = await snapshot.all(select(_corrections).order_by(_corrections.c.id.desc()).limit(limit))
    return [_correction(row) for row in rows]


async def _decide(tx: Tx, owner: OwnerId, correction: str, state: CorrectionState, by: UserId | None) -> Correction:
    rows = await tx.returning(
        update(_corrections)
        .where(
            _corrections.c.owner_id == owner,
            _corrections.c.id == correction,
            _corrections.c.state == CorrectionState.PROPOSED.value,
        )
        .values(state=state.value, decided_by=by, decided_at=tx.now)
        .returning(_corrections)
    )
    if rows:
        return _correction(rows[0])
    found = await tx.scalar(
        select(_corrections.c.state).where(_corrections.c.owner_id == owner, _corrections.c.id == correction)
    )
    if found is None:
        raise NoSuchCorrection(
            f"There is no correction {correction}.", remedy="`bursar ledger corrections` lists them."
        )
    raise CorrectionDecided(f"Correction {correction} was {found} before.", correction=correction)


async def _corrigible(snapshot: Snapshot, owner: OwnerId, name: str) -> Transfer:
    found = await find_transfer(snapshot, owner, name)
    if found is None:
        raise NoSuchTransfer(
            f"{owner} has no transfer {name}.", remedy="`bursar ledger export --format csv` lists them.", transfer=name
        )
    if found.kind not in CORRIGIBLE:
        raise CannotCorrect(
            f"A {found.kind.value} only moves credits within their owner's accounts.",
            remedy="Correct the charge, grant or purchase.",
            transfer=name,
        )
    return found


async def _taken(snapshot: Snapshot, owner: OwnerId, corrects: str, *states: CorrectionState) -> int:
    return int(
        await snapshot.scalar(
            select(func.coalesce(func.sum(_corrections.c.amount_nanos), 0)).where(
                _corrections.c.owner_id == owner,
                _corrections.c.corrects == corrects,
                _corrections.c.state.in_([state.value for state in states]),
            )
        )
    )


def _correction(row: Any) -> Correction:
    return Correction(
        OwnerId(row.owner_id),
        row.id,
        row.corrects,
        Nanos(row.amount_nanos),
        row.reason,
        CorrectionState(row.state),
        None if row.proposed_by is None else UserId(row.proposed_by),
        row.proposed_at,
        None if row.decided_by is None else UserId(row.decided_by),
        row.decided_at,
    )
