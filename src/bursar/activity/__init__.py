"""Generations (one row per request, metadata only) and roll-ups by hour."""

from bursar.activity._store import Generation, GenerationStatus, UsageSource, find_generation, record, record_all

__all__ = ["Generation", "GenerationStatus", "UsageSource", "find_generation", "record", "record_all"]
