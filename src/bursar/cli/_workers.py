"""`--workers N`: a supervisor and N processes that serve.

The supervisor opens the installation, looks whether everything is in place, imports what workers need and then forks them: they share
its memory until they change it, and one that is started again is there at once. From then on it only waits: for signals, which it
passes on, and for workers that end, which it starts again. It has no thread and no event loop, so that forking is safe.

Each worker listens on a socket of its own on the same port (SO_REUSEPORT), opened when it is ready: the kernel spreads connections
evenly by their addresses, where on one inherited socket whoever wakes up first takes all that wait; and a worker that is gone gets no
connections, where they would wait in an inherited socket of its own. The operator's socket is one, inherited: any worker answers.

1. SIGTERM, SIGINT: every worker drains; again: every worker cuts what runs. The supervisor ends when all did.
2. SIGHUP: every worker reloads the catalogue.
3. A worker ends: it is started again, later the more often that happened lately. One that ends before it was ever ready takes the
   others with it: the installation is not in order.
4. The supervisor dies: the workers see the end of the pipe it held, and drain.
"""

import logging
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from bursar.app import SYSTEM_CLOCK
from bursar.gateway import Seat
from bursar.kernel.clock import Clock

RESTART_SECONDS_FIRST = 0.2
RESTART_SECONDS_LONGEST = 10.0
LIVED_SECONDS = 30.0
"""A worker that lived so long has not failed lately."""
EXIT_BROKEN = 70

HURRY = signal.SIGUSR1
"""To a worker: cut what runs. A second SIGTERM could also come from whoever tells the whole group of processes to end."""

_TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_log = logging.getLogger("bursar.workers")


@dataclass(frozen=True)
class Post:
    """What a worker has from its supervisor. `alive`: a pipe that ends with the supervisor; `ready`: one to tell it by."""

    seat: Seat
    operator: socket.socket
    alive: int
    ready: int

    def tell_ready(self) -> None:
        os.write(self.ready, bytes([self.seat.index]))


@dataclass
class _Worker:
    pid: int | None = None
    started_at: float = 0.0
    failures: int = 0
    due_at: float | None = None
    """When to start it again."""


@dataclass
class Supervisor:
    """`work` is a worker's whole life, in its own process; it returns an exit code."""

    count: int
    operator: socket.socket
    work: Callable[[Post], int]
    when_ready: Callable[[], None]
    _clock: Clock = SYSTEM_CLOCK
    _workers: list[_Worker] = field(default_factory=list)
    _not_ready: set[int] = field(default_factory=set)
    _has_served: bool = False
    _stops: int = 0
    _code: int = 0

    def run(self) -> int:
        """Returns when every worker ended: 0 if all did as they were told."""
        self._alive, self._held = os.pipe()
        self._told, told = os.pipe()
        self._hears, self._ready = os.pipe()
        for fd in (self._told, told, self._hears):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(told)
        for name in _TOLD:
            signal.signal(name, lambda *_: None)
        self._workers = [_Worker() for _ in range(self.count)]
        for index in range(self.count):
            self._start(index)
        while any(worker.pid is not None for worker in self._workers) or not self._stops:
            self._turn()
        return self._code

    def _turn(self) -> None:
        due = [worker.due_at for worker in self._workers if worker.due_at is not None]
        wait = max(0.0, min(due) - self._clock.monotonic()) if due else None
        readable, _, _ = select.select([self._told, self._hears], [], [], wait)
        if self._hears in readable:
            self._on_ready(os.read(self._hears, 4096))
        if self._told in readable:
            for number in os.read(self._told, 4096):
                self._on_signal(number)
        self._reap()
        for index, worker in enumerate(self._workers):
            if worker.due_at is not None and worker.due_at <= self._clock.monotonic():
                self._start(index)

    def _on_ready(self, seats: bytes) -> None:
        self._not_ready -= set(seats)
        if not self._not_ready and not self._has_served:
            self._has_served = True
            self.when_ready()

    def _on_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP:
            self._send(signal.SIGHUP)

    def _stop(self) -> None:
        self._stops += 1
        for worker in self._workers:
            worker.due_at = None
        self._send(signal.SIGTERM if self._stops == 1 else HURRY)

    def _send(self, name: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid is not None:
                os.kill(worker.pid, name)

    def _reap(self) -> None:
        for index, worker in enumerate(self._workers):
            if worker.pid is None:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                worker.pid = None
                self._ended(index, worker, os.waitstatus_to_exitcode(status))

    def _ended(self, index: int, worker: _Worker, code: int) -> None:
        if self._stops:
            was_early = code == -signal.SIGTERM and index in self._not_ready
            self._code = self._code or (0 if was_early else code)
            return
        if index in self._not_ready and not self._has_served and code:
            self._code = code if code > 0 else EXIT_BROKEN
            self._stop()
            return
        worker.failures = 0 if self._clock.monotonic() - worker.started_at > LIVED_SECONDS else worker.failures + 1
        wait = min(RESTART_SECONDS_LONGEST, RESTART_SECONDS_FIRST * 2 ** max(0, worker.failures - 1))
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        _log.error("worker %d ended %s; it is started again in %.1f s", index, how, wait)
        worker.due_at = self._clock.monotonic() + wait

    def _start(self, index: int) -> None:
        worker = self._workers[index]
        worker.due_at, worker.started_at = None, self._clock.monotonic()
        self._not_ready.add(index)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)
        pid = os.fork()
        if pid == 0:
            self._be_worker(index, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        worker.pid = pid

    def _be_worker(self, index: int, mask: set[int | signal.Signals]) -> NoReturn:
        """Never returns into the supervisor's code: it is a process of its own from here on."""
        code = EXIT_BROKEN
        try:
            signal.set_wakeup_fd(-1)
            for name in _TOLD:
                signal.signal(name, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor hears of Ctrl+C as well, and passes it on
            os.close(self._held)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = self.work(Post(Seat(index, self.count), self.operator, self._alive, self._ready))
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else EXIT_BROKEN
        except BaseException:  # noqa: BLE001 - whatever it is, this process ends here, and the supervisor starts another
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
