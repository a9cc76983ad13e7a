"""The settlement: charge, activity and last use, in one transaction, once per generation; one by one, or a journal's batch.

And the two small things that a worker notes beside it: which changes it has heard of, and from where keys were used.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from msgspec.structs import replace

from bursar import activity, keys, ledger
from bursar.activity import Generation
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, WorkerId
from bursar.kernel.money import ZERO, Nanos
from bursar.ledger import Allowance, Applied, Batch, HoldState, Settlement, subjects_of
from bursar.storage import SYSTEM, Database, Tx


async def apply_settlement(tx: Tx, generation: Generation) -> Nanos | None:
    """Charges `generation.cost_nanos`, at most what is held or available, and books the rest as the house's loss; returns what was charged, None if it had been resolved before."""
    charged = await ledger.settle_hold(tx, generation.owner_id, generation.id, generation.cost_nanos)
    if charged is None:
        return None
    lost = Nanos(generation.cost_nanos - charged)
    await _record(tx, replace(generation, cost_nanos=charged, house_nanos=lost))
    return charged


async def apply_void(tx: Tx, generation: Generation, state: HoldState) -> bool:
    """Gives the hold back whole; whether this call did it."""
    if not await ledger.void_hold(tx, generation.owner_id, generation.id, state):
        return False
    await _record(tx, replace(generation, cost_nanos=ZERO))
    return True


async def apply_settlements(
    tx: Tx,
    worker: WorkerId,
    first_lsn: int,
    last_lsn: int,
    generations: Sequence[Generation],
    taken: Mapping[GenerationId, Sequence[Allowance]] = MappingProxyType({}),
) -> Applied:
    """Applies what the records `first_lsn` … `last_lsn` of the worker's journal settled, each generation at its `cost_nanos`; tells
    what was charged. As a whole it happens once: repeated, it does nothing. `taken`: the allowances whose leases each was spent from.

    In system scope. Raises `ledger.WatermarkGap`. Should the database refuse a row for what is in it, the same batch may be given
    again with less in its rows: owner, id and cost are what the ledger and its chain of hashes see.
    """
    if await ledger.was_applied(tx, worker, first_lsn, last_lsn):
        return Applied({}, {})
    # The rows come first: they take longest, and so the accounts, which workers share, are locked for the least time.
    fresh = await activity.add_all(tx, generations)
    settlements = [
        Settlement(
            each.owner_id,
            each.id,
            each.cost_nanos,
            subjects_of(each.owner_id, each.key_id, each.user_id),
            each.created_at,
            taken.get(each.id, ()),
            beyond=each.house_nanos,
        )
        for each in generations
    ]
    settled = {each.id for each in generations} - {each.id for each in fresh}
    applied = await ledger.apply_batch(tx, worker, Batch(first_lsn, last_lsn, settlements), settled=settled)
    costs = [
        replace(each, cost_nanos=applied.charged.get(each.id, ZERO), house_nanos=applied.lost.get(each.id, ZERO))
        for each in fresh
    ]
    await activity.lower_costs(tx, [each for each, row in zip(costs, fresh, strict=True) if each != row])
    await activity.roll_up(tx, costs)
    used: dict[tuple[OwnerId, KeyId], datetime] = {}
    for each in fresh:
        if each.key_id is not None:
            name = (each.owner_id, each.key_id)
            used[name] = max(each.created_at, used.get(name, each.created_at))
    await keys.touch_all(tx, used)
    return applied


async def note_heard(database: Database, worker: WorkerId, up_to: datetime) -> None:
    """The worker honours whatever was committed before this moment."""
    async with database.begin(SYSTEM) as tx:
        await ledger.note_heard(tx, worker, up_to)


async def note_uses(database: Database, addresses: Mapping[tuple[OwnerId, KeyId], str]) -> None:
    """From where keys were used last."""
    async with database.begin(SYSTEM) as tx:
        await keys.note_addresses(tx, addresses)


async def _record(tx: Tx, generation: Generation) -> None:
    await activity.record(tx, generation)
    if generation.key_id is not None:
        await keys.touch(tx, generation.owner_id, generation.key_id, generation.created_at)
