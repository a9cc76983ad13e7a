"""Holds: one request's reserve, opened before anything goes upstream and resolved exactly once.

1. `open_hold`: credits → held, and a row that says this generation was dispatched by this node.
2. `extend_hold`: more of the same, while the row is open.
3. `settle_hold`: the row leaves `open` by compare-and-set; held → spent for the charge, held → credits for the rest.
   `void_hold` is a settlement of nothing under its own name.

Transfer ids derive from the generation's, so that a repeat finds them. (The issue on money puts leases and a journal in front;
what happens here to accounts stays.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import or_, select, update

from bursar.kernel.ids import GenerationId, KeyId, OwnerId, UserId
from bursar.kernel.money import Nanos
from bursar.ledger import tables
from bursar.ledger._allowances import (
    Charged,
    count_used,
    extend_at_most,
    extend_reserve,
    give_back_all,
    reserve_allowances,
)
from bursar.ledger._rules import Account, Transfer, TransferKind, loss_of
from bursar.ledger._store import lock_credits, post
from bursar.ledger._windows import subjects_of
from bursar.storage import Snapshot, Tx

_holds = tables.holds


class HoldState(StrEnum):
    OPEN = "open"
    SETTLED = "settled"
    """Charged, possibly nothing."""
    VOID = "void"
    """Given back whole: nothing came of the request."""
    INTERRUPTED = "interrupted"
    """The process died while the request ran; given back, the house bears what the provider may bill."""


@dataclass(frozen=True)
class OpenHold:
    """A request that was dispatched: whose, by which key and person, to which model, at which price, by which worker (`node`)."""

    owner: OwnerId
    generation: GenerationId
    amount: Nanos
    node: str
    price_version: str
    key: KeyId | None
    user: UserId
    model: str
    opened_at: datetime


async def open_hold(tx: Tx, hold: OpenHold) -> None:
    """Raises `InsufficientFunds` when the owner's available credits do not cover the amount, `LimitReached` when a limit of its key, user
    or owner does not (a hold of 0 always fits)."""
    await tx.execute(
        _holds.insert().values(
            owner_id=hold.owner,
            generation_id=hold.generation,
            amount_nanos=hold.amount,
            state=HoldState.OPEN.value,
            node=hold.node,
            price_version=hold.price_version,
            key_id=hold.key,
            user_id=hold.user,
            model=hold.model,
            opened_at=hold.opened_at,
        )
    )
    if hold.amount:
        name, amount = hold.generation, hold.amount
        await post(tx, [_transfer(hold.owner, name, TransferKind.HOLD, Account.CREDITS, Account.HELD, amount)])
        await reserve_allowances(
            tx, hold.owner, subjects_of(hold.owner, hold.key, hold.user), name, amount, hold.opened_at
        )


async def extend_hold(tx: Tx, owner: OwnerId, generation: GenerationId, extra: Nanos, extension: int) -> None:
    """Adds `extra` to an open hold; `extension` counts them (1, 2, …), and a repeat adds nothing. Raises `InsufficientFunds`,
    `LimitReached`."""
    mine = (_holds.c.owner_id == owner, _holds.c.generation_id == generation)
    state = await tx.scalar(select(_holds.c.state).where(*mine).with_for_update())
    if state != HoldState.OPEN:
        return
    name = f"{generation}.{extension}"
    if await post(tx, [_transfer(owner, name, TransferKind.HOLD, Account.CREDITS, Account.HELD, extra)]):
        await tx.execute(update(_holds).where(*mine).values(amount_nanos=_holds.c.amount_nanos + extra))
        await extend_reserve(tx, owner, generation, extra)


async def settle_hold(tx: Tx, owner: OwnerId, generation: GenerationId, charge: Nanos) -> Nanos | None:
    """Charges what the request cost and gives the rest back. A cost above the hold is covered from what credits and
    limits have left, as far as that goes; the rest is booked as the house's loss
    (in system scope then: no owner's reaches the house's accounts).

    Returns what was charged, or None when the hold had been resolved before: then nothing happens.
    """
    return await _resolve(tx, owner, generation, HoldState.SETTLED, charge)


async def void_hold(tx: Tx, owner: OwnerId, generation: GenerationId, state: HoldState = HoldState.VOID) -> bool:
    """Gives everything back; whether this call did it."""
    return await _resolve(tx, owner, generation, state, Nanos(0)) is not None


async def list_open_holds(snapshot: Snapshot, *, node: str | None = None) -> Sequence[OpenHold]:
    """Oldest first; of one node with all its workers, or of all."""
    query = select(_holds).where(_holds.c.state == HoldState.OPEN.value).order_by(_holds.c.opened_at)
    if node is not None:
        query = query.where(or_(_holds.c.node == node, _holds.c.node.startswith(f"{node}-", autoescape=True)))
    return [_open_hold(row) for row in await snapshot.all(query)]


async def _resolve(tx: Tx, owner: OwnerId, generation: GenerationId, state: HoldState, charge: Nanos) -> Nanos | None:
    rows = await tx.returning(
        update(_holds)
        .where(_holds.c.owner_id == owner, _holds.c.generation_id == generation, _holds.c.state == HoldState.OPEN)
        .values(state=state.value, closed_at=tx.now)
        .returning(_holds)
    )
    if len(rows) != 1:
        return None
    hold = _open_hold(rows[0])
    held = hold.amount
    if charge > held:
        held = Nanos(held + await _cover(tx, owner, generation, charge - held))
    charged = Nanos(min(charge, held))
    parts = [
        (TransferKind.CHARGE, Account.SPENT, charged),
        (TransferKind.RELEASE, Account.CREDITS, Nanos(held - charged)),
    ]
    await post(
        tx,
        [_transfer(owner, generation, kind, Account.HELD, credit, amount) for kind, credit, amount in parts if amount],
    )
    if held:
        await give_back_all(tx, generation, owner)
    counted = Charged(owner, subjects_of(owner, hold.key, hold.user), hold.opened_at, charged)
    await count_used(tx, [counted], {}, None)
    if charge > charged:  # by itself and last, so that nobody who waits for the house's accounts is waited for
        await post(tx, [loss_of(owner, generation, Nanos(charge - charged))])
    return charged


async def _cover(tx: Tx, owner: OwnerId, generation: GenerationId, missing: int) -> int:
    """Moves up to `missing` more into `held`; how much it was. The account is locked first, so that it cannot fall meanwhile."""
    extra = Nanos(min(missing, await lock_credits(tx, owner)))
    if extra > 0:
        extra = await extend_at_most(tx, owner, generation, extra)
    if extra > 0:
        await post(
            tx, [_transfer(owner, f"{generation}.rest", TransferKind.HOLD, Account.CREDITS, Account.HELD, extra)]
        )
        await tx.execute(
            update(_holds)
            .where(_holds.c.owner_id == owner, _holds.c.generation_id == generation)
            .values(amount_nanos=_holds.c.amount_nanos + extra)
        )
    return extra


def _transfer(
    owner: OwnerId, name: str, kind: TransferKind, debit: Account, credit: Account, amount: Nanos
) -> Transfer:
    return Transfer(owner, f"{kind.value}-{name}", kind, debit, credit, amount, reference=name.partition(".")[0])


def _open_hold(row: Any) -> OpenHold:
    return OpenHold(
        OwnerId(row.owner_id),
        GenerationId(row.generation_id),
        Nanos(row.amount_nanos),
        row.node,
        row.price_version,
        None if row.key_id is None else KeyId(row.key_id),
        UserId(row.user_id),
        row.model,
        row.opened_at,
    )
