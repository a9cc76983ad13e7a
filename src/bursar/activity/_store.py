from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import bindparam, func, select, update

from bursar.activity import tables
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, UserId
from bursar.kernel.money import ZERO, Nanos
from bursar.storage import Snapshot, Tx

_generations = tables.generations
_hours = tables.usage_hours

RECENT_REQUESTS = 100


class GenerationStatus(StrEnum):
    OK = "ok"
    """The model finished."""
    CANCELLED = "cancelled"
    """The client left before the end."""
    FAILED = "failed"
    """No attempt gave an answer, or the answer broke off."""
    INTERRUPTED = "interrupted"
    """Bursar itself stopped while the request ran."""


class UsageSource(StrEnum):
    """Where the numbers of a charge come from."""

    REPORTED = "reported"
    """By the provider."""
    COUNTED = "counted"
    """By Bursar, from what arrived, because the provider reported nothing or was cut off."""
    ESTIMATED = "estimated"
    """By Bursar, from lengths alone: of a request that was interrupted, or of sounds, images and embeddings that nobody counted."""
    NONE = "none"
    """Nothing was produced."""


class Generation(msgspec.Struct, frozen=True, gc=False):
    """One request. `cost_nanos` is what was charged, `house_nanos` what it cost besides and nobody could pay. Tokens are the provider's own counts; `attempts` is a JSON array of what was tried and how it ended."""

    owner_id: OwnerId
    id: GenerationId
    created_at: datetime
    key_id: KeyId | None
    user_id: UserId
    status: GenerationStatus
    requested_model: str
    model: str
    provider: str | None = None
    endpoint_id: str | None = None
    upstream_id: str | None = None
    api_type: str = "completions"
    streamed: bool = False
    cancelled: bool = False
    error_status: int | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    """With the next one."""
    cache_write_1h_tokens: int = 0
    audio_tokens: int = 0
    """Of the prompt, as the next one."""
    image_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    images: int = 0
    """In the prompt, as charged; and sounds."""
    sounds: int = 0
    media_made: int = 0
    cost_nanos: Nanos = ZERO
    house_nanos: Nanos = ZERO
    usage_source: UsageSource = UsageSource.NONE
    price_version: str | None = None
    first_token_ms: int | None = None
    duration_ms: int = 0
    attempts: str = "[]"
    http_referer: str | None = None
    app_title: str | None = None
    user_agent: str | None = None
    external_user: str | None = None
    session_id: str | None = None


_NAMES = Generation.__struct_fields__
_HOUR_KEY = ("owner_id", "hour", "key_id", "model", "provider", "user_id")
_SUMMED = (
    "requests",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cached_tokens",
    "duration_ms",
    "cost_nanos",
)


def interrupted(
    owner: OwnerId,
    generation: GenerationId,
    opened_at: datetime,
    *,
    key: KeyId | None,
    user: UserId,
    model: str,
    price_version: str | None,
) -> Generation:
    """Bursar stopped while this request ran, and nothing is known of what came of it: it costs nothing."""
    return Generation(
        owner_id=owner,
        id=generation,
        created_at=opened_at,
        key_id=key,
        user_id=user,
        status=GenerationStatus.INTERRUPTED,
        requested_model=model,
        model=model,
        price_version=price_version,
        finish_reason="error",
    )


async def record(tx: Tx, generation: Generation) -> bool:
    """Adds the row and its share of the roll-ups, once per id; whether this call did."""
    return await record_all(tx, [generation]) == 1


async def record_all(tx: Tx, generations: Sequence[Generation]) -> int:
    """Adds many, each once; returns how many were new."""
    fresh = await add_all(tx, generations)
    await roll_up(tx, fresh)
    return len(fresh)


async def add_all(tx: Tx, generations: Sequence[Generation]) -> Sequence[Generation]:
    """Adds the rows, each once, and not yet their share of the roll-ups: `roll_up` must follow in the same transaction. Returns
    those that were new, in their order."""
    if not generations:
        return []
    added = await tx.returning(
        tx.insert(_generations)
        .on_conflict_do_nothing(index_elements=["owner_id", "id"])
        .returning(_generations.c.owner_id, _generations.c.id),
        [msgspec.structs.asdict(generation) for generation in generations],
    )
    new = {(row.owner_id, row.id) for row in added}
    fresh = []
    for generation in generations:
        name = (generation.owner_id, generation.id)
        if name in new:
            new.remove(name)  # of two with one id the first is the row
            fresh.append(generation)
    return fresh


