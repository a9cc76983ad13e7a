"""Spend, tokens and requests over time, from the hourly roll-ups: the cost of a page does not grow with the number of requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select

from bursar.activity import tables as activity_tables
from bursar.kernel.ids import KeyId, OwnerId
from bursar.kernel.money import Nanos
from bursar.keys import tables as key_tables
from bursar.reports.activity_feed import ActivityFilter
from bursar.storage import Snapshot

_hours = activity_tables.usage_hours
_keys = key_tables.keys

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Period(StrEnum):
    """How far back, and in buckets of what."""

    DAY = "1d"
    """24 hours, by hour."""
    WEEK = "7d"
    """7 days, by day."""
    MONTH = "30d"
    """30 days, by day."""

    @property
    def bucket(self) -> timedelta:
        return HOUR if self is Period.DAY else DAY

    @property
    def buckets(self) -> int:
        return {Period.DAY: 24, Period.WEEK: 7, Period.MONTH: 30}[self]

    def start(self, now: datetime) -> datetime:
        """The beginning (UTC) of the oldest bucket; the newest holds `now`."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        newest = hour if self is Period.DAY else hour.replace(hour=0)
        return newest - self.bucket * (self.buckets - 1)


@dataclass(frozen=True)
class UsageTotals:
    """Sums. `tokens_per_second` is an integer over all requests, None where nothing was produced."""

    cost: Nanos
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    duration_ms: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def tokens_per_second(self) -> int | None:
        return (
            self.completion_tokens * 1000 // self.duration_ms if self.duration_ms and self.completion_tokens else None
        )


@dataclass(frozen=True)
class UsageBucket:
    """One hour or day: totals by model, only models that were used."""

    start: datetime
    by_model: dict[str, UsageTotals]


@dataclass(frozen=True)
class Usage:
    """`buckets` oldest first, without gaps; `before` is the same period just before, up to the same time of day."""

    period: Period
    buckets: Sequence[UsageBucket]
    total: UsageTotals
    before: UsageTotals


async def usage(snapshot: Snapshot, owner: OwnerId, period: Period, wanted: ActivityFilter) -> Usage:
    """`wanted` filters by key and model; its times are not looked at, the period says them."""
    start = period.start(snapshot.now)
    by_bucket: dict[datetime, dict[str, UsageTotals]] = {
        start + period.bucket * number: {} for number in range(period.buckets)
    }
    rows = await snapshot.all(
        _sums(owner, wanted, start, None, _bucket(period).label("bucket"), _hours.c.model).group_by(
            "bucket", _hours.c.model
        )
    )
    for row in rows:
        moment = _moment(row.bucket, period)
        if moment in by_bucket:
            by_bucket[moment][row.model] = _totals(row)
    span = snapshot.now - start
    return Usage(
        period,
        [UsageBucket(moment, models) for moment, models in by_bucket.items()],
        await totals(snapshot, owner, start, None, wanted),
        await totals(
            snapshot,
            owner,
            start - period.bucket * period.buckets,
            start - period.bucket * period.buckets + span,
            wanted,
        ),
    )


async def totals(
    snapshot: Snapshot,
    owner: OwnerId,
    since: datetime,
    until: datetime | None,
    wanted: ActivityFilter = ActivityFilter(),  # noqa: B008 - frozen
) -> UsageTotals:
    """`since` ≤ hour < `until`."""
    row = await snapshot.first(_sums(owner, wanted, since, until))
    assert row is not None
    return _totals(row)


async def filter_choices(
    snapshot: Snapshot, owner: OwnerId, since: datetime
) -> tuple[Sequence[tuple[KeyId, str]], Sequence[str]]:
    """(key id, name) of every key and every model that was used since then: what a page offers as filters.

    `NO_KEY` among them is Chat.
    """
    keys = await snapshot.all(
        select(_hours.c.key_id, func.coalesce(_keys.c.name, "Chat").label("name"))
        .distinct()
        .join(_keys, (_keys.c.owner_id == _hours.c.owner_id) & (_keys.c.id == _hours.c.key_id), isouter=True)
        .where(_hours.c.owner_id == owner, _hours.c.hour >= since)
        .order_by("name")
    )
    models = await snapshot.all(
        select(_hours.c.model)
        .distinct()
        .where(_hours.c.owner_id == owner, _hours.c.hour >= since)
        .order_by(_hours.c.model)
    )
    return [(KeyId(row.key_id), row.name) for row in keys], [row.model for row in models]


def _bucket(period: Period) -> ColumnElement[int]:
    """The bucket's number since 1970; hours are stored as microseconds, and `//` of two integers is exact on both databases."""
    width = period.bucket // timedelta(microseconds=1)
    return _raw(_hours.c.hour) // width


def _raw(column: Any) -> ColumnElement[int]:
    from sqlalchemy import BigInteger, type_coerce

    return type_coerce(column, BigInteger)


def _moment(bucket: Any, period: Period) -> datetime:
    from datetime import UTC

    return datetime(1970, 1, 1, tzinfo=UTC) + period.bucket * int(bucket)


def _sums(
    owner: OwnerId, wanted: ActivityFilter, since: datetime, until: datetime | None, *columns: Any
) -> Select[Any]:
    names = ("cost_nanos", "requests", "errors", "prompt_tokens", "completion_tokens", "duration_ms")
    query = select(*columns, *(func.coalesce(func.sum(_hours.c[name]), 0).label(name) for name in names)).where(
        _hours.c.owner_id == owner, _hours.c.hour >= since
    )
    if until is not None:
        query = query.where(_hours.c.hour < until)
    if wanted.key is not None:
        query = query.where(_hours.c.key_id == wanted.key)
    if wanted.model is not None:
        query = query.where(_hours.c.model == wanted.model)
    return query


def _totals(row: Any) -> UsageTotals:
    return UsageTotals(
        Nanos(int(row.cost_nanos)),
        int(row.requests),
        int(row.errors),
        int(row.prompt_tokens),
        int(row.completion_tokens),
        int(row.duration_ms),
    )
