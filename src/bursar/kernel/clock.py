"""The only module that tells the time. Everything else is handed a `Clock`."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for durations."""

    def now(self) -> datetime:
        """The present moment, in UTC, with its time zone."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never go back; for measuring durations only."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class FixedClock:
    """A clock that stands still until told otherwise; for tests and for writing history."""

    def __init__(self, at: datetime) -> None:
        if at.tzinfo is None:
            raise ValueError("a clock needs a time with its time zone")
        self._at = at.astimezone(UTC)
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._at

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, by: timedelta) -> None:
        self._at += by
        self._elapsed += by.total_seconds()

    def set(self, at: datetime) -> None:
        self._at = at.astimezone(UTC)


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:  # seconds, not money
    """Until the event is set, or so long. `asyncio.wait_for` would swallow a cancellation that comes together with the event (before Python
    3.12), and a loop that is to end would go on for ever."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
