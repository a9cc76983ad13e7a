"""Generations (one row per request, metadata only) and roll-ups by hour."""

from bursar.activity._store import (
    Generation,
    GenerationStatus,
    UsageSource,
    add_all,
    find_generation,
    interrupted,
    lower_costs,
    record,
    record_all,
    roll_up,
    spent,
)

__all__ = [
    "Generation",
    "GenerationStatus",
    "UsageSource",
    "add_all",
    "find_generation",
    "interrupted",
    "lower_costs",
    "record",
    "record_all",
    "roll_up",
    "spent",
]
