"""A node, or a worker of one, that never comes back: what it had reserved returns to the owners.

1. Nothing of it was seen for a while, or it is refused: what it leases it may be spending.
2. Its workers' leases go back, its open holds are resolved at no charge, as interrupted requests.
3. Each owner's audit log says what came back.

What it had journaled and not applied is the house's loss, unless it comes back with its journal after all: then that is charged.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from bursar import activity, audit, ledger
from bursar.access import Actor
from bursar.kernel.errors import NotFound
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos
from bursar.ledger import HoldState, OpenHold, Worker
from bursar.storage import SYSTEM, Database, Snapshot, Tx

ALIVE_WITHIN = timedelta(seconds=2 * ledger.BLIND_SECONDS)
"""Twice the blind time: who was seen since may still be spending."""


class NoSuchNode(NotFound):
    """No node and no worker of this name was ever registered."""


@dataclass(frozen=True)
class Returns:
    """What goes back to an owner: of leases, and of open holds."""

    owner: OwnerId
    leased: Nanos
    held: Nanos
    requests: int


@dataclass(frozen=True)
class Forgotten:
    workers: Sequence[Worker]
    returns: Sequence[Returns]


async def look_at_node(database: Database, name: str) -> Forgotten:
    """What `forget_node` would do now. Raises `NoSuchNode`."""
    async with database.snapshot(SYSTEM) as snapshot:
        workers = await _workers(snapshot, name)
        leases = [each for worker in workers for each in await ledger.list_leases(snapshot, worker.id)]
        return Forgotten(workers, _returns(leases, await _holds(snapshot, workers)))


async def forget_node(database: Database, actor: Actor, name: str) -> Forgotten:
    """`name` is a node's or one of its workers'. Raises `NoSuchNode`, `ledger.WorkerAlive`."""
    async with database.begin(SYSTEM) as tx:
        workers = await _workers(tx, name)
        leases = [
            each for worker in workers for each in await ledger.forget_worker(tx, worker.id, alive_within=ALIVE_WITHIN)
        ]
        holds = await _holds(tx, workers)
        for hold in holds:
            await _interrupt(tx, hold)
        returns = _returns(leases, holds)
        for each in returns:
            await audit.record(
                tx,
                actor,
                each.owner,
                "node.forgotten",
                name,
                leased_nanos=each.leased,
                held_nanos=each.held,
                requests=each.requests,
            )
        return Forgotten(workers, returns)


async def _workers(snapshot: Snapshot, name: str) -> list[Worker]:
    found = [each for each in await ledger.list_workers(snapshot) if name in (each.node, each.id)]
    if not found:
        raise NoSuchNode(f"There is no node and no worker {name}.", remedy="`bursar nodes list` shows them.")
    return found


async def _holds(snapshot: Snapshot, workers: Sequence[Worker]) -> list[OpenHold]:
    names = {worker.id for worker in workers} | {worker.node for worker in workers}
    return [each for each in await ledger.list_open_holds(snapshot) if each.node in names]


async def _interrupt(tx: Tx, hold: OpenHold) -> None:
    if await ledger.void_hold(tx, hold.owner, hold.generation, HoldState.INTERRUPTED):
        row = activity.interrupted(
            hold.owner,
            hold.generation,
            hold.opened_at,
            key=hold.key,
            user=hold.user,
            model=hold.model,
            price_version=hold.price_version,
        )
        await activity.record(tx, row)


def _returns(leases: Sequence[ledger.Lease], holds: Sequence[OpenHold]) -> list[Returns]:
    leased: defaultdict[OwnerId, int] = defaultdict(int)
    held: defaultdict[OwnerId, list[int]] = defaultdict(list)
    for lease in leases:
        leased[lease.owner] += lease.amount
    for hold in holds:
        held[hold.owner].append(hold.amount)
    return [
        Returns(owner, Nanos(leased[owner]), Nanos(sum(held[owner])), len(held[owner]))
        for owner in sorted({*leased, *held})
    ]
