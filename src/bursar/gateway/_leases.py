"""What this worker may spend without asking: leases in memory, refilled from the owners' credits and given back.

What is free here was moved out of the owner's credits in the database *before*: spending it cannot overspend, whatever other workers
do. A request that finds too little waits for one refill, shared by all that wait for this owner; where the credits do not cover it,
other workers are asked to return what they do not use, once.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from bursar import ledger
from bursar.kernel.clock import Clock
from bursar.kernel.errors import Unavailable
from bursar.kernel.ids import OwnerId, WorkerId, new_transfer_id
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.storage import Change, Database, Scope

RECALL = "recall"
"""The change by which a worker asks the others for what they do not use; its subject is the owner."""
RETURNED = "returned"
"""The change that says something came back."""

_log = logging.getLogger("bursar.leases")


@dataclass(frozen=True, slots=True)
class LeaseSizes:
    """How much is leased at once, and for how long it is kept."""

    seconds: int = 5
    """So many seconds of what the owner spent lately."""
    share: int = 16
    """At least this part (1/share) of the owner's credits: enough to serve through an outage, little enough to leave others some."""
    least: int = NANOS_PER_CREDIT // 100
    """In nanos."""
    idle_seconds: int = 30
    """A lease nobody used for so long goes back."""
    recall_seconds: float = 0.25  # seconds, not money
    """How long a request waits for other workers before it is refused."""
    blind_seconds: int = 30
    """Without a word from the database for so long, nothing is admitted: a key disabled elsewhere must not be served for ever."""


