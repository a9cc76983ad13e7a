from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

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


@dataclass(frozen=True)
class Generation:
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


_NAMES = tuple(field.name for field in fields(Generation))
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
    added = await tx.execute(
        tx.insert(_generations).values(**asdict(generation)).on_conflict_do_nothing(index_elements=["owner_id", "id"])
    )
    if added != 1:
        return False
    insert = tx.insert(_hours).values(
        owner_id=generation.owner_id,
        hour=generation.created_at.replace(minute=0, second=0, microsecond=0),
        key_id=generation.key_id or "",
        model=generation.model,
        provider=generation.provider or "",
        user_id=generation.user_id,
        requests=1,
        errors=int(generation.status is GenerationStatus.FAILED),
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=generation.completion_tokens,
        reasoning_tokens=generation.reasoning_tokens,
        cached_tokens=generation.cached_tokens,
        duration_ms=generation.duration_ms,
        cost_nanos=generation.cost_nanos,
    )
    await tx.execute(
        insert.on_conflict_do_update(
            index_elements=[column.name for column in _hours.primary_key],
            set_={name: _hours.c[name] + insert.excluded[name] for name in _SUMMED},
        )
    )
    return True


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
