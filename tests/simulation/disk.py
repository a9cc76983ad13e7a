"""The journal's disk and its worker, without a thread: a job takes simulated time, and the power may be lost in the middle of it."""

import asyncio
import errno
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bursar.journal import JournalLimits
from tests.support.journal import ForgetfulDisk, PowerLost

LIMITS = JournalLimits(
    segment_bytes=1 << 13,
    group_bytes_max=1 << 11,
    record_bytes_max=1536,
    segments_max=60,
    busy_records_per_second=8,
)
"""Small, so that segments come and go within one schedule, and so that a journal is busy now and then."""


class SimulatedSyncer:
    """A `Syncer`. `slow` makes every job take that many times longer; `broken` makes the next one fail."""

    def __init__(self, rng: random.Random, disk: ForgetfulDisk) -> None:
        self._rng = rng
        self._disk = disk
        self._jobs: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._is_busy = False
        self.slow = 1.0
        self.broken = False

    def submit(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._jobs.append((work, done))
        if not self._is_busy:
            self._begin()

    def soon(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, callback)

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    async def stop(self) -> None:
        while self._jobs or self._is_busy:
            await asyncio.sleep(0.001)

    def _begin(self) -> None:
        self._is_busy = True
        seconds = self._rng.choice((0.0002, 0.001, 0.001, 0.004, 0.02)) * self.slow
        asyncio.get_running_loop().call_later(seconds, self._do)

    def _do(self) -> None:
        work, done = self._jobs.popleft()
        outcome: Any
        try:
            outcome = work() if not self.broken or self._rng.random() < 0.5 else None
        except Exception as error:  # noqa: BLE001 - as the thread does
            outcome = error
        if self.broken:  # what of it reached the disk is not known
            outcome = OSError(errno.EIO, "Input/output error")
        self._is_busy = False
        done(outcome)
        if self._jobs and not self._is_busy:
            self._begin()

    def cut_short(self) -> None:
        """The process dies with a job under way: any part of it may have been done."""
        if self._is_busy:
            self._disk.fuse = self._rng.randrange(4)
            with suppress(PowerLost, Exception):
                self._jobs[0][0]()
            self._disk.fuse = None
