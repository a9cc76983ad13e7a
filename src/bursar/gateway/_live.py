"""What runs at this moment, and who for: so that a right that is taken away ends it.

A change is heard (a key was disabled, deleted or rotated; somebody left an organization or was signed out); whoever has a request running that it may
mean is looked up anew, and what may not run any more is cut: the client is told why, and what arrived until then is charged. Secrets
that end by the clock, because the key expires or the grace after its rotation is over, end what runs on them at that moment as well.
"""

import asyncio
import math
import operator
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from bursar import organizations
from bursar.access import Allow, Context, Permission, may
from bursar.gateway._admit import Admission, Caller, InvalidApiKey, KeyCaller
from bursar.gateway._exchange import Exchange
from bursar.kernel.clock import Clock
from bursar.kernel.errors import BursarError, Forbidden, NotAuthenticated, Unavailable
from bursar.kernel.ids import OrganizationId, UserId, is_personal
from bursar.storage import SYSTEM, Change, Database

DOUBT_SECONDS = 1.5
"""After a change was heard, what it means cannot be read for so long: what runs is cut, to be on the safe side."""
ASK_AGAIN_SECONDS = 0.1
TIMER_SECONDS_MAX = 3_600.0  # seconds, not money


class AccessEnded(Forbidden):
    """Somebody chats in an organization that they do not belong to any more."""


class SignedOut(NotAuthenticated):
    """Somebody chats in a session that was ended."""


class Live:
    """The running requests of one process. Costs a request an entry in a dictionary."""

    def __init__(self, database: Database, admission: Admission, clock: Clock) -> None:
        self._database = database
        self._admission = admission
        self._clock = clock
        self._running: dict[Exchange, Caller] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        database.changes.subscribe("key", self._on_key)
        database.changes.subscribe("membership", self._on_membership)
        database.changes.subscribe("session", self._on_session)

    def add(self, exchange: Exchange, caller: Caller) -> None:
        self._running[exchange] = caller
        if isinstance(caller, KeyCaller) and caller.ends < self._timer_at:
            self._watch_until(caller.ends)

    def remove(self, exchange: Exchange) -> None:
        del self._running[exchange]

    def _on_key(self, change: Change) -> None:
        def is_meant(caller: Caller) -> bool:
            return isinstance(caller, KeyCaller) and caller.key_hash == change.subject

        if any(map(is_meant, self._running.values())):
            self._start(self._check(is_meant, lambda: self._of_key(change.subject, is_meant)))

    def _on_session(self, change: Change) -> None:
        def is_meant(caller: Caller) -> bool:
            return caller.session == change.subject

        self._cut(is_meant, SignedOut("You were signed out.", remedy="Sign in again to go on."))

    def _on_membership(self, change: Change) -> None:
        def is_meant(caller: Caller) -> bool:
            return caller.key is None and caller.user == change.subject

        if any(map(is_meant, self._running.values())):
            self._start(self._check(is_meant, lambda: self._of_person(is_meant)))

    async def _check(self, is_meant: Callable[[Caller], bool], look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Looks until the database answers, or there is no more time."""
        begun = self._clock.monotonic()
        while True:
            try:
                await look()
            except Unavailable as error:
                if self._clock.monotonic() - begun > DOUBT_SECONDS:
                    self._cut(is_meant, error)
                    return
                await asyncio.sleep(ASK_AGAIN_SECONDS)
            else:
                return

    async def _of_key(self, key_hash: str, is_meant: Callable[[Caller], bool]) -> None:
        try:
            caller = await self._admission.admit_again(key_hash)
        except InvalidApiKey as error:
            self._cut(is_meant, error)
            return
        for exchange, running in list(self._running.items()):
            if is_meant(running):
                self.add(exchange, caller)

    async def _of_person(self, is_meant: Callable[[Caller], bool]) -> None:
        for caller in {caller for caller in self._running.values() if is_meant(caller)}:
            if not is_personal(caller.owner) and not await self._may_chat(caller):
                error = AccessEnded(
                    "You do not belong to this organization any more.", remedy="Chat on your personal credits."
                )
                self._cut(partial(operator.eq, caller), error)

    async def _may_chat(self, caller: Caller) -> bool:
        async with self._database.snapshot(SYSTEM) as snapshot:
            role = await organizations.find_role(snapshot, OrganizationId(caller.owner), UserId(caller.user))
        return role is not None and isinstance(may(Context(caller.owner, role), Permission.CHAT), Allow)

    def _cut(self, is_meant: Callable[[Caller], bool], reason: BursarError) -> None:
        for exchange, caller in list(self._running.items()):
            if is_meant(caller):
                exchange.cut(reason)

    def _watch_until(self, ends: float) -> None:
        """At the latest then, what ended by the clock is looked for."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = ends
        left = min(max(0.0, ends - self._clock.monotonic()), TIMER_SECONDS_MAX)  # seconds, not money
        self._timer = asyncio.get_running_loop().call_later(left, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at, now, next_end = None, math.inf, self._clock.monotonic(), math.inf
        for key_hash, ends in {
            (caller.key_hash, caller.ends) for caller in self._running.values() if isinstance(caller, KeyCaller)
        }:
            if ends <= now:
                self._on_key(Change("key", key_hash))
            else:
                next_end = min(next_end, ends)
        if next_end < math.inf:
            self._watch_until(next_end)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)
