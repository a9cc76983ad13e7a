"""Named moments at which a server kills itself: `python -m tests.support.failpoints POINT PASS demo …` is `bursar demo …` that sends
itself SIGKILL at its PASS-th pass of POINT. The product knows nothing of this: methods are wrapped from outside. Two more ways to
make it hard are `fail:fdatasync`, from that pass on, and `jump:clock`, an hour ahead and back every PASS milliseconds.

A point is before or after an arrow of a request's way: `before:intent` is "the hold is taken, nothing is in the journal", and
`after:settle` "the settlement is on disk, the client was not told".
"""

import errno
import functools
import inspect
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from bursar import ledger
from bursar.gateway import _apply, _journaled, _leases
from bursar.gateway._journaled import JournalFunds
from bursar.gateway._records import Kind
from bursar.journal import Journal, _disk, _segments
from bursar.kernel.clock import SystemClock
from bursar.providers import DemoUpstream
from bursar.storage import Database

Matches = Callable[[tuple[Any, ...]], bool]


def _any(_: tuple[Any, ...]) -> bool:
    return True


def _of(kind: Kind) -> Matches:
    """Appends of such records."""
    return lambda arguments: arguments[1] == kind


ARROWS: dict[str, tuple[Any, str, Matches]] = {
    "lease": (ledger, "lease", _any),  # after: not committed yet
    "leased": (_leases.Leases, "_lease_more", _any),  # after: committed, nothing spent of it
    "intent": (Journal, "append", _of(Kind.INTENT)),  # after: perhaps not on disk
    "held": (JournalFunds, "hold", _any),  # after: on disk, nothing went upstream
    "dispatch of a whole answer": (DemoUpstream, "complete", _any),  # after: the answer is here, nothing is settled
    "dispatch of a stream": (DemoUpstream, "stream", _any),
    "progress": (Journal, "append", _of(Kind.PROGRESS)),
    "settlement": (Journal, "append", _of(Kind.SETTLE)),  # after: perhaps not on disk
    "settle": (JournalFunds, "settle", _any),  # after: on disk, the client was not told
    "write": (_segments.Segments, "write", _any),
    "fdatasync": (_disk._Fd, "fdatasync", _any),
    "batch": (_journaled, "apply_settlements", _any),  # after: not committed yet
    "books": (ledger, "apply_batch", _any),  # after: the charges are written, the activity is not
    "activity": (_apply.activity, "add_all", _any),
    "commit": (Database, "_commit", _any),
    "applied": (JournalFunds, "_apply_once", _any),  # after: committed and truncated
    "truncate": (_segments.Segments, "truncate", _any),
}
AT_START: dict[str, tuple[Any, str, Matches]] = {
    "registered": (ledger, "register_worker", _any),
    "interrupted": (Journal, "append", _of(Kind.SETTLE)),  # what was cut off gets its end
    "replayed batch": (_journaled, "apply_settlements", _any),
    "replayed": (JournalFunds, "_apply_once", _any),
    "leases back": (ledger, "return_all", _any),
    "recovered": (JournalFunds, "recover", _any),
}
ONCE = frozenset({"lease", "leased"})
"""Passed by the first request, and then not for long."""
RARE = frozenset({"progress", "truncate", "commit", "batch", "books", "activity", "applied"})
"""Passed a few times a second; the others by every request."""
WHEN = ("before", "after")


class Bomb:
    def __init__(self, point: str, passes: int) -> None:
        self.when, _, name = point.partition(":")
        self.target, self.attribute, self.matches = {**ARROWS, **AT_START}[name]
        self.left = passes
        self.is_armed = name in AT_START
        """The others wait for the first request: a start takes many of the same ways."""

    def set(self) -> None:
        setattr(self.target, self.attribute, self._around(getattr(self.target, self.attribute)))
        hold = JournalFunds.hold

        async def arming(*arguments: Any) -> Any:
            self.is_armed = True
            return await hold(*arguments)

        if not self.is_armed:
            JournalFunds.hold = arming  # type: ignore[method-assign]

    def _passes(self, when: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_armed or not self.matches(arguments):
            return
        if self.when == "fail" and when == "before":
            self.left -= 1
            if self.left <= 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        elif self.when == when:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*arguments: Any, **named: Any) -> Any:
                self._passes("before", arguments)
                result = await function(*arguments, **named)
                self._passes("after", arguments)
                return result

            return awaited
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def generated(*arguments: Any, **named: Any) -> Any:
                self._passes("before", arguments)
                async for each in function(*arguments, **named):
                    yield each
                self._passes("after", arguments)

            return generated

        @functools.wraps(function)
        def called(*arguments: Any, **named: Any) -> Any:
            self._passes("before", arguments)
            result = function(*arguments, **named)
            self._passes("after", arguments)
            return result

        return called


def jump(every_ms: int) -> None:
    """The wall clock is right, an hour ahead, an hour behind, right, …"""
    right = SystemClock.now

    def now(clock: SystemClock) -> datetime:
        step = int(time.monotonic() * 1000 / every_ms) % 3
        return right(clock) + timedelta(hours=(0, 1, -1)[step])

    SystemClock.now = now  # type: ignore[method-assign]


def main() -> None:
    point, passes, *command = sys.argv[1:]
    if point == "jump:clock":
        jump(int(passes))
    else:
        Bomb(point, int(passes)).set()
    sys.argv = ["bursar", *command]
    from bursar.cli import _main

    _main.run()


if __name__ == "__main__":
    main()
