"""The nodes on this database, for the operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from bursar import ledger
from bursar.kernel.ids import WorkerId
from bursar.kernel.money import Nanos
from bursar.storage import Snapshot


@dataclass(frozen=True)
class WorkerStanding:
    """`lag`: records journaled and not applied when it was last seen. `state`: serving, stopped or forgotten; one that died says
    serving and is not seen any more."""

    id: WorkerId
    state: str
    seen_at: datetime
    owners: int
    leased: Nanos
    lag: int


@dataclass(frozen=True)
class NodeStanding:
    id: str
    host: str | None
    seen_seconds_ago: int
    workers: Sequence[WorkerStanding]


async def list_nodes(snapshot: Snapshot) -> list[NodeStanding]:
    """In system scope. The one seen last comes first."""
    now = await snapshot.database_time()
    leases = await ledger.list_leases(snapshot)

    def standing(worker: ledger.Worker) -> WorkerStanding:
        mine = [lease.amount for lease in leases if lease.worker == worker.id]
        state = "serving" if worker.stopped_at is None else "stopped" if worker.forgotten_at is None else "forgotten"
        return WorkerStanding(worker.id, state, worker.seen_at, len(mine), Nanos(sum(mine)), worker.lag)

    found = []
    workers = sorted(await ledger.list_workers(snapshot), key=lambda worker: (worker.node, worker.id))
    for node, group in groupby(workers, key=lambda worker: worker.node):
        theirs = list(group)
        last = max(theirs, key=lambda worker: worker.seen_at)
        ago = max(0, int((now - last.seen_at).total_seconds()))
        found.append(NodeStanding(node, last.host, ago, [standing(worker) for worker in theirs]))
    return sorted(found, key=lambda node: node.seen_seconds_ago)
