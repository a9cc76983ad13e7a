from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, func, select

from bursar import keys, ledger
from bursar.activity import tables as activity_tables
from bursar.identity import tables as identity_tables
from bursar.kernel.ids import KeyId, OwnerId, UserId
from bursar.kernel.money import ZERO, Nanos
from bursar.keys import Key
from bursar.ledger import LimitUse
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
    """`use`: of the key's limit in its present window, where it has one."""

    key: Key
    creator_name: str
    spent_this_month: Nanos
    use: LimitUse | None = None


def windows(now: datetime) -> tuple[datetime, datetime, datetime]:
    """Where the present UTC day, week and month began."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return day, day - timedelta(days=day.weekday()), day.replace(day=1)


async def key_list(snapshot: Snapshot, owner: OwnerId, *, creator: UserId | None) -> Sequence[KeyRow]:
    """Newest first: all of the owner's (creator None) or the ones a person created."""
    return await _rows(snapshot, owner, await keys.list_keys(snapshot, owner, creator=creator))


async def key_row(snapshot: Snapshot, key: Key) -> KeyRow:
    """One of them."""
    return (await _rows(snapshot, key.owner, [key]))[0]


async def _rows(snapshot: Snapshot, owner: OwnerId, found: Sequence[Key]) -> Sequence[KeyRow]:
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
    uses = await ledger.limit_uses(snapshot, owner, [key.id for key in found], snapshot.now)
    return [
        KeyRow(key, names.get(key.creator, "Deleted user"), Nanos(spent.get(key.id, 0)), uses.get(key.id))
        for key in found
    ]


async def key_usage(snapshot: Snapshot, owner: OwnerId, key: KeyId) -> KeyUsage:
    return (await key_usages(snapshot, owner, [key])).get(key, KeyUsage(ZERO, ZERO, ZERO, ZERO))


async def key_usages(snapshot: Snapshot, owner: OwnerId, of: Iterable[KeyId]) -> Mapping[KeyId, KeyUsage]:
    """Of those that were ever used, in one look."""
    cost = _hours.c.cost_nanos
    sums = [
        func.sum(cost),
        *(func.sum(case((_hours.c.hour >= since, cost), else_=0)) for since in windows(snapshot.now)),
    ]
    rows = await snapshot.all(
        select(_hours.c.key_id, *sums)
        .where(_hours.c.owner_id == owner, _hours.c.key_id.in_(list(of)))
        .group_by(_hours.c.key_id)
    )
    return {KeyId(row[0]): KeyUsage(*[Nanos(int(row[column])) for column in (1, 2, 3, 4)]) for row in rows}
