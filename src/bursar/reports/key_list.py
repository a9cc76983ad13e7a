from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from bursar import keys
from bursar.activity import tables as activity_tables
from bursar.identity import tables as identity_tables
from bursar.kernel.ids import KeyId, OwnerId, UserId
from bursar.kernel.money import Nanos
from bursar.keys import Key
from bursar.storage import Snapshot

_hours = activity_tables.usage_hours
_users = identity_tables.users


@dataclass(frozen=True)
class KeyUsage:
    """Spend in the present UTC day, week (from Monday), month, and in all."""

    total: Nanos
    daily: Nanos
    weekly: Nanos
    monthly: Nanos


@dataclass(frozen=True)
class KeyRow:
    key: Key
    creator_name: str
    spent_this_month: Nanos


def windows(now: datetime) -> tuple[datetime, datetime, datetime]:
    """Where the present UTC day, week and month began."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return day, day - timedelta(days=day.weekday()), day.replace(day=1)


async def key_list(snapshot: Snapshot, owner: OwnerId, *, creator: UserId | None) -> Sequence[KeyRow]:
    """Newest first: all of the owner's (creator None) or the ones a person created."""
    found = await keys.list_keys(snapshot, owner, creator=creator)
    _, _, month = windows(snapshot.now)
    spent = {
        row.key_id: int(row.cost)
        for row in await snapshot.all(
            select(_hours.c.key_id, func.sum(_hours.c.cost_nanos).label("cost"))
            .where(_hours.c.owner_id == owner, _hours.c.hour >= month)
            .group_by(_hours.c.key_id)
        )
    }
    names = {
        row.id: row.name
        for row in await snapshot.all(
            select(_users.c.id, _users.c.name).where(_users.c.id.in_({key.creator for key in found}))
        )
    }
    return [KeyRow(key, names.get(key.creator, "Deleted user"), Nanos(spent.get(key.id, 0))) for key in found]


async def key_usage(snapshot: Snapshot, owner: OwnerId, key: KeyId) -> KeyUsage:
    sums = []
    for since in (None, *windows(snapshot.now)):
        query = select(func.coalesce(func.sum(_hours.c.cost_nanos), 0)).where(
            _hours.c.owner_id == owner, _hours.c.key_id == key
        )
        sums.append(Nanos(int(await snapshot.scalar(query if since is None else query.where(_hours.c.hour >= since)))))
    return KeyUsage(*sums)
