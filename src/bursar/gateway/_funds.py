"""Stop 4 and 7: where a request's money comes from. One protocol: hold, extend, settle, void.

`DatabaseFunds` makes each of them one short database transaction; `JournalFunds` (`_journaled.py`) puts leases and a journal in front.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import msgspec

from bursar import activity, ledger
from bursar.activity import Generation
from bursar.catalog import Usage
from bursar.gateway._apply import apply_settlement, apply_void
from bursar.gateway._budgets import Available, InsufficientCredits, refused_by, scope_of
from bursar.gateway._purses import Purse
from bursar.kernel.errors import BursarError, Unavailable
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, UserId, WorkerId
from bursar.kernel.money import Nanos
from bursar.ledger import HoldState, InsufficientFunds, LimitChanged, LimitReached, OpenHold, subjects_of
from bursar.storage import SYSTEM, Database, Scope, Snapshot

SETTLE_RETRY_SECONDS_FIRST = 0.1  # seconds, not money
SETTLE_RETRY_SECONDS_LONGEST = 5.0  # seconds, not money
TEND_SECONDS = 5
"""How often a worker tells the database that it lives, and gives back leases that nobody uses."""

Result = TypeVar("Result")

_log = logging.getLogger("bursar.funds")


class Intent(msgspec.Struct, frozen=True):
    """What is about to be dispatched: the trace that survives whatever happens next."""

    owner: OwnerId
    generation: GenerationId
    ceiling: Nanos
    price_version: str
    key: KeyId | None
    user: UserId
    model: str


@dataclass(slots=True)
class Hold:
    """A reserve for one request. `amount` grows by extensions; `purses` is what it was taken from, in a journal's worker."""

    owner: OwnerId
    generation: GenerationId
    amount: Nanos
    opened_at: datetime
    extensions: int = 0
    purses: Sequence[Purse] = ()
    available: Available | None = None


class Progress(msgspec.Struct, frozen=True):
    """What a stream has brought so far, counted, and its price: what it costs should this process die before the settlement."""

    usage: Usage
    price_version: str
    cost: Nanos


class Funds(Protocol):
    async def hold(self, intent: Intent) -> Hold:
        """Durable when it returns. Raises `InsufficientCredits`, `LimitExceeded`."""
        ...

    async def extend(self, hold: Hold, extra: Nanos) -> bool:
        """Whether the credits, and every limit that binds, covered `extra` more."""
        ...

    def progress(self, hold: Hold, so_far: Progress) -> None:
        """Notes it, without waiting."""
        ...

    async def settle(self, hold: Hold, generation: Generation) -> Nanos:
        """Charges the generation's cost and records it; durable when it returns. Returns what was charged.

        A cost above the hold is covered from what is available, as far as that goes; the rest is the house's.
        """
        ...

    async def void(self, hold: Hold, generation: Generation) -> None:
        """Nothing came of it: gives everything back and records that, at a cost of 0."""
        ...

    async def caught_up(self) -> None:
        """Returns when what was settled until now can be read in the database, or after a moment."""
        ...

    def available(self, hold: Hold) -> Available:
        """What is left for others like it."""
        ...


async def tend_forever(tend: Callable[[], Awaitable[None]]) -> None:
    """Calls it every few seconds, whatever it raises: a loop that ends would make a living worker look dead, and end all serving at the
    blind time."""
    while True:
        await asyncio.sleep(TEND_SECONDS)
        try:
            await tend()
        except BursarError as error:
            _log.warning("the database was not told that this worker lives: %s", error.sentence)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("the database was not told that this worker lives")


