"""What becomes of a person's keys when they leave an owner."""

from collections.abc import Collection, Sequence

from sqlalchemy import select, update

from bursar.kernel.ids import OwnerId, UserId
from bursar.keys import tables
from bursar.keys._store import Key, announce, list_keys
from bursar.storage import Snapshot, Tx

_keys = tables.keys


async def hand_over(tx: Tx, key: Key, to: UserId) -> None:
    """Another person answers for the key from now on; its secret stays the same. In force on every node after the commit."""
    await tx.execute(
        update(_keys)
        .where(_keys.c.owner_id == key.owner, _keys.c.id == key.id)
        .values(creator_id=to, updated_at=tx.now)
    )
    await announce(tx, key)


async def list_used_from(snapshot: Snapshot, owner: OwnerId, addresses: Collection[str]) -> Sequence[Key]:
    """The owner's keys in use whose last use came from one of these addresses; newest first."""
    rows = await snapshot.all(
        select(_keys.c.id).where(
            _keys.c.owner_id == owner, _keys.c.disabled_at.is_(None), _keys.c.last_used_address.in_(addresses)
        )
    )
    used = {row.id for row in rows}
    return [key for key in await list_keys(snapshot, owner) if key.id in used]
