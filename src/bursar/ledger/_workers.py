"""Workers: who leases, and how far each one's journal was applied. Times are the database's, so that no node's clock matters.

A worker's row is also what its own doings lock first (`lock_worker`): whoever adds to its leases shares the row, whoever takes from
them (a batch, a return) has it alone among those, and whoever forgets the worker has it alone altogether.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import or_, select, update

from bursar.kernel.errors import Conflict, NotFound
from bursar.kernel.ids import WorkerId
from bursar.ledger import tables
from bursar.ledger._rules import CHAIN_START
from bursar.storage import Snapshot, Tx

BLIND_SECONDS = 30
"""A worker that has had no word from the database for so long admits nothing: a key disabled elsewhere must not be served for ever."""

_workers = tables.workers


class NoSuchWorker(NotFound):
    """No worker of this name was ever registered."""


class WorkerStopped(Conflict):
    """The worker was forgotten, and its leases went back to their owners: it has to register again before it leases."""


@dataclass(frozen=True)
class Worker:
    """`watermark` is the last journal record that was applied (0: none), `chain` the hash of the last of `batches` batches, the first
    `batches_unkept` of which were applied before batches were kept.

    `stopped_at` says since when it has no leases and may take none, `forgotten_at` that an operator gave it up for lost since.
    `journaled` is the last record of its journal when it was last `seen_at`, on the machine `host`.
    """

    id: WorkerId
    node: str
    watermark: int
    chain: str
    batches: int
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None
    batches_unkept: int = 0
    host: str | None = None
    journaled: int = 0
    forgotten_at: datetime | None = None

    @property
    def lag(self) -> int:
        """How many records were journaled and not applied, when it was last seen."""
        return max(0, self.journaled - self.watermark)


class Lock(Enum):
    """What others may do meanwhile."""

    SHARED = "add to the worker's leases, apply its batches"
    TAKING = "add to the worker's leases"
    ALONE = "nothing"


async def register_worker(tx: Tx, worker: WorkerId, node: str, host: str | None = None) -> Worker:
    """At the start of a process, before it leases. One that was here before goes on behind its watermark, also when it had been
    forgotten."""
    now = await tx.database_time()
    again = {"node": node, "host": host, "started_at": now, "seen_at": now, "stopped_at": None, "forgotten_at": None}
    rows = await tx.returning(
        tx.insert(_workers)
        .values(worker=worker, watermark=0, chain=CHAIN_START, batches=0, **again)
        .on_conflict_do_update(index_elements=["worker"], set_=again)
        .returning(_workers)
    )
    return _worker(rows[0])


async def touch_worker(tx: Tx, worker: WorkerId, journaled: int = 0) -> bool:
    """Says that it is alive, and how far its journal goes; False when it was forgotten meanwhile: then it must not serve on."""
    now = await tx.database_time()
    touched = await tx.execute(
        update(_workers)
        .where(_workers.c.worker == worker, _workers.c.stopped_at.is_(None))
        .values(seen_at=now, journaled=journaled)
    )
    return touched == 1


@dataclass(frozen=True)
class Heard:
    """Of `of` workers that may be serving, `by` have heard."""

    by: int
    of: int


async def note_heard(tx: Tx, worker: WorkerId, up_to: datetime) -> None:
    """The worker has heard of every change that was committed before this moment, by the database's time."""
    later = or_(_workers.c.heard_at.is_(None), _workers.c.heard_at < up_to)
    await tx.execute(update(_workers).where(_workers.c.worker == worker, later).values(heard_at=up_to))


async def count_heard(snapshot: Snapshot, up_to: datetime) -> Heard:
    """Who of those that may be serving has heard of what was committed before this moment. One that started since remembers nothing
    older; one that has had no word from the database for longer than the blind time serves nobody."""
    living = await _living(snapshot)
    heard = [each for each in living if max(each.started_at, each.heard_at or each.started_at) >= up_to]
    return Heard(len(heard), len(living))


class Place(NamedTuple):
    """One among `of`, by `number` from 0."""

    number: int
    of: int


async def place_of(snapshot: Snapshot, worker: WorkerId) -> Place:
    """Among the workers that may be serving, by name; the only one, should it not be among them."""
    names = sorted(each.worker for each in await _living(snapshot))
    return Place(names.index(worker), len(names)) if worker in names else Place(0, 1)


async def _living(snapshot: Snapshot) -> Sequence[Any]:
    """The rows of those that may be serving."""
    now = await snapshot.database_time()
    rows = await snapshot.all(
        select(_workers.c.worker, _workers.c.started_at, _workers.c.seen_at, _workers.c.heard_at).where(
            _workers.c.stopped_at.is_(None)
        )
    )
    return [row for row in rows if now - row.seen_at < timedelta(seconds=BLIND_SECONDS)]


async def find_worker(snapshot: Snapshot, worker: WorkerId) -> Worker | None:
    row = await snapshot.first(select(_workers).where(_workers.c.worker == worker))
    return None if row is None else _worker(row)


async def list_workers(snapshot: Snapshot) -> Sequence[Worker]:
    """All there ever were, by name."""
    return [_worker(row) for row in await snapshot.all(select(_workers).order_by(_workers.c.worker))]


async def lock_worker(tx: Tx, worker: WorkerId, lock: Lock) -> Worker:
    """Raises `NoSuchWorker`."""
    query = select(_workers).where(_workers.c.worker == worker)
    row = await tx.first(query.with_for_update(read=lock is Lock.SHARED, key_share=lock is not Lock.ALONE))
    if row is None:
        raise NoSuchWorker(f"There is no worker {worker}.", worker=worker)
    return _worker(row)


def _worker(row: Any) -> Worker:
    return Worker(
        WorkerId(row.worker),
        row.node,
        row.watermark,
        row.chain,
        row.batches,
        row.started_at,
        row.seen_at,
        row.stopped_at,
        row.batches_unkept,
        row.host,
        row.journaled,
        row.forgotten_at,
    )
