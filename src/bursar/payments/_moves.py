"""Requests to move personal credits to an organization. They never happen by themselves: the operator carries them out or refuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, func, select, update

from bursar.kernel.errors import Conflict, InvalidField, NotFound
from bursar.kernel.ids import CreditMoveId, OrganizationId, OwnerId, UserId
from bursar.kernel.money import Nanos, format_credits, parse_credits
from bursar.payments import tables
from bursar.storage import Snapshot, Tx

OPEN_MOVES_MAX = 10
"""So many of one person may wait for an answer."""
NOTE_CHARACTERS_MAX = 500
CENT_NANOS = 10_000_000

_moves = tables.credit_moves


class MoveState(StrEnum):
    OPEN = "open"
    """Waits for the operator."""
    CARRIED_OUT = "carried_out"
    """The credits were moved in the same transaction."""
    REFUSED = "refused"
    """Nothing was moved; the answer says why."""
    WITHDRAWN = "withdrawn"
    """Whoever asked thought better of it."""


@dataclass(frozen=True)
class CreditMove:
    """`owner` is the person's. `note` is theirs, `answer` the operator's. `closed_by` is None where the command line or Bursar did it."""

    owner: OwnerId
    id: CreditMoveId
    organization: OrganizationId
    amount: Nanos
    note: str | None
    state: MoveState
    created_at: datetime
    closed_at: datetime | None = None
    closed_by: UserId | None = None
    answer: str | None = None


class NoSuchMove(NotFound):
    """No request to move credits has this id, or it is somebody else's: the two answer alike."""


class MoveAnswered(Conflict):
    """It was carried out, refused or withdrawn before."""


class MoveConflict(Conflict):
    """The request's id was used for something else."""


class TooManyMoves(Conflict):
    """Enough requests of this person wait for an answer."""


def require_move_amount(text: str) -> Nanos:
    """Credits to move, to the cent. Raises `InvalidField`."""
    try:
        amount = parse_credits(text.replace("$", "").replace(",", ""))
    except ValueError:
        raise InvalidField("amount", "Enter an amount like 25 or 25.50.") from None
    if amount <= 0:
        raise InvalidField("amount", "Enter more than nothing.")
    if amount % CENT_NANOS:
        raise InvalidField("amount", "An amount has at most two decimal places.")
    return amount


def require_note(text: str, field: str = "note") -> str | None:
    """With its spaces tidied; None for an empty one. Raises `InvalidField`."""
    note = " ".join(text.split())
    if len(note) > NOTE_CHARACTERS_MAX or not note.isprintable():
        raise InvalidField(field, f"Use at most {NOTE_CHARACTERS_MAX} ordinary characters.")
    return note or None


async def open_move(
    tx: Tx,
    *,
    owner: OwnerId,
    move: CreditMoveId,
    organization: OrganizationId,
    amount: Nanos,
    available: Nanos,
    note: str | None,
) -> tuple[CreditMove, bool]:
    """The request with this id, and whether it was made now and not by an earlier click on the same button.

    Raises `InvalidField` for more than what is `available` and not asked for already, `TooManyMoves`, `MoveConflict`.
    """
    before = await _find(tx, _moves.c.owner_id == owner, _moves.c.id == move)
    if before is not None:
        if (before.organization, before.amount) != (organization, amount):
            raise MoveConflict("This request was already made, of something else.", remedy="Reload the page.")
        return before, False
    waiting = [each for each in await list_moves(tx, owner) if each.state is MoveState.OPEN]
    if len(waiting) >= OPEN_MOVES_MAX:
        raise TooManyMoves(
            f"{len(waiting)} of your requests wait for the operator.", remedy="Withdraw one, or wait for an answer."
        )
    asked = sum(each.amount for each in waiting)
    left = Nanos(max(0, available - asked))
    if amount > left:
        beside = f" beside the {format_credits(Nanos(asked))} that you asked to move already" if asked else ""
        raise InvalidField("amount", f"You have {format_credits(left)} to move{beside}.")
    added = await tx.execute(
        tx.insert(_moves)
        .values(
            owner_id=owner,
            id=move,
            organization_id=organization,
            amount_nanos=amount,
            note=note,
            state=MoveState.OPEN.value,
            created_at=tx.now,
        )
        .on_conflict_do_nothing()
    )
    return await get_move(tx, owner, move), added == 1


