"""How a worker's journal stands: what runs, and what is on its way to the database."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from bursar.activity import Generation


@dataclass(frozen=True)
class JournalState:
    """`lag` counts the settlements that are journaled and not applied, the oldest of them made at `lag_since`; `open` the requests
    without an end, the oldest begun at `oldest_open_at`, which hold `held` nanos of their worker's leases (None where nobody counted)."""

    lag: int
    lag_since: datetime | None
    open: int
    held: int | None
    oldest_open_at: datetime | None


def ended_at(row: Generation) -> datetime:
    return row.created_at + timedelta(milliseconds=row.duration_ms)
