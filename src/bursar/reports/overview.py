"""How things stand with an owner, at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select

from bursar import keys, ledger
from bursar.activity import tables as activity_tables
from bursar.identity import tables as identity_tables
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos
from bursar.kernel.paging import Page
from bursar.keys import tables as key_tables
from bursar.ledger import Balance
from bursar.reports.activity_feed import ActivityFilter, FeedRow, activity_feed
from bursar.reports.usage import Period, Usage, totals, usage
from bursar.storage import Snapshot

_hours = activity_tables.usage_hours
_keys = key_tables.keys
_users = identity_tables.users

TOP = 5
BURN_DAYS = 7
"""The burn rate is the spend of the last seven times 24 hours."""


@dataclass(frozen=True)
class Share:
    """One of the dearest models, keys or members of the last 30 days; `id` is what the activity can be filtered by."""

    id: str
    name: str
    cost: Nanos
    requests: int


@dataclass(frozen=True)
class Overview:
    """`days_left` at the present burn rate, None where nothing was spent; the three start steps say what was done so far."""

    balance: Balance
    days_left: int | None
    spent_today: Nanos
    spent_week: Nanos
    spent_month: Nanos
    usage: Usage
    top_models: Sequence[Share]
    top_keys: Sequence[Share]
    top_members: Sequence[Share]
    recent: Page[FeedRow]
    has_credits: bool
    has_key: bool
    has_generation: bool


async def overview(snapshot: Snapshot, owner: OwnerId) -> Overview:
    now = snapshot.now
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = today - timedelta(days=29)
    balance = await ledger.balance(snapshot, owner)
    recent = await activity_feed(snapshot, owner, ActivityFilter(), None, TOP)
    return Overview(
        balance=balance,
        days_left=await days_left(snapshot, owner, balance),
        spent_today=(await totals(snapshot, owner, today, None)).cost,
        spent_week=(await totals(snapshot, owner, today - timedelta(days=6), None)).cost,
        spent_month=(await totals(snapshot, owner, month, None)).cost,
        usage=await usage(snapshot, owner, Period.MONTH, ActivityFilter()),
        top_models=await _top(snapshot, owner, month, _hours.c.model, None),
        top_keys=await _top(snapshot, owner, month, _hours.c.key_id, "key"),
        top_members=await _top(snapshot, owner, month, _hours.c.user_id, "user"),
        recent=recent,
        has_credits=balance.total + balance.spent > 0,
        has_key=bool(await keys.list_keys(snapshot, owner)),
        has_generation=bool(recent.items),
    )


async def days_left(snapshot: Snapshot, owner: OwnerId, balance: Balance) -> int | None:
    """How long the balance lasts at the present burn rate, in whole days; None where nothing was spent."""
    burned = (await totals(snapshot, owner, snapshot.now - timedelta(days=BURN_DAYS), None)).cost
    return balance.available * BURN_DAYS // burned if burned else None


async def _top(
    snapshot: Snapshot, owner: OwnerId, since: datetime, column: ColumnElement[Any], named_by: str | None
) -> Sequence[Share]:
    cost = func.sum(_hours.c.cost_nanos)
    rows = await snapshot.all(
        select(column.label("name"), cost.label("cost"), func.sum(_hours.c.requests).label("requests"))
        .where(_hours.c.owner_id == owner, _hours.c.hour >= since)
        .group_by(column)
        .order_by(cost.desc(), column)
        .limit(TOP)
    )
    names = await _names(snapshot, named_by, [row.name for row in rows])
    return [
        Share(row.name, names.get(row.name, row.name or "Chat"), Nanos(int(row.cost)), int(row.requests))
        for row in rows
    ]


async def _names(snapshot: Snapshot, named_by: str | None, ids: Sequence[str]) -> dict[str, str]:
    if named_by is None:
        return {}
    table = _keys if named_by == "key" else _users
    rows = await snapshot.all(select(table.c.id, table.c.name).where(table.c.id.in_(ids)))
    return {row.id: row.name for row in rows}
