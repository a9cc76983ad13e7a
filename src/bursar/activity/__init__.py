"""Generations (one row per request, metadata only) and roll-ups by hour."""

from bursar.activity._store import (
    Generation,
    GenerationStatus,
    RecentUse,
    UsageSource,
    add_all,
    find_generation,
    interrupted,
    lower_costs,
    recent_use,
    record,
    record_all,
    roll_up,
    spent,
)

__all__ = [
    "Generation",
    "GenerationStatus",
    "RecentUse",
    "UsageSource",
    "add_all",
    "find_generation",
    "interrupted",
    "lower_costs",
    "recent_use",
    "record",
    "record_all",
    "roll_up",
    "spent",
]
