"""Leases: what a worker may spend without asking, moved out of the owner's credits before anything is spent of it.

`credits → leased` and a row that says whose; back by `return_lease`. Rows are locked in one order by everybody: the worker's row,
the accounts in theirs, the lease.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select, update

from bursar.kernel.errors import Conflict
from bursar.kernel.ids import OwnerId, WorkerId, new_transfer_id
from bursar.kernel.money import Nanos
from bursar.ledger import tables
from bursar.ledger._allowances import give_back_all
from bursar.ledger._rules import Account, Transfer, TransferKind
from bursar.ledger._store import TransferConflict, find_transfer, lock_credits, post
from bursar.ledger._workers import Lock, WorkerStopped, lock_worker
from bursar.storage import Snapshot, Tx

_leases = tables.leases
_workers = tables.workers

RECALL = "recall"
"""The change by which somebody asks the workers for what they do not use; its subject is the purse's name, and who asks."""


class WorkerAlive(Conflict):
    """The worker was seen a moment ago: what it leases it may be spending."""


@dataclass(frozen=True)
class Lease:
    owner: OwnerId
    worker: WorkerId
    amount: Nanos


async def lease(tx: Tx, owner: OwnerId, worker: WorkerId, want: Nanos, *, transfer_id: str) -> Nanos:
    """Moves `want`, or what there is of it, to the worker; returns how much that was (0: the owner has nothing left to lease).

    `transfer_id` is the caller's, unique for the owner: repeated, it returns what was granted the first time (nothing granted is
    tried again). Raises `WorkerStopped`, `NoSuchWorker`, `TransferConflict` when the id means something else.
    """
    if want < 0:
        raise ValueError(f"a lease of {want} nanos")
    if (await lock_worker(tx, worker, Lock.SHARED)).stopped_at is not None:
        raise WorkerStopped("This worker was forgotten.", remedy="Start it again.", worker=worker)
    left = await lock_credits(tx, owner)
    before = await _moved_before(tx, owner, worker, TransferKind.LEASE, transfer_id)
    if before is not None:
        return before
    granted = Nanos(min(want, left))
    if granted:
        moved = Transfer(
            owner, transfer_id, TransferKind.LEASE, Account.CREDITS, Account.LEASED, granted, reference=worker
        )
        await post(tx, [moved])
        row = tx.insert(_leases).values(owner_id=owner, worker=worker, amount_nanos=granted)
        await tx.execute(
            row.on_conflict_do_update(
                index_elements=["owner_id", "worker"], set_={"amount_nanos": _leases.c.amount_nanos + granted}
            )
        )
    return granted


async def return_lease(tx: Tx, owner: OwnerId, worker: WorkerId, amount: Nanos, *, transfer_id: str) -> Nanos:
    """Gives back `amount`, at most what the lease has; returns how much that was. Repeated with the same id it does nothing more."""
    if amount < 0:
        raise ValueError(f"a return of {amount} nanos")
    await lock_worker(tx, worker, Lock.TAKING)
    before = await _moved_before(tx, owner, worker, TransferKind.RETURN, transfer_id)
    if before is not None:
        return before
    kept = await leases_of(tx, worker, [owner])
    returned = Nanos(min(amount, kept.get(owner, 0)))
    if returned:
        await _take_back(tx, worker, [(owner, returned, transfer_id)])
    return returned


async def return_all(tx: Tx, worker: WorkerId) -> Sequence[Lease]:
    """Everything the worker has leased goes back to its owners, and to their limits; returns what that was of their credits. In system
    scope: it sees every owner."""
    await lock_worker(tx, worker, Lock.TAKING)
    kept = await list_leases(tx, worker)
    await _take_back(tx, worker, [(each.owner, each.amount, new_transfer_id(tx.now)) for each in kept])
    await give_back_all(tx, worker)
    return kept


async def forget_worker(
    tx: Tx, worker: WorkerId, *, alive_within: timedelta, even_if_alive: bool = False
) -> Sequence[Lease]:
    """Returns the worker's leases and marks it stopped: it may lease nothing until it registers again. Returns what went back.

    A worker that stops by itself says `even_if_alive`; anybody else gives it up for lost, and its journal with it, which is noted.
    Raises `WorkerAlive` when it was seen within that time, `NoSuchWorker`.
    """
    found = await lock_worker(tx, worker, Lock.ALONE)
    now = await tx.database_time()
    if found.stopped_at is None and now - found.seen_at < alive_within and not even_if_alive:
        raise WorkerAlive(
            f"Worker {worker} was seen {(now - found.seen_at) // timedelta(seconds=1)} s ago.",
            remedy=f"Stop it first, or wait until it was not seen for {alive_within // timedelta(seconds=1)} s.",
            worker=worker,
        )
    returned = await return_all(tx, worker)
    marks: dict[str, datetime] = {"stopped_at": found.stopped_at or now}
    if not even_if_alive:
        marks["forgotten_at"] = found.forgotten_at or now
    await tx.execute(update(_workers).where(_workers.c.worker == worker).values(**marks))
    return returned


async def recall(tx: Tx, owner: OwnerId) -> None:
    """Asks every worker for what it leased of the owner's credits and does not need just now. It comes back in transactions of theirs."""
    await tx.announce(RECALL, f"{owner} ")


async def list_leases(snapshot: Snapshot, worker: WorkerId | None = None) -> Sequence[Lease]:
    """What is leased, by owner: by one worker, or by all. Leases that are used up are left out."""
    query = select(_leases).where(_leases.c.amount_nanos > 0).order_by(_leases.c.owner_id, _leases.c.worker)
    if worker is not None:
        query = query.where(_leases.c.worker == worker)
    return [
        Lease(OwnerId(row.owner_id), WorkerId(row.worker), Nanos(row.amount_nanos)) for row in await snapshot.all(query)
    ]


async def leases_of(snapshot: Snapshot, worker: WorkerId, owners: Sequence[OwnerId]) -> dict[OwnerId, Nanos]:
    """What the worker has of each of these owners, where it ever had something."""
    rows = await snapshot.all(
        select(_leases.c.owner_id, _leases.c.amount_nanos).where(
            _leases.c.owner_id.in_(owners), _leases.c.worker == worker
        )
    )
    return {OwnerId(row.owner_id): Nanos(row.amount_nanos) for row in rows}


async def _take_back(tx: Tx, worker: WorkerId, returned: Sequence[tuple[OwnerId, Nanos, str]]) -> None:
    await post(
        tx,
        [
            Transfer(owner, name, TransferKind.RETURN, Account.LEASED, Account.CREDITS, amount, reference=worker)
            for owner, amount, name in returned
        ],
    )
    await tx.execute_each(
        update(_leases)
        .where(_leases.c.owner_id == bindparam("owner"), _leases.c.worker == worker)
        .values(amount_nanos=_leases.c.amount_nanos - bindparam("amount")),
        [{"owner": owner, "amount": amount} for owner, amount, _ in returned],
    )


async def _moved_before(tx: Tx, owner: OwnerId, worker: WorkerId, kind: TransferKind, transfer_id: str) -> Nanos | None:
    """What the transfer of this id moved, if there is one."""
    found = await find_transfer(tx, owner, transfer_id)
    if found is None:
        return None
    if found.kind != kind or found.reference != worker:
        raise TransferConflict(
            f"Transfer {transfer_id} was posted before and was not this {kind.value}.", transfer=transfer_id
        )
    return found.amount