def require_open_move(move: CreditMove) -> None:
    """Raises `MoveAnswered`."""
    if move.state is not MoveState.OPEN:
        raise MoveAnswered(
            f"This request was {move.state.value.replace('_', ' ')} before.",
            remedy="Nothing was changed by this.",
            move=move.id,
        )


async def close_move(
    tx: Tx, move: CreditMove, state: MoveState, *, by: UserId | None, answer: str | None
) -> CreditMove:
    """Of any number who close it, one does. Raises `MoveAnswered`."""
    rows = await tx.returning(
        update(_moves)
        .where(_moves.c.owner_id == move.owner, _moves.c.id == move.id, _moves.c.state == MoveState.OPEN.value)
        .values(state=state.value, closed_at=tx.now, closed_by=by, answer=answer)
        .returning(_moves)
    )
    if not rows:
        require_open_move(await get_move(tx, move.owner, move.id))
    return _move(rows[0])


async def refuse_moves_to(tx: Tx, organization: OrganizationId, *, answer: str) -> Sequence[CreditMove]:
    """All that wait, because it is no more. In system scope: they are other owners'."""
    rows = await tx.returning(
        update(_moves)
        .where(_moves.c.organization_id == organization, _moves.c.state == MoveState.OPEN.value)
        .values(state=MoveState.REFUSED.value, closed_at=tx.now, answer=answer)
        .returning(_moves)
    )
    return [_move(row) for row in rows]


async def get_move(snapshot: Snapshot, owner: OwnerId, move: CreditMoveId) -> CreditMove:
    """Raises `NoSuchMove`."""
    return _required(await _find(snapshot, _moves.c.owner_id == owner, _moves.c.id == move), move)


async def get_any_move(snapshot: Snapshot, move: CreditMoveId) -> CreditMove:
    """Whoever's it is, in system scope: for the operator. Raises `NoSuchMove`."""
    return _required(await _find(snapshot, _moves.c.id == move), move)


async def list_moves(snapshot: Snapshot, owner: OwnerId, limit: int = 50) -> Sequence[CreditMove]:
    """A person's, newest first."""
    return await _list(snapshot, select(_moves).where(_moves.c.owner_id == owner), limit)


async def list_all_moves(snapshot: Snapshot, *, is_open: bool, limit: int = 100) -> Sequence[CreditMove]:
    """Everybody's that wait, the longest waiting first; or those that were answered, newest first. In system scope."""
    if not is_open:
        return await _list(snapshot, select(_moves).where(_moves.c.state != MoveState.OPEN.value), limit)
    rows = await snapshot.all(
        select(_moves).where(_moves.c.state == MoveState.OPEN.value).order_by(_moves.c.id).limit(limit)
    )
    return [_move(row) for row in rows]


async def count_open_moves(snapshot: Snapshot) -> int:
    """Everybody's, in system scope."""
    return int(
        await snapshot.scalar(select(func.count()).select_from(_moves).where(_moves.c.state == MoveState.OPEN.value))
    )


async def _list(snapshot: Snapshot, query: Select[Any], limit: int) -> Sequence[CreditMove]:
    return [_move(row) for row in await snapshot.all(query.order_by(_moves.c.id.desc()).limit(limit))]


async def _find(snapshot: Snapshot, *conditions: Any) -> CreditMove | None:
    row = await snapshot.first(select(_moves).where(*conditions))
    return None if row is None else _move(row)


def _required(found: CreditMove | None, move: CreditMoveId) -> CreditMove:
    if found is None:
        raise NoSuchMove("There is no such request.", remedy="`bursar credits moves list` shows them.", move=move)
    return found


def _move(row: Any) -> CreditMove:
    return CreditMove(
        OwnerId(row.owner_id),
        CreditMoveId(row.id),
        OrganizationId(row.organization_id),
        Nanos(row.amount_nanos),
        row.note,
        MoveState(row.state),
        row.created_at,
        row.closed_at,
        None if row.closed_by is None else UserId(row.closed_by),
        row.answer,
    )