async def lower_costs(tx: Tx, generations: Sequence[Generation]) -> None:
    """Puts in what was really charged for rows just added, before they are rolled up."""
    await tx.execute_each(
        update(_generations)
        .where(_generations.c.owner_id == bindparam("owner"), _generations.c.id == bindparam("generation"))
        .values(cost_nanos=bindparam("cost"), house_nanos=bindparam("house")),
        [
            {"owner": each.owner_id, "generation": each.id, "cost": each.cost_nanos, "house": each.house_nanos}
            for each in generations
        ],
    )


async def roll_up(tx: Tx, generations: Sequence[Generation]) -> None:
    """Adds to the hours. Sums what belongs into one row first; in one order, so that nobody deadlocks."""
    sums: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(_SUMMED))
    for generation in generations:
        total = sums[_hour_key(generation)]
        for position, count in enumerate(_counts(generation)):
            total[position] += count
    insert = tx.insert(_hours)
    await tx.execute_each(
        insert.on_conflict_do_update(
            index_elements=list(_HOUR_KEY),
            set_={name: _hours.c[name] + insert.excluded[name] for name in _SUMMED},
        ),
        [dict(zip((*_HOUR_KEY, *_SUMMED), (*key, *total), strict=True)) for key, total in sorted(sums.items())],
    )


def _hour_key(generation: Generation) -> tuple[Any, ...]:
    hour = generation.created_at.replace(minute=0, second=0, microsecond=0)
    provider = generation.provider or ""
    return (generation.owner_id, hour, generation.key_id or "", generation.model, provider, generation.user_id)


def _counts(generation: Generation) -> tuple[int, ...]:
    return (
        1,
        int(generation.status is GenerationStatus.FAILED),
        generation.prompt_tokens,
        generation.completion_tokens,
        generation.reasoning_tokens,
        generation.cached_tokens,
        generation.duration_ms,
        generation.cost_nanos,
    )


async def spent(
    snapshot: Snapshot, owner: OwnerId, since: datetime, *, key: KeyId | None = None, user: UserId | None = None
) -> Nanos:
    """What the owner's requests since the beginning of an hour cost: all, or those of one key, or of one user."""
    query = select(func.coalesce(func.sum(_hours.c.cost_nanos), 0)).where(
        _hours.c.owner_id == owner, _hours.c.hour >= since
    )
    if key is not None:
        query = query.where(_hours.c.key_id == key)
    if user is not None:
        query = query.where(_hours.c.user_id == user)
    return Nanos(int(await snapshot.scalar(query)))


@dataclass(frozen=True)
class RecentUse:
    """Of one key: how many requests, at what cost, and (newest first) what the clients said they are, as "Invoice bot" or
    "OpenAI/Python 2.1"; looked for in its last requests only."""

    requests: int
    cost: Nanos
    clients: Sequence[str]


async def recent_use(snapshot: Snapshot, owner: OwnerId, key: KeyId, since: datetime) -> RecentUse:
    """Since the beginning of an hour."""
    sums = await snapshot.first(
        select(
            func.coalesce(func.sum(_hours.c.requests), 0).label("requests"),
            func.coalesce(func.sum(_hours.c.cost_nanos), 0).label("cost"),
        ).where(_hours.c.owner_id == owner, _hours.c.hour >= since, _hours.c.key_id == key)
    )
    assert sums is not None
    rows = await snapshot.all(
        select(_generations.c.app_title, _generations.c.user_agent, _generations.c.external_user)
        .where(_generations.c.owner_id == owner, _generations.c.key_id == key)
        .order_by(_generations.c.id.desc())
        .limit(RECENT_REQUESTS)
    )
    said = [(row.app_title or row.user_agent, row.external_user) for row in rows]
    clients = [f"{client or 'an unnamed client'}{f' for {user}' if user else ''}" for client, user in said]
    return RecentUse(int(sums.requests), Nanos(int(sums.cost)), list(dict.fromkeys(clients)))


async def find_generation(snapshot: Snapshot, owner: OwnerId, generation: GenerationId) -> Generation | None:
    """The owner's generation, or None: another owner's answers like one that never was."""
    row = await snapshot.first(
        select(_generations).where(_generations.c.owner_id == owner, _generations.c.id == generation)
    )
    return None if row is None else _generation(row)


def _generation(row: Any) -> Generation:
    values = {name: getattr(row, name) for name in _NAMES}
    values["status"] = GenerationStatus(row.status)
    values["usage_source"] = UsageSource(row.usage_source)
    return Generation(**values)
