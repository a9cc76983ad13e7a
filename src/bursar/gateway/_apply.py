"""The settlement: charge, activity and last use, in one transaction, once per generation."""

from msgspec.structs import replace

from bursar import activity, keys, ledger
from bursar.activity import Generation
from bursar.kernel.money import Nanos
from bursar.ledger import HoldState
from bursar.storage import Tx


async def apply_settlement(tx: Tx, generation: Generation) -> Nanos | None:
    """Charges `generation.cost_nanos`, at most what is held; returns what was charged, None if it had been resolved before."""
    charged = await ledger.settle_hold(tx, generation.owner_id, generation.id, generation.cost_nanos)
    if charged is None:
        return None
    await _record(tx, replace(generation, cost_nanos=charged))
    return charged


async def apply_void(tx: Tx, generation: Generation, state: HoldState) -> bool:
    """Gives the hold back whole; whether this call did it."""
    if not await ledger.void_hold(tx, generation.owner_id, generation.id, state):
        return False
    await _record(tx, replace(generation, cost_nanos=Nanos(0)))
    return True


async def _record(tx: Tx, generation: Generation) -> None:
    await activity.record(tx, generation)
    if generation.key_id is not None:
        await keys.touch(tx, generation.owner_id, generation.key_id, generation.created_at)