class DatabaseFunds:
    """Of one worker: `worker` is its name, `seat` which of its node's workers it is."""

    def __init__(
        self, database: Database, worker: WorkerId | None = None, *, seat: int = 0, host: str | None = None
    ) -> None:
        self._database = database
        self.worker = worker or WorkerId(f"{database.node}-{seat}")
        self._host = host
        self._tending: asyncio.Task[None] | None = None

    async def recover(self) -> int:
        """Gives back what this worker held when it last died; returns how many requests that were. Run before serving."""
        async with self._database.begin(SYSTEM) as tx:
            await ledger.register_worker(tx, self.worker, self._database.node, self._host)
        return await _recover(self._database, lambda worker: worker == self.worker)

    def start(self) -> None:
        self._tending = asyncio.create_task(tend_forever(self._tend))

    async def close(self) -> None:
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        try:
            async with self._database.begin(SYSTEM) as tx:
                await ledger.forget_worker(tx, self.worker, alive_within=timedelta(0), even_if_alive=True)
        except BursarError as error:
            _log.warning("the database was not told that this worker stops: %s", error.sentence)

    async def _tend(self) -> None:
        async with self._database.begin(SYSTEM) as tx:
            await ledger.touch_worker(tx, self.worker)

    async def hold(self, intent: Intent) -> Hold:
        opened = self._opened(intent)
        try:
            async with self._database.begin(Scope(intent.owner)) as tx:
                await ledger.open_hold(tx, opened)
                available = await self._look(tx, intent)
        except LimitReached as error:
            raise refused_by(error.use, error.use.unleased, is_in_use=error.use.leased > 0) from None
        except InsufficientFunds:
            async with self._database.snapshot(Scope(intent.owner)) as snapshot:
                unleased = (await ledger.balance(snapshot, intent.owner)).unleased  # a hold takes nothing from a lease
            raise InsufficientCredits("Insufficient credits.", available=unleased) from None
        return Hold(intent.owner, intent.generation, intent.ceiling, opened.opened_at, available=available)

    async def _look(self, tx: Snapshot, intent: Intent) -> Available:
        """The least of the credits and the limits."""
        found = [Available((await ledger.balance(tx, intent.owner)).unleased, scope_of(None))]
        subjects = subjects_of(intent.owner, intent.key, intent.user)
        uses = await ledger.limit_uses(tx, intent.owner, subjects, self._database.clock.now())
        found += [Available(use.unleased, scope_of(use.limit)) for use in uses.values()]
        return min(found, key=lambda each: each.amount)

    def available(self, hold: Hold) -> Available:
        """As it was when the request began."""
        assert hold.available is not None
        return hold.available

    def _opened(self, intent: Intent) -> OpenHold:
        return OpenHold(
            owner=intent.owner,
            generation=intent.generation,
            amount=intent.ceiling,
            node=self.worker,
            price_version=intent.price_version,
            key=intent.key,
            user=intent.user,
            model=intent.model,
            opened_at=self._database.clock.now(),
        )

    async def extend(self, hold: Hold, extra: Nanos) -> bool:
        if not extra:  # a model without a price per token
            return True
        try:
            async with self._database.begin(Scope(hold.owner)) as tx:
                await ledger.extend_hold(tx, hold.owner, hold.generation, extra, hold.extensions + 1)
        except (InsufficientFunds, LimitReached, LimitChanged):
            return False
        hold.extensions += 1
        hold.amount = Nanos(hold.amount + extra)
        return True

    def progress(self, hold: Hold, so_far: Progress) -> None:
        """Not kept: what is interrupted costs nothing here."""

    async def caught_up(self) -> None:
        """A settlement is in the database when `settle` returns."""

    async def settle(self, hold: Hold, generation: Generation) -> Nanos:
        if generation.cost_nanos > hold.amount:
            _log.warning(
                "%s cost more than was held for it: is %s priced right?", generation.id, generation.endpoint_id
            )

        # What is beyond the hold may be the house's to bear, whose accounts no owner's scope reaches.
        scope = SYSTEM if generation.cost_nanos > hold.amount else Scope(hold.owner)

        async def once(row: Generation) -> Nanos:
            async with self._database.begin(scope) as tx:
                charged = await apply_settlement(tx, row)
                if charged is not None:
                    return charged
                # Settled before, by an attempt whose answer was lost: what it charged stands in its row.
                found = await activity.find_generation(tx, hold.owner, hold.generation)
                return found.cost_nanos if found is not None else Nanos(0)

        return await self._until_done(once, generation)

    async def void(self, hold: Hold, generation: Generation) -> None:
        async def once(row: Generation) -> bool:
            async with self._database.begin(Scope(hold.owner)) as tx:
                return await apply_void(tx, row, HoldState.VOID)

        await self._until_done(once, generation)

    async def _until_done(self, once: Callable[[Generation], Awaitable[Result]], generation: Generation) -> Result:
        """A settlement is owed, for as long as the process lives: while the database is away it is tried again, and should it
        refuse the row itself, the row is written with its money and nothing else that could be at fault."""
        wait = SETTLE_RETRY_SECONDS_FIRST
        while True:
            try:
                return await once(generation)
            except Unavailable as error:
                _log.warning("the settlement of %s waits for the database: %s", generation.id, error.sentence)
            except Exception:  # noqa: BLE001 - whatever it is, what is owed is tried again
                _log.exception(
                    "the settlement of %s was refused; it is tried again with less in its row", generation.id
                )
                generation = bare(generation)
            await asyncio.sleep(wait)
            wait = min(wait * 2, SETTLE_RETRY_SECONDS_LONGEST)


def bare(generation: Generation) -> Generation:
    """Whose it is, what was used and what it cost: nothing that a client or a provider wrote."""
    return msgspec.structs.replace(
        generation,
        requested_model="unknown",
        model="unknown",
        **dict.fromkeys(_NOT_OURS),
        attempts="[]",
    )


_NOT_OURS = (
    "provider", "endpoint_id", "upstream_id", "finish_reason", "native_finish_reason",
    "http_referer", "app_title", "user_agent", "external_user", "session_id",
)  # fmt: skip
"""Texts of others in a row, and names out of a catalogue."""


async def recover_left_holds(database: Database, count: int) -> int:
    """Gives back what workers of this node held who have no seat any more; returns how many requests that were."""
    seated = {f"{database.node}-{index}" for index in range(count)}
    return await _recover(database, lambda worker: worker not in seated)


async def _recover(database: Database, is_dead: Callable[[str], bool]) -> int:
    async with database.snapshot(SYSTEM) as snapshot:
        left = [each for each in await ledger.list_open_holds(snapshot, node=database.node) if is_dead(each.node)]
    for hold in left:
        generation = activity.interrupted(
            hold.owner,
            hold.generation,
            hold.opened_at,
            key=hold.key,
            user=hold.user,
            model=hold.model,
            price_version=hold.price_version,
        )
        async with database.begin(SYSTEM) as tx:
            await apply_void(tx, generation, HoldState.INTERRUPTED)
    return len(left)