@dataclass(slots=True)
class OwnerLease:
    owner: OwnerId
    free: int = 0
    """Leased and not held by a request, in nanos."""
    held: int = 0
    left: int = 0
    """What the owner had left beside all leases, when it was last seen."""
    wanted: int = 0
    """What requests wait for."""
    used_at: float = 0.0  # monotonic seconds
    spent: int = 0
    """Since `spent_since`, for the rate of spending."""
    spent_since: float = 0.0  # monotonic seconds
    refilling: "asyncio.Task[None] | None" = None
    unsure: tuple[str, Nanos] | None = None
    """A lease that was asked for and whose answer was lost: its transfer's id, and how much."""
    returning: tuple[str, Nanos] | None = None
    """A return whose answer was lost: repeated under the same id it does nothing twice."""
    returned: asyncio.Event = field(default_factory=asyncio.Event)


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
        self._owners: dict[OwnerId, OwnerLease] = {}
        self._recalled: set[asyncio.Task[None]] = set()
        self._is_forgotten = False
        self.heard_at = clock.monotonic()
        """When the database last answered, in monotonic seconds."""
        if not alone:
            database.changes.subscribe(RECALL, self._on_recall)
            database.changes.subscribe(RETURNED, self._on_returned)

    def heard(self) -> None:
        """The database answered just now."""
        self.heard_at = self._clock.monotonic()

    def forgotten(self) -> None:
        """The operator gave this worker's leases back to their owners: nothing of them may be spent."""
        self._is_forgotten = True

    def require_sight(self) -> None:
        """Raises `Unavailable` when the database has been silent for the blind time."""
        if self._is_forgotten or self._clock.monotonic() - self.heard_at > self._sizes.blind_seconds:
            raise Unavailable("The database cannot be reached.", retry_after_seconds=5)

    async def take(self, owner: OwnerId, amount: int) -> int | None:
        """Takes `amount` and returns None, or takes nothing and returns what could have been taken. Raises `Unavailable`."""
        self.require_sight()
        lease = self._of(owner)
        if lease.free < amount:
            await self._refill(lease, amount)
        lease.used_at = self._clock.monotonic()
        if lease.free < amount:
            return lease.free + lease.left
        lease.free -= amount
        lease.held += amount
        return None

    async def take_at_most(self, owner: OwnerId, amount: int) -> int:
        """As much of `amount` as there is, for what is owed already."""
        lease = self._of(owner)
        if lease.free < amount:
            try:
                await self._refill(lease, amount)
            except Unavailable:
                _log.warning("%s owes more than is leased, and the database cannot be reached", owner)
        taken = min(amount, lease.free)
        lease.free -= taken
        lease.held += taken
        return taken

    def resolve(self, owner: OwnerId, held: int, charged: int) -> None:
        """A hold is over: what was not charged is free again."""
        lease = self._of(owner)
        lease.held -= held
        lease.free += held - charged
        lease.spent += charged

    @property
    def owners(self) -> int:
        return len(self._owners)

    async def return_idle(self) -> None:
        """Gives back what nobody used for a while, and forgets owners without anything."""
        now = self._clock.monotonic()
        for lease in list(self._owners.values()):
            if now - lease.used_at > self._sizes.idle_seconds and lease.refilling is None:
                await self._return_free(lease)
                if not (lease.free or lease.held or lease.unsure or lease.returning or lease.wanted):
                    self._owners.pop(lease.owner, None)

    def _of(self, owner: OwnerId) -> OwnerLease:
        lease = self._owners.get(owner)
        if lease is None:
            now = self._clock.monotonic()
            lease = self._owners[owner] = OwnerLease(owner, used_at=now, spent_since=now)
        return lease

    async def _refill(self, lease: OwnerLease, amount: int) -> None:
        lease.wanted += amount
        try:
            # A refill under way may have been asked for before this request came: then one more is waited for.
            for _ in range(2):
                if lease.refilling is None:
                    lease.refilling = asyncio.create_task(self._fetch(lease))
                    lease.refilling.add_done_callback(lambda _task: setattr(lease, "refilling", None))
                await asyncio.shield(lease.refilling)
                if lease.free >= amount:
                    return
        finally:
            lease.wanted -= amount

    async def _fetch(self, lease: OwnerLease) -> None:
        await self._lease_more(lease)
        if lease.free < lease.wanted and not self._alone:
            lease.returned.clear()
            async with self._database.begin(Scope(lease.owner)) as tx:
                await tx.announce(RECALL, f"{lease.owner} {self._worker}")
            try:
                await asyncio.wait_for(lease.returned.wait(), self._sizes.recall_seconds)
            except TimeoutError:
                return
            await self._lease_more(lease)

    async def _lease_more(self, lease: OwnerLease) -> None:
        if lease.unsure is None:
            want = max(lease.wanted - lease.free, self._target(lease))
            lease.unsure = new_transfer_id(self._clock.now()), Nanos(want)
        transfer, want = lease.unsure
        try:
            async with self._database.begin(Scope(lease.owner)) as tx:
                granted = await ledger.lease(tx, lease.owner, self._worker, want, transfer_id=transfer)
                left = (await ledger.balance(tx, lease.owner)).unleased
        except ledger.WorkerStopped:
            self.forgotten()
            self.require_sight()
            raise
        lease.unsure = None
        lease.free += granted
        lease.left = left
        self.heard()

    def _target(self, lease: OwnerLease) -> int:
        now = self._clock.monotonic()
        seconds = max(1, int(now - lease.spent_since))
        lately = lease.spent * self._sizes.seconds // seconds
        lease.spent, lease.spent_since = 0, now
        return max(self._sizes.least, lately, lease.left // self._sizes.share)

    async def _return_free(self, lease: OwnerLease) -> None:
        if lease.returning is None and lease.free > 0:
            lease.returning = new_transfer_id(self._clock.now()), Nanos(lease.free)
            lease.free = 0  # nobody may spend it meanwhile
        if lease.returning is None:
            return
        name, amount = lease.returning
        try:
            async with self._database.begin(Scope(lease.owner)) as tx:
                await ledger.return_lease(tx, lease.owner, self._worker, amount, transfer_id=name)
                if not self._alone:
                    await tx.announce(RETURNED, lease.owner)
        except Unavailable:
            _log.warning("a lease of %s could not be returned yet", lease.owner)
            return
        lease.returning = None
        self.heard()

    def _on_recall(self, change: Change) -> None:
        owner, _, by = change.subject.partition(" ")
        lease = self._owners.get(OwnerId(owner))
        if by != self._worker and lease is not None and lease.free > 0 and not lease.wanted:
            task = asyncio.create_task(self._return_free(lease))
            self._recalled.add(task)
            task.add_done_callback(self._recalled.discard)

    def _on_returned(self, change: Change) -> None:
        lease = self._owners.get(OwnerId(change.subject))
        if lease is not None:
            lease.returned.set()
