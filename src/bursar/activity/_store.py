from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import select

from bursar.activity import tables
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, UserId
from bursar.kernel.money import ZERO, Nanos
from bursar.storage import Snapshot, Tx

_generations = tables.generations
_hours = tables.usage_hours


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
    NONE = "none"
    """Nothing was produced."""


class Generation(msgspec.Struct, frozen=True, gc=False):
    """One request. Tokens are the provider's own counts; `attempts` is a JSON array of what was tried and how it ended."""

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
    cost_nanos: Nanos = ZERO
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


ROWS_AT_ONCE = 100
"""Rows in one INSERT: well below what either database takes as parameters."""

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


async def record(tx: Tx, generation: Generation) -> bool:
    """Adds the row and its share of the roll-ups, once per id; whether this call did."""
    return await record_all(tx, [generation]) == 1


async def record_all(tx: Tx, generations: Sequence[Generation]) -> int:
    """Adds many, each once; returns how many were new."""
    fresh = 0
    for start in range(0, len(generations), ROWS_AT_ONCE):
        part = generations[start : start + ROWS_AT_ONCE]
        added = await tx.returning(
            tx.insert(_generations)
            .values([msgspec.structs.asdict(generation) for generation in part])
            .on_conflict_do_nothing(index_elements=["owner_id", "id"])
            .returning(_generations.c.owner_id, _generations.c.id)
        )
        new = {(row.owner_id, row.id) for row in added}
        fresh += len(new)
        await _roll_up(tx, [generation for generation in part if (generation.owner_id, generation.id) in new])
    return fresh


async def _roll_up(tx: Tx, generations: Sequence[Generation]) -> None:
    """Sums what belongs into one row first: one statement may not touch a row twice. In one order, so that nobody deadlocks."""
    sums: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(_SUMMED))
    for generation in generations:
        total = sums[_hour_key(generation)]
        for position, count in enumerate(_counts(generation)):
            total[position] += count
    if not sums:
        return
    insert = tx.insert(_hours).values(
        [dict(zip((*_HOUR_KEY, *_SUMMED), (*key, *total), strict=True)) for key, total in sorted(sums.items())]
    )
    await tx.execute(
        insert.on_conflict_do_update(
            index_elements=list(_HOUR_KEY),
            set_={name: _hours.c[name] + insert.excluded[name] for name in _SUMMED},
        )
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
