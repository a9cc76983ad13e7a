"""What this worker may spend without asking: purses in memory, refilled from the owners' credits and limits, and given back.

What is free here was taken out of the owner's credits, or of a limit, in the database *before*: spending it cannot overspend, whatever
other workers do. A request takes from all purses that bind it, or from none. One that finds too little waits for one refill, shared
by all that wait for this purse; where that does not cover it, other workers are asked to return what they do not use, once.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from bursar import ledger
from bursar.gateway._purses import Allowed, Credits, Lacking, Purse, Source
from bursar.kernel.clock import Clock
from bursar.kernel.errors import Unavailable
from bursar.kernel.ids import OwnerId, WorkerId, new_transfer_id
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.ledger import Allowance, Limit, LimitChanged
from bursar.storage import Change, Database, Scope

RETURNED = "returned"
"""The change that says something came back."""
ROUNDS_MAX = 3
"""How often a request looks again when, while it waited, a limit changed or others took what was there."""
LIMITS_FRESH_SECONDS = 30
"""An owner's limits are read again after this, should a change ever be missed."""

_NONE: Mapping[str, Limit] = MappingProxyType({})
_log = logging.getLogger("bursar.leases")


@dataclass(frozen=True, slots=True)
class LeaseSizes:
    """How much is leased at once, and for how long it is kept."""

    seconds: int = 5
    """So many seconds of what was spent lately."""
    share: int = 16
    """At least this part (1/share) of what is left: enough to serve through an outage, little enough to leave others some."""
    least: int = NANOS_PER_CREDIT // 100
    """In nanos."""
    idle_seconds: int = 30
    """A lease nobody used for so long goes back."""
    recall_seconds: float = 0.25  # seconds, not money
    """How long a request waits for other workers before it is refused."""
    blind_seconds: int = ledger.BLIND_SECONDS


@dataclass(frozen=True, slots=True)
class _Limits:
    by_subject: Mapping[str, Limit]
    at: float  # monotonic seconds


