"""The feed of generations, newest first, by keyset; metadata only."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from bursar.activity import tables as activity_tables
from bursar.identity import tables as identity_tables
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, UserId, generation_floor
from bursar.kernel.money import Nanos
from bursar.kernel.paging import PAGE_ITEMS_DEFAULT, Cursor, Page, page_of
from bursar.keys import tables as key_tables
from bursar.storage import Snapshot

_generations = activity_tables.generations
_keys = key_tables.keys
_users = identity_tables.users

EXPORT_ROWS_MAX = 100_000
_EXPORT_PAGE = 1_000


NO_KEY = KeyId("")
"""Stands for the key of requests that had none; the roll-ups write it so."""


@dataclass(frozen=True)
class ActivityFilter:
    """None: whatever. `since` ≤ time < `until`."""

    key: KeyId | None = None
    """`NO_KEY`: what was asked without a key, on the page Chat."""
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class FeedRow:
    """One generation with its names. `tokens_per_second` is an integer, None where nothing was produced."""

    id: GenerationId
    created_at: datetime
    model: str
    provider: str | None
    key_id: KeyId | None
    key_name: str | None
    user_id: UserId
    user_name: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    first_token_ms: int | None
    duration_ms: int
    streamed: bool
    status: str
    error_status: int | None
    finish_reason: str | None
    cost: Nanos
    usage_source: str
    """Whose counts these are: `reported`, `counted`, `estimated` or `none`."""
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0

    @property
    def tokens_per_second(self) -> int | None:
        writing_ms = self.duration_ms - (self.first_token_ms or 0)
        return self.completion_tokens * 1000 // writing_ms if writing_ms > 0 and self.completion_tokens else None


async def activity_feed(
    snapshot: Snapshot, owner: OwnerId, wanted: ActivityFilter, cursor: Cursor | None, size: int = PAGE_ITEMS_DEFAULT
) -> Page[FeedRow]:
    """One page. Reads `size + 1` rows by an index, however many there are."""
    query = _rows(owner, wanted)
    if cursor is not None and cursor.direction == "newer":
        query = query.where(_generations.c.id > cursor.id).order_by(_generations.c.id)
    else:
        if cursor is not None:
            query = query.where(_generations.c.id < cursor.id)
        query = query.order_by(_generations.c.id.desc())
    rows = [_row(row) for row in await snapshot.all(query.limit(size + 1))]
    return page_of(rows, size, cursor, lambda row: row.id)


async def feed_row(snapshot: Snapshot, owner: OwnerId, generation: GenerationId) -> FeedRow | None:
    """One generation of the owner with its names; None also for another owner's."""
    row = await snapshot.first(_rows(owner, ActivityFilter()).where(_generations.c.id == generation))
    return None if row is None else _row(row)


async def export_rows(snapshot: Snapshot, owner: OwnerId, wanted: ActivityFilter) -> AsyncIterator[Sequence[FeedRow]]:
    """The same rows in batches, newest first, at most `EXPORT_ROWS_MAX`."""
    cursor: Cursor | None = None
    for _ in range(EXPORT_ROWS_MAX // _EXPORT_PAGE):
        page = await activity_feed(snapshot, owner, wanted, cursor, _EXPORT_PAGE)
        yield page.items
        if page.older is None:
            return
        cursor = Cursor.decode(page.older)


def _rows(owner: OwnerId, wanted: ActivityFilter) -> Select[Any]:
    query = (
        select(_generations, _keys.c.name.label("key_name"), _users.c.name.label("user_name"))
        .select_from(_generations)
        .join(
            _keys, (_keys.c.owner_id == _generations.c.owner_id) & (_keys.c.id == _generations.c.key_id), isouter=True
        )
        .join(_users, _users.c.id == _generations.c.user_id, isouter=True)
        .where(_generations.c.owner_id == owner)
    )
    if wanted.key is not None:
        query = query.where(_generations.c.key_id == (wanted.key or None))  # = NO_KEY is IS NULL here
    if wanted.model is not None:
        query = query.where(_generations.c.model == wanted.model)
    if wanted.since is not None:
        query = query.where(_generations.c.id >= generation_floor(wanted.since))
    if wanted.until is not None:
        query = query.where(_generations.c.id < generation_floor(wanted.until))
    return query


def _row(row: Any) -> FeedRow:
    return FeedRow(
        id=GenerationId(row.id),
        created_at=row.created_at,
        model=row.model,
        provider=row.provider,
        key_id=None if row.key_id is None else KeyId(row.key_id),
        key_name=row.key_name,
        user_id=UserId(row.user_id),
        user_name=row.user_name or "Deleted user",
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        reasoning_tokens=row.reasoning_tokens,
        cached_tokens=row.cached_tokens,
        first_token_ms=row.first_token_ms,
        duration_ms=row.duration_ms,
        streamed=row.streamed,
        status=row.status,
        error_status=row.error_status,
        finish_reason=row.finish_reason,
        cost=Nanos(row.cost_nanos),
        usage_source=row.usage_source,
        cache_write_tokens=row.cache_write_tokens,
        cache_write_1h_tokens=row.cache_write_1h_tokens,
        audio_tokens=row.audio_tokens,
        image_tokens=row.image_tokens,
        audio_output_tokens=row.audio_output_tokens,
        image_output_tokens=row.image_output_tokens,
    )
