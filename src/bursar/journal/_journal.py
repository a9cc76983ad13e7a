"""The front door. All of it runs on the event loop and waits for nothing; what waits for the disk is a job of the `Syncer`.

One group is on its way to the disk, the next one fills meanwhile. Where many records come a group also waits a moment for more of
them: a sync costs the same for one record as for ten.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from bursar.journal import _format
from bursar.journal._disk import Disk, RealDisk
from bursar.journal._errors import JournalClosed, JournalFailed, JournalFull, RecordsMissing, RecordTooLarge
from bursar.journal._format import Record
from bursar.journal._limits import JournalLimits
from bursar.journal._segments import Segments, Space
from bursar.journal._syncer import Syncer, ThreadSyncer

log = logging.getLogger(__name__)

_RECORD_COST = _format.RECORD_OVERHEAD_BYTES + _format.GROUP_OVERHEAD_BYTES


class _Group:
    """Records that go to disk in one write, and those who wait for them."""

    __slots__ = ("cost", "count", "data", "first_lsn", "waiting")

    def __init__(self, first_lsn: int) -> None:
        self.first_lsn = first_lsn
        self.count = 0
        self.data = _format.new_group()
        self.cost = 0
        self.waiting: list[asyncio.Future[None]] = []

    @property
    def last_lsn(self) -> int:
        return self.first_lsn + self.count - 1


class _Pace:
    """Whether so many records come in a second, looked at every so often."""

    RECORDS = 64
    SECONDS = 0.1  # duration, not money

    def __init__(self, records_per_second: int) -> None:
        self._limit = records_per_second
        self._lsn, self._at = 0, float("-inf")  # a moment, not money
        self._is_busy = False

    def is_busy(self, lsn: int, now: float) -> bool:  # a moment, not money
        records, seconds = lsn - self._lsn, now - self._at
        if records >= self.RECORDS or seconds >= self.SECONDS:
            self._is_busy = records >= self._limit * seconds
            self._lsn, self._at = lsn, now
        return self._is_busy


class Journal:
    """The records of one worker, numbered from 1 without gaps (`lsn`). Made by `open`; one event loop uses it."""

    def __init__(
        self, segments: Segments, space: Space, limits: JournalLimits, syncer: Syncer, on_failure: Callable[[], None]
    ) -> None:
        self._segments = segments
        self._space = space
        self._limits = limits
        self._syncer = syncer
        self._on_failure = on_failure
        self._found = list(segments.segments)
        self._found_last = self._last_lsn = self._synced_lsn = segments.next_lsn - 1
        self._filling = _Group(self._last_lsn + 1)
        self._full: deque[_Group] = deque()
        self._in_flight: _Group | None = None
        self._outstanding_bytes = 0
        self._is_lingering = False
        self._is_called_soon = False
        self._pace = _Pace(limits.busy_records_per_second)
        self._is_growing = False
        self._has_failed = False
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @staticmethod
    def open(
        folder: Path,
        worker: str,
        *,
        limits: JournalLimits | None = None,
        disk: Disk | None = None,
        syncer: Syncer | None = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> "Journal":
        """Takes the folder (made if missing) for this process and checks every record in it; waits for the disk.

        What a crash tore off the very end is dropped: nobody was told that it was on disk. `on_failure` is called once, on the
        loop, when a write or a sync failed: stop the process then, and recover by a new start.

        Raises `JournalInUse`, `JournalUnusable`, `JournalTooNew`, `JournalOfAnother`, `JournalCorrupt`; `ValueError` for a
        worker's name that is empty or longer than 128 bytes.
        """
        limits = limits or JournalLimits()
        segments = Segments(folder, worker, limits, disk or RealDisk())
        return Journal(segments, segments.open(), limits, syncer or ThreadSyncer(), on_failure)

    def replay(self, after: int) -> Iterator[Record]:
        """The records with a greater lsn than `after` that were there at `open`, in order. To be read before `truncate`.

        `after` is what the database says was applied. Raises `RecordsMissing` if the journal ends before that or begins later
        than one behind it: it is not the journal of that database.
        """
        first = self._found[0].first_lsn
        if not first - 1 <= after <= self._found_last:
            raise RecordsMissing(self._segments.folder, after=after, first=first, last=self._found_last)
        return self._segments.read(self._found, after)

    def append(self, kind: int, payload: bytes, *, reserve: bool = False) -> int:
        """Takes a record and returns its lsn at once. Nobody waits; it is on its way within `linger_seconds` at the latest.

        `kind` is 0 to 65535. `reserve=True` is for what ends or continues work that was admitted before: it may use the space
        that is kept for it. Raises `JournalFull` (nothing was taken), `RecordTooLarge`, `JournalFailed`, `JournalClosed`.
        """
        if self._has_failed or self._is_closed:
            raise self._refusal()
        size = len(payload)
        if size > self._limits.record_bytes_max:
            raise RecordTooLarge(size, self._limits.record_bytes_max)
        if not 0 <= kind <= _format.KIND_MAX:
            raise ValueError(f"a kind is 0 to {_format.KIND_MAX}, not {kind}")
        cost = size + _RECORD_COST
        kept = 0 if reserve else self._space.reserve_bytes
        if self._space.free_bytes - self._outstanding_bytes - kept < cost:
            raise JournalFull
        group = self._filling
        if len(group.data) + cost > self._limits.group_bytes_max:
            self._full.append(group)
            group = self._filling = _Group(self._last_lsn + 1)
        group.data += _format.pack_record_head(size, kind)
        group.data += payload
        group.count += 1
        group.cost += cost
        self._outstanding_bytes += cost
        self._last_lsn += 1
        if not self._is_lingering and self._in_flight is None:
            self._is_lingering = True
            self._syncer.later(self._limits.linger_seconds, self._linger_over)
        return self._last_lsn

    async def synced(self, lsn: int) -> None:
        """Returns when every record up to `lsn` is on disk. All who wait share one write and one sync.

        Raises `JournalFailed` if that is not known, and never will be; `ValueError` for an lsn that was not given out.
        """
        if lsn <= self._synced_lsn:
            return
        if self._has_failed:
            raise self._refusal()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # kept: it costs a system call each time
        future = self._loop.create_future()
        self._group_of(lsn).waiting.append(future)
        if self._in_flight is None:
            self._hand_over_soon()
        await future

    @property
    def first_lsn(self) -> int:
        """The lowest lsn that `replay` can give: whatever came before it was truncated."""
        return self._found[0].first_lsn

    @property
    def last_lsn(self) -> int:
        """The lsn given out last; 0 if there is none."""
        return self._last_lsn

    @property
    def synced_lsn(self) -> int:
        """Everything up to here is on disk."""
        return self._synced_lsn

    @property
    def bytes_pending(self) -> int:
        """What was appended and is not known to be on disk."""
        pending = [self._filling, *self._full, *([self._in_flight] if self._in_flight else ())]
        return sum(len(group.data) for group in pending if group.count)

    @property
    def size_bytes(self) -> int:
        """What all files take on disk, preallocated ones included."""
        return self._space.size_bytes

    def truncate(self, through: int) -> None:
        """Gives back the segments that hold only records up to `through`, which the caller needs no more; soon, not at once.

        Raises `ValueError` for records that are not on disk yet.
        """
        if through > self._synced_lsn:
            raise ValueError(f"record {through} is not on disk yet")
        if not self._has_failed and not self._is_closed:
            self._syncer.submit(partial(self._segments.truncate, through), self._truncated)

    async def close(self) -> None:
        """Brings what is pending to disk and lets go of the folder; whoever waits is told. Safe to repeat."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            with suppress(JournalFailed):
                await self.synced(self._last_lsn)
        finally:
            try:
                await self._syncer.stop()
            finally:
                self._segments.close()

    def _group_of(self, lsn: int) -> _Group:
        if lsn > self._last_lsn:
            raise ValueError(f"there is no record {lsn} yet")
        if self._in_flight is not None and lsn <= self._in_flight.last_lsn:
            return self._in_flight
        return next((group for group in self._full if lsn <= group.last_lsn), self._filling)

    def _linger_over(self) -> None:
        self._is_lingering = False
        self._hand_over()

    def _called_soon(self) -> None:
        self._is_called_soon = False
        self._hand_over()

    def _hand_over_soon(self) -> None:
        if self._is_called_soon:
            return
        self._is_called_soon = True
        if self._is_busy():
            self._syncer.later(self._limits.busy_linger_seconds, self._called_soon)
        else:
            self._syncer.soon(self._called_soon)

    def _is_busy(self) -> bool:
        return self._pace.is_busy(self._last_lsn, self._syncer.time())

    def _hand_over(self) -> None:
        """Sends the next group on its way, unless one is on it."""
        if self._in_flight is not None or self._has_failed:
            return
        if self._full:
            group = self._full.popleft()
        elif self._filling.count:
            group = self._filling
            self._filling = _Group(self._last_lsn + 1)
        else:
            return
        self._in_flight = group
        self._syncer.submit(partial(self._segments.write, group.data, group.first_lsn, group.count), self._written)

    def _written(self, outcome: Space | Exception) -> None:
        group = self._in_flight
        assert group is not None
        if isinstance(outcome, Exception):
            self._fail(outcome)
            return
        self._in_flight = None
        self._synced_lsn = group.last_lsn
        self._outstanding_bytes -= group.cost
        if self._is_busy() and not self._full:
            if self._filling.count:
                self._hand_over_soon()
        else:
            self._hand_over()  # before those are woken who waited: the disk works while they do
        for future in group.waiting:
            if not future.done():
                future.set_result(None)
        self._take(outcome)

    def _truncated(self, outcome: Space | Exception) -> None:
        if isinstance(outcome, Exception):
            self._fail(outcome)
        else:
            self._take(outcome)

    def _take(self, space: Space) -> None:
        self._space = space
        if space.is_short:
            self._grow()

    def _grow(self) -> None:
        if not self._is_growing and not self._is_closed and not self._has_failed:
            self._is_growing = True
            self._syncer.submit(self._segments.grow, self._grown)

    def _grown(self, outcome: Space | Exception) -> None:
        if isinstance(outcome, Exception):
            self._fail(outcome)
            return
        self._space = outcome
        if outcome.is_short:  # the disk is full, or the limit reached: it may pass
            self._syncer.later(self._limits.retry_seconds, self._grow_again)
        else:
            self._is_growing = False

    def _grow_again(self) -> None:
        self._is_growing = False
        self._grow()

    def _fail(self, error: Exception) -> None:
        if self._has_failed:
            return
        self._has_failed = True
        log.critical("The journal %s failed and takes nothing any more.", self._segments.folder, exc_info=error)
        groups = [self._filling, *self._full, *([self._in_flight] if self._in_flight else ())]
        for future in (future for group in groups for future in group.waiting):
            if not future.done():
                failed = JournalFailed()
                failed.__cause__ = error
                future.set_exception(failed)
        self._on_failure()

    def _refusal(self) -> JournalFailed | JournalClosed:
        return JournalFailed() if self._has_failed else JournalClosed()