class Leases:
    """Of one worker. Only the event loop that made it may use it."""

    def __init__(
        self, database: Database, worker: WorkerId, clock: Clock, *, sizes: LeaseSizes | None = None, alone: bool
    ) -> None:
        """`alone`: no other worker can have a lease, so that nobody is asked for one."""
        self._database = database
        self._worker = worker
        self._clock = clock
        self._sizes = sizes or LeaseSizes()
        self._alone = alone
        self._purses: dict[OwnerId | Allowance, Purse] = {}
        self._named: dict[str, list[Purse]] = {}
        self._limits: dict[OwnerId, _Limits] = {}
        self._limit_changes = 0
        self._reading: dict[OwnerId, asyncio.Task[Mapping[str, Limit]]] = {}
        self._givers: set[asyncio.Task[None]] = set()
        self.is_forgotten = False
        """The operator gave this worker's leases back to their owners: nothing of them may be spent until `start_over`."""
        self.heard_at = clock.monotonic()
        """When the database last answered, in monotonic seconds."""
        database.changes.subscribe("limit", self._on_limit)
        database.changes.subscribe(ledger.RECALL, self._on_recall)
        if not alone:
            database.changes.subscribe(RETURNED, self._on_returned)

    def heard(self) -> None:
        """The database answered just now, and this worker is not forgotten."""
        self.heard_at = self._clock.monotonic()

    def answered(self) -> None:
        """The database answered just now. Who was blind may have been forgotten meanwhile: such a one serves again after `heard` only."""
        if not self._is_blind:
            self.heard()

    def forgotten(self) -> None:
        """From now on nothing is taken."""
        self.is_forgotten = True

    @property
    def is_quiet(self) -> bool:
        """Whether no request has anything of a purse, or waits for some, and nothing is on its way from or to the database."""
        return not any(
            purse.held or purse.wanted or purse.refilling is not None or purse.is_returning
            for purse in self._purses.values()
        )

    def start_over(self) -> None:
        """With empty purses, after the worker registered again. Only while `is_quiet`."""
        for purse in self._purses.values():
            purse.free = purse.left = purse.parked = 0
            purse.unsure = purse.returning = None
        self.is_forgotten = False
        self.heard()

    @property
    def _is_blind(self) -> bool:
        return self._clock.monotonic() - self.heard_at > self._sizes.blind_seconds

    def require_sight(self) -> None:
        """Raises `Unavailable` when the database has been silent for the blind time, or the worker was forgotten."""
        if self.is_forgotten:
            raise Unavailable("This worker was given up for lost; it begins anew in a moment.", retry_after_seconds=5)
        if self._is_blind:
            raise Unavailable("The database cannot be reached.", retry_after_seconds=5)

    async def take(self, owner: OwnerId, amount: int, subjects: Iterable[str], at: datetime) -> Sequence[Purse]:
        """Takes `amount` from the owner's credits and from every limit of `subjects`, in the window of `at`: from all of them, which it
        returns, or from none. Raises `Lacking`, `Unavailable`."""
        self.require_sight()
        for _ in range(ROUNDS_MAX):
            limits = self._known_limits(owner)
            purses = self._bound_by(owner, await self._read_limits(owner) if limits is None else limits, subjects, at)
            try:
                await self._take_all(purses, amount)
            except LimitChanged:
                self._limits.pop(owner, None)
            else:
                return purses
        raise Unavailable("The limits change too often just now.", retry_after_seconds=1)

    async def take_more(self, purses: Sequence[Purse], amount: int) -> bool:
        """Whether all of them had `amount`, which is then taken. Raises `Unavailable`."""
        self.require_sight()
        for _ in range(ROUNDS_MAX):
            try:
                await self._take_all(purses, amount)
            except LimitChanged:
                continue  # the purse is known by now to bind nobody
            except Lacking:
                return False
            return True
        return False

    async def take_at_most(self, purses: Sequence[Purse], amount: int) -> int:
        """As much of `amount` as there is in all of them, for what is owed already."""
        try:
            if await self.take_more(purses, amount):
                return amount
        except Unavailable:
            _log.warning("%s owes more than is leased, and the database cannot be reached", purses[0].owner)
        taken = max(0, min([amount, *(purse.free for purse in purses if not purse.is_unbound)]))
        self._move(purses, taken)
        return taken

    def resolve(self, purses: Sequence[Purse], held: int, charged: int) -> None:
        """A hold is over: what was not charged is free again."""
        for purse in purses:
            purse.held -= held
            purse.free += held - charged
            purse.spent += charged
            if purse.is_outdated:
                purse.is_outdated = purse.held > 0
                self._spawn_return(purse)

    @property
    def owners(self) -> int:
        return len({purse.owner for purse in self._purses.values()})

    async def return_idle(self) -> None:
        """Gives back what nobody used for a while, and forgets purses without anything."""
        now = self._clock.monotonic()
        for key, purse in list(self._purses.items()):
            if now - purse.used_at > self._sizes.idle_seconds and purse.refilling is None:
                purse.park()
                await self._give_back(purse)
                if not (purse.free > 0 or purse.held or purse.unsure or purse.returning or purse.wanted):
                    self._forget(key, purse)
        for owner, limits in list(self._limits.items()):
            if now - limits.at > LIMITS_FRESH_SECONDS and owner not in self._purses:
                del self._limits[owner]

    # Which purses bind a request.

    def _known_limits(self, owner: OwnerId) -> Mapping[str, Limit] | None:
        known = self._limits.get(owner)
        if known is None or self._clock.monotonic() - known.at > LIMITS_FRESH_SECONDS:
            return None
        return known.by_subject

    async def _read_limits(self, owner: OwnerId) -> Mapping[str, Limit]:
        """From the database, once for all who wait; while it is away, what was known last serves on for the blind time."""
        if owner not in self._reading:
            task = self._reading[owner] = asyncio.create_task(self._look_up_limits(owner))
            task.add_done_callback(lambda _task: self._reading.pop(owner, None))
        try:
            return await asyncio.shield(self._reading[owner])
        except Unavailable:
            known = self._limits.get(owner)
            if known is None:
                raise
            return known.by_subject

    async def _look_up_limits(self, owner: OwnerId) -> Mapping[str, Limit]:
        while True:
            changes = self._limit_changes
            async with self._database.snapshot(Scope(owner)) as snapshot:
                found = {limit.subject: limit for limit in await ledger.list_limits(snapshot, owner)} or _NONE
            if changes == self._limit_changes:  # else the answer may be older than a change that was already announced
                self._limits[owner] = _Limits(found, self._clock.monotonic())
                return found

    def _bound_by(
        self, owner: OwnerId, limits: Mapping[str, Limit], subjects: Iterable[str], at: datetime
    ) -> Sequence[Purse]:
        credits_ = self._purse(owner, Credits, None)
        if not limits:
            return (credits_,)
        binding = [limits[subject] for subject in dict.fromkeys(subjects) if subject in limits]
        allowances = [(limit.allowance_at(at), limit) for limit in binding]
        return (credits_, *(self._purse(allowance, Allowed, limit) for allowance, limit in allowances))

    def _purse(self, key: OwnerId | Allowance, source: type[Credits] | type[Allowed], limit: Limit | None) -> Purse:
        now = self._clock.monotonic()
        purse = self._purses.get(key)
        if purse is None or purse.is_unbound:
            made: Source = source(key)  # type: ignore[arg-type]
            purse = self._purses[key] = Purse(made, used_at=now, spent_since=now)
            self._named.setdefault(made.name, []).append(purse)
        purse.limit = limit
        purse.used_at = now
        return purse

    def _forget(self, key: OwnerId | Allowance, purse: Purse) -> None:
        self._purses.pop(key, None)
        others = [each for each in self._named.get(purse.source.name, ()) if each is not purse]
        if others:
            self._named[purse.source.name] = others
        else:
            self._named.pop(purse.source.name, None)

    # Taking.

    async def _take_all(self, purses: Sequence[Purse], amount: int) -> None:
        if any(purse.lacks(purse.wanted + amount) for purse in purses):
            await self._wait_and_take(purses, amount)
        else:
            self._move(purses, amount)

    async def _wait_and_take(self, purses: Sequence[Purse], amount: int) -> None:
        """A request counts as waiting in a purse from when it comes to it until it took from all of them, or gave up: what is fetched is
        fetched for all who wait, nobody who comes later takes it from under them, and no other worker is given it meanwhile.

        It comes to the purses in the same order everywhere, credits first: a worker that cannot get the one keeps nothing of the next
        from workers that could use it.
        """
        reached: list[Purse] = []
        try:
            for _ in range(ROUNDS_MAX):
                for purse in purses:
                    if purse not in reached:
                        reached.append(purse)
                        purse.wanted += amount
                    await self._refill(purse, amount)
                    if purse.lacks(amount) and purse.available < amount:
                        raise Lacking(purse)
                if not any(purse.lacks(amount) for purse in purses):
                    self._move(purses, amount)
                    return
        finally:
            for purse in reached:
                purse.wanted -= amount
                if purse.is_recalled and not purse.wanted:
                    purse.is_recalled = False
                    self._spawn_return(purse)
        raise Unavailable("Too many requests wait for the same credits just now.", retry_after_seconds=1)

    def _move(self, purses: Sequence[Purse], amount: int) -> None:
        now = self._clock.monotonic()
        for purse in purses:
            purse.used_at = now
            purse.free -= amount
            purse.held += amount

    async def _refill(self, purse: Purse, amount: int) -> None:
        """Raises `Unavailable` where the database is away and what is here does not do for `amount`."""
        # A refill under way may have been asked for before this request came: then one more is waited for.
        for _ in range(2):
            if not purse.lacks(purse.wanted):
                return
            if purse.refilling is None:
                purse.refilling = asyncio.create_task(self._fetch(purse))
                purse.refilling.add_done_callback(lambda _task: setattr(purse, "refilling", None))
            try:
                await asyncio.shield(purse.refilling)
            except Unavailable:
                if purse.lacks(amount):
                    raise
                return

    async def _fetch(self, purse: Purse) -> None:
        await self._lease_more(purse)
        if (
            purse.free < purse.wanted and purse.left > 0
        ):  # more came to wait meanwhile, or nobody knew how much there was
            await self._lease_more(purse)
        if purse.free >= purse.wanted or self._alone or not purse.is_elsewhere:
            return
        purse.returned.clear()
        async with self._database.begin(Scope(purse.owner)) as tx:
            await tx.announce(ledger.RECALL, f"{purse.source.name} {self._worker}")
        until = self._clock.monotonic() + self._sizes.recall_seconds
        while purse.free < purse.wanted:
            try:
                await asyncio.wait_for(purse.returned.wait(), until - self._clock.monotonic())
            except TimeoutError:
                return
            purse.returned.clear()
            await self._lease_more(purse)

    async def _lease_more(self, purse: Purse) -> None:
        if purse.unsure is None:
            want = max(purse.wanted - purse.free, self._target(purse))
            purse.unsure = new_transfer_id(self._clock.now()), Nanos(want)
        move_id, want = purse.unsure
        changes = purse.changes
        try:
            async with self._database.begin(Scope(purse.owner)) as tx:
                filled = await purse.source.lease(tx, self._worker, want, move_id)
        except ledger.WorkerStopped:
            self.forgotten()
            self.require_sight()
            raise
        except LimitChanged:
            purse.unsure = None
            purse.is_unbound = True
            raise
        purse.unsure = None
        purse.free += filled.granted
        purse.left, purse.is_elsewhere, purse.use = filled.left, filled.elsewhere, filled.use
        if changes != purse.changes:  # granted by a limit that is none any more
            self._spawn_return(purse)
        self.heard()

    def _target(self, purse: Purse) -> int:
        now = self._clock.monotonic()
        seconds = max(1, int(now - purse.spent_since))
        lately = purse.spent * self._sizes.seconds // seconds
        purse.spent, purse.spent_since = 0, now
        return max(self._sizes.least, lately, purse.left // self._sizes.share)

    # Giving back.

    async def _give_back(self, purse: Purse) -> None:
        """What is parked, one return after the other."""
        if purse.is_returning:
            return
        purse.is_returning = True
        try:
            while purse.parked or purse.returning:
                await self._give_back_once(purse)
        except Unavailable:
            _log.warning("a lease of %s could not be returned yet", purse.owner)
        finally:
            purse.is_returning = False

    async def _give_back_once(self, purse: Purse) -> None:
        if purse.returning is None:
            purse.returning = new_transfer_id(self._clock.now()), Nanos(purse.parked)
            purse.parked = 0
        move_id, amount = purse.returning
        async with self._database.begin(Scope(purse.owner)) as tx:
            await purse.source.give_back(tx, self._worker, amount, move_id)
            if not self._alone:
                await tx.announce(RETURNED, purse.source.name)
        purse.returning = None
        self.answered()

    def _spawn_return(self, purse: Purse, keep: int = 0) -> None:
        purse.park(keep)
        if purse.parked and not purse.is_returning:
            task = asyncio.create_task(self._give_back(purse))
            self._givers.add(task)
            task.add_done_callback(self._givers.discard)

    # What others say.

    def _on_limit(self, change: Change) -> None:
        owner, _, subject = change.subject.partition(" ")
        self._limit_changes += 1
        self._limits.pop(OwnerId(owner), None)
        for purse in self._named.get(subject, ()):
            if purse.owner == owner and purse.limit is not None:
                purse.changes += 1
                purse.is_outdated = purse.held > 0
                self._spawn_return(purse)

    def _on_recall(self, change: Change) -> None:
        name, _, by = change.subject.partition(" ")
        for purse in self._named.get(name, ()) if by != self._worker else ():
            purse.is_recalled = purse.wanted > 0
            self._spawn_return(purse, keep=purse.wanted)

    def _on_returned(self, change: Change) -> None:
        for purse in self._named.get(change.subject, ()):
            purse.returned.set()
