"""What this process counted since it started: for whoever watches. In memory, and never what money is decided by."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from bursar.gateway._state import JournalState
from bursar.kernel.money import ZERO, Nanos


@dataclass(slots=True)
class Counts:
    answered: Counter[int] = field(default_factory=Counter)
    """Requests to models, by the status of the answer; 499 for clients that left before there was one."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests that ended in an error of ours or of a provider's, by its name."""
    spent: Nanos = ZERO
    """Charged, in nanos."""
    batches: Counter[int] = field(default_factory=Counter)
    """Batches that were applied, by how many settlements they had."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker counted since it started, and what runs there, as of `at`; `journal` is None where there is none."""

    at: datetime
    answered: dict[int, int]
    refused: dict[str, int]
    spent: Nanos
    batches: dict[int, int]
    running: int
    journal: JournalState | None


CLIENT_LEFT = 499
