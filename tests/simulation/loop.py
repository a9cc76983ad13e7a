"""Time that is only a number, turns in an order that a seed decides, and processes that can be killed between any two of them."""

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
STEPS_MAX = 400_000
"""A schedule that takes more turns than this goes round in circles."""
_process: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Stalled(Exception):
    """Nothing is ready and no timer is set: whoever still waits would wait for ever."""


class Process:
    """Everything that was started by `spawn`, and what that started. Killed, nothing of it runs on: no `except`, no `finally`."""

    def __init__(self, name: str, loop: "SimulatedLoop") -> None:
        self.name = name
        self.is_alive = True
        self._loop = loop
        self.on_death: list[Callable[[], None]] = []

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self.run(lambda: self._loop.create_task(work))

    def run(self, work: Callable[[], T]) -> T:
        """What `work` starts is this process's."""
        context = contextvars.copy_context()
        context.run(_process.set, self)
        return context.run(work)

    def kill(self) -> None:
        self.is_alive = False
        for told in self.on_death:
            told()


def current() -> Process | None:
    return _process.get()


class SimulatedLoop(asyncio.BaseEventLoop):
    """One turn at a time; of those that are ready any may be next. Without files, sockets, threads and signals."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.steps = 0
        self._now = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._scheduled: list[asyncio.TimerHandle] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self.faults: list[str] = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._fault)

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready:
            self._until_next_timer()
        while self._scheduled and self._scheduled[0]._when <= self._now:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            self._ready.append(timer)
        ready = self._ready
        if len(ready) > 1:
            at = self.rng.randrange(len(ready))
            ready[0], ready[at] = ready[at], ready[0]
        handle = ready.popleft()
        process = handle._context.get(_process)
        if handle._cancelled or (process is not None and not process.is_alive):
            return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Stalled(f"more than {STEPS_MAX} turns")
        handle._run()

    def _until_next_timer(self) -> None:
        while self._scheduled:
            handle = self._scheduled[0]
            process = handle._context.get(_process)
            if handle._cancelled or (process is not None and not process.is_alive):
                heapq.heappop(self._scheduled)._scheduled = False
                continue
            self._now = max(self._now, handle._when)
            return
        raise Stalled(f"nothing is left to happen at {self._now:.3f} s")

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """It is skipped when its time comes."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **more)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.append(task)
        return task

    def _fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    def dispose(self) -> None:
        """Lets go of what never ended: closed one by one, so that nothing of it runs at a time of the collector's choice."""
        asyncio._set_running_loop(self)
        try:
            while self._tasks:
                task = self._tasks.pop()
                if not task.done():
                    _close(task.get_coro())
        finally:
            asyncio._set_running_loop(None)
        self._ready.clear()
        self._scheduled.clear()
        self.close()


def _close(work: Any) -> None:
    for _ in range(20):  # a `finally` that waits takes more than one
        try:
            work.close()
        except BaseException:  # noqa: BLE001 - it is dead
            continue
        return
