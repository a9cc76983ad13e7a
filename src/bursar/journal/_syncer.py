"""The seam to threads and time: who does the journal's work, and when."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Syncer(Protocol):
    """Does jobs one after another, in order. All is called on the event loop, and so are the callbacks."""

    def submit(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Runs `work`, which may wait for the disk; then `done` with what it returned or raised."""
        ...

    def soon(self, callback: Callable[[], None]) -> None:
        """Once those who are running now had their turn: whoever appends until then shares one sync."""
        ...

    def later(self, seconds: float, callback: Callable[[], None]) -> None: ...

    def time(self) -> float:
        """Seconds from an arbitrary start."""
        ...

    async def stop(self) -> None:
        """Returns when every job is done; no job runs after that."""
        ...


class _Job(Generic[T]):
    def __init__(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        self.work = work
        self.done = done

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        outcome: T | Exception
        try:
            outcome = self.work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must reach those who wait
            outcome = error
        with suppress(RuntimeError):  # the loop was closed: nobody is left to be told
            loop.call_soon_threadsafe(self.done, outcome)


class ThreadSyncer:
    """One thread, started with the first job, on the loop that is running then."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        if self._thread is None:
            # A daemon: a process that ends without `close` must not hang on a disk that does not answer.
            self._thread = threading.Thread(
                target=_work, args=(self._jobs, self._running_loop()), name="journal", daemon=True
            )
            self._thread.start()
        self._jobs.put(_Job(work, done))  # type: ignore[arg-type]

    def soon(self, callback: Callable[[], None]) -> None:
        self._running_loop().call_soon(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._running_loop().call_later(seconds, callback)

    def time(self) -> float:
        return self._running_loop().time()

    async def stop(self) -> None:
        if self._thread is None:
            return
        ended = asyncio.Event()
        try:
            self.submit(lambda: None, lambda _: ended.set())
            await ended.wait()
        finally:  # cancelled: what is being written must still end before the lock is let go
            self._jobs.put(None)
            self._thread.join()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop


def _work(jobs: queue.SimpleQueue[_Job[object] | None], loop: asyncio.AbstractEventLoop) -> None:
    while (job := jobs.get()) is not None:
        job.run(loop)
