"""`durability=journal`: holds in memory from leases, intents and settlements in the journal, batches to the database behind it.

1. `hold`: the ceiling is taken from the worker's lease, the intent is journaled and on disk before anything goes upstream.
2. `extend`: more of the lease. `progress`: noted in the journal without waiting.
3. `settle`: the row of the generation, with what is charged, is journaled and on disk; then the client gets its end.
4. `_apply_forever`: what was settled goes to the database in batches, each one transaction with the watermark in it; a batch whose
   outcome is unknown is tried again, and the watermark and the ids make that harmless.
5. `recover`, before serving: what the journal holds behind the watermark is applied; an intent without an end becomes an interrupted
   generation that costs what its progress says; then every lease goes back.

Settlements are owed for as long as the process lives. The journal keeps whatever a start would need: everything behind the
watermark, and from the oldest intent that is still open.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import islice

import msgspec

from bursar import ledger
from bursar.activity import Generation
from bursar.gateway._apply import apply_settlements
from bursar.gateway._budgets import Available, InsufficientCredits, refused_by, scope_of
from bursar.gateway._counts import Counts
from bursar.gateway._funds import (
    SETTLE_RETRY_SECONDS_FIRST,
    SETTLE_RETRY_SECONDS_LONGEST,
    Hold,
    Intent,
    Progress,
    bare,
    tend_forever,
)
from bursar.gateway._leases import Leases
from bursar.gateway._purses import Lacking, Purse
from bursar.gateway._records import (
    JournaledIntent,
    JournaledProgress,
    Kind,
    decode_generation,
    decode_intent,
    decode_progress,
    encode,
    interrupted_row,
)
from bursar.gateway._state import JournalState, ended_at
from bursar.journal import Journal, JournalClosed, JournalFailed, JournalFull, Record, RecordTooLarge
from bursar.kernel.clock import Clock, wait_at_most
from bursar.kernel.errors import BursarError, Unavailable
from bursar.kernel.ids import GenerationId, WorkerId, made_at
from bursar.kernel.money import Nanos
from bursar.ledger import Allowance
from bursar.storage import SYSTEM, Database

BATCH_RECORDS_MAX = 256
BATCH_RECORDS_IN_TURN_MAX = 1024
"""Where workers take turns batches are further apart, and one that is full would begin out of turn."""
BATCH_SECONDS = 0.25  # seconds, not money
"""All workers of a database together begin a batch about once in so long, unless one is full or somebody waits to read what is in it:
what is settled meanwhile goes with the next one, and costs little more than a single settlement would."""
BATCH_SECONDS_MAX = 1.0  # seconds, not money
"""Each worker begins one at least so often."""
ROOM_RETRY_SECONDS = 0.1  # seconds, not money
CAUGHT_UP_SECONDS = 1.0  # seconds, not money
"""Whoever reads what was just settled waits at most this long for it to be in the database."""

_log = logging.getLogger("bursar.funds")


class JournalFunds:
    """Of one worker; its journal and its leases are nobody else's."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        leases: Leases,
        worker: WorkerId,
        clock: Clock,
        counts: Counts | None = None,
        *,
        host: str | None = None,
    ) -> None:
        """`host` is this machine's name, for an operator who looks."""
        self._counts = counts or Counts()
        self._database = database
        self._journal = journal
        self._leases = leases
        self.worker = worker
        self._clock = clock
        self._host = host
        self._watermark = 0
        self._open: dict[GenerationId, int] = {}
        """Where the intents of running requests stand in the journal, oldest first."""
        self._owed: deque[tuple[int, Generation]] = deque()
        """Settled and not applied, in the order of the journal."""
        self._taken: dict[GenerationId, Sequence[Allowance]] = {}
        """Which limits' leases they were spent from. Not in the journal: a start gives all leases back."""
        self._unsure: int | None = None
        """The last record of a batch whose outcome is not known: it is repeated as it was, never longer, or it would not follow the
        watermark that it may have moved itself; and never shorter, or what follows would not."""
        self._place = ledger.Place(0, 1)
        """Among the workers of all nodes: when it begins its batches."""
        self._row = asyncio.Lock()
        """Whoever changes the worker's row has this first: a lock in the database would be waited for on a connection."""
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        """Set when the next batch should not wait for its time."""
        self._readers: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits for what was settled up to a record to be applied."""
        self._loops: list[asyncio.Task[None]] = []

    async def hold(self, intent: Intent) -> Hold:
        now = self._clock.now()
        subjects = ledger.subjects_of(intent.owner, intent.key, intent.user)
        try:
            purses = await self._leases.take(intent.owner, intent.ceiling, subjects, now)
        except Lacking as lacking:
            raise _refused(lacking.purse) from None
        hold = Hold(intent.owner, intent.generation, intent.ceiling, now, purses=purses)
        record = JournaledIntent(
            intent.owner, intent.generation, intent.ceiling, intent.price_version, intent.key, intent.user, intent.model, hold.opened_at
        )  # fmt: skip
        try:
            lsn = self._journal.append(Kind.INTENT, encode(record))
        except JournalFull:
            self._leases.resolve(purses, intent.ceiling, 0)
            raise Unavailable("Bursar has no room to record requests.", retry_after_seconds=5) from None
        except (JournalFailed, JournalClosed):
            raise _failed() from None
        self._open[intent.generation] = lsn
        await self._synced(lsn)
        return hold

    async def extend(self, hold: Hold, extra: Nanos) -> bool:
        if extra and not await self._leases.take_more(hold.purses, extra):
            return False
        hold.amount = Nanos(hold.amount + extra)
        return True

    def progress(self, hold: Hold, so_far: Progress) -> None:
        used = so_far.usage
        record = JournaledProgress(
            hold.generation, used.prompt_tokens, used.completion_tokens, so_far.cost, so_far.price_version,
            used.images, used.audio_output_tokens, used.image_output_tokens,
        )  # fmt: skip
        # What cannot be noted is the house's, should the process die before the settlement; the settlement says it all.
        with suppress(JournalFull, JournalFailed, JournalClosed):
            self._journal.append(Kind.PROGRESS, encode(record), reserve=True)

    async def settle(self, hold: Hold, generation: Generation) -> Nanos:
        if generation.cost_nanos > hold.amount:
            _log.warning(
                "%s cost more than was held for it: is %s priced right?", generation.id, generation.endpoint_id
            )
            more = await self._leases.take_at_most(hold.purses, generation.cost_nanos - hold.amount)
            hold.amount = Nanos(hold.amount + more)
        charged = Nanos(min(generation.cost_nanos, hold.amount))
        lsn = await self._end(Kind.SETTLE, hold, generation, charged)
        await self._synced(lsn)
        return charged

    async def void(self, hold: Hold, generation: Generation) -> None:
        # Nothing is charged, so that nobody has to wait: lost, it becomes an interrupted request that costs nothing.
        await self._end(Kind.VOID, hold, generation, Nanos(0))

    def available(self, hold: Hold) -> Available:
        least = min(hold.purses, key=lambda purse: purse.available)
        return Available(least.available, scope_of(least.limit))

    async def caught_up(self) -> None:
        """Returns when everything settled until now is in the database, or after `CAUGHT_UP_SECONDS`."""
        if self._owed:
            applied = asyncio.get_running_loop().create_future()
            self._readers.append((self._owed[-1][0], applied))
            self._hurry.set()
            await asyncio.wait({applied}, timeout=CAUGHT_UP_SECONDS)

    def state(self) -> JournalState:
        """What `look_at_journal` would say, from memory."""
        oldest, unapplied = next(iter(self._open), None), next(iter(self._owed), None)
        return JournalState(
            lag=len(self._owed),
            lag_since=None if unapplied is None else ended_at(unapplied[1]),
            open=len(self._open),
            held=None,
            oldest_open_at=None if oldest is None else made_at(oldest),
        )

    async def recover(self) -> int:
        """Brings the database up to what the journal says; returns how many requests had been interrupted. Run before serving."""
        async with self._database.begin(SYSTEM) as tx:
            found = await ledger.register_worker(tx, self.worker, self._database.node, self._host)
            self._place = await ledger.place_of(tx, self.worker)
        self._watermark = found.watermark
        intents, progress = self._read(found.watermark)
        for generation, intent in intents.items():
            row = interrupted_row(intent, progress.get(generation))
            lsn = self._journal.append(Kind.SETTLE, encode(row), reserve=True)
            self._owed.append((lsn, row))
        await self._synced(self._journal.last_lsn)
        while self._owed:
            await self._apply_once()
        async with self._database.begin(SYSTEM) as tx:
            await ledger.return_all(tx, self.worker)
        self._leases.heard()
        return len(intents)

    def start(self) -> None:
        self._loops = [asyncio.create_task(self._apply_forever()), asyncio.create_task(tend_forever(self.tend))]

    async def tend(self) -> None:
        """By the clock, every few seconds: says that the worker lives, and gives back what nobody uses."""
        async with self._row, self._database.begin(SYSTEM) as tx:
            alive = await ledger.touch_worker(tx, self.worker, self._journal.last_lsn)
            self._place = await ledger.place_of(tx, self.worker)
        if alive:
            self._leases.heard()
            await self._leases.return_idle()
        else:
            await self._begin_anew()

    @property
    def is_forgotten(self) -> bool:
        """Whether it admits nothing because the operator gave it up, wrongly."""
        return self._leases.is_forgotten

    async def _begin_anew(self) -> None:
        """A worker that lives though it was forgotten registers again, as a start would, once nothing runs that was held from the leases
        which went back, and everything of it is applied."""
        if not self._leases.is_forgotten:
            _log.critical(
                "this worker was forgotten (bursar nodes forget), but lives: it begins anew when nothing runs"
            )
            self._leases.forgotten()
        if not (self._owed or self._open) and self._leases.is_quiet:
            async with self._database.begin(SYSTEM) as tx:
                await ledger.register_worker(tx, self.worker, self._database.node, self._host)
                await ledger.return_all(tx, self.worker)
            self._leases.start_over()
            _log.warning("this worker, which had been forgotten, serves again")

    async def close(self) -> None:
        """After the last request: applies what is owed, for as long as the database takes it, and gives every lease back. Whatever cannot
        be done now is done at the next start."""
        left = len(self._owed) + 1
        while self._loops and 0 < len(self._owed) < left:
            left = len(self._owed)
            await self.caught_up()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        try:
            if not self._owed:
                async with self._database.begin(SYSTEM) as tx:
                    await ledger.forget_worker(tx, self.worker, alive_within=timedelta(0), even_if_alive=True)
        except BursarError as error:
            _log.warning("leases stay reserved until the next start: %s", error.sentence)
        await self._journal.close()

    async def _end(self, kind: Kind, hold: Hold, generation: Generation, charged: Nanos) -> int:
        lost = Nanos(generation.cost_nanos - charged) if kind is Kind.SETTLE else Nanos(0)
        row = msgspec.structs.replace(generation, cost_nanos=charged, house_nanos=lost)
        payload = encode(row)
        while True:
            try:
                lsn = self._journal.append(kind, payload, reserve=True)
                break
            except JournalFull:  # even what is kept for settlements is full: what was applied makes room
                await asyncio.sleep(ROOM_RETRY_SECONDS)
            except RecordTooLarge:  # what is owed is never lost to what stands beside it
                payload = encode(bare(row))
            except (JournalFailed, JournalClosed):
                raise _failed() from None
        self._owed.append((lsn, row))
        self._open.pop(hold.generation, None)
        taken = [purse.allowance for purse in hold.purses if purse.allowance is not None and not purse.is_unbound]
        if taken and charged:
            self._taken[hold.generation] = taken
        self._leases.resolve(hold.purses, hold.amount, charged)
        self._news.set()
        if len(self._owed) >= self._records_max:
            self._hurry.set()
        return lsn

    async def _synced(self, lsn: int) -> None:
        try:
            await self._journal.synced(lsn)
        except (JournalFailed, JournalClosed):
            raise _failed() from None

    def _read(
        self, watermark: int
    ) -> tuple[dict[GenerationId, JournaledIntent], dict[GenerationId, JournaledProgress]]:
        """What had no end, and how far it was; what had one and was not applied goes to `_owed`."""
        intents: dict[GenerationId, JournaledIntent] = {}
        progress: dict[GenerationId, JournaledProgress] = {}
        for record in self._records(watermark):
            if record.kind == Kind.INTENT:
                intent = decode_intent(record.payload)
                intents[intent.generation] = intent
            elif record.kind == Kind.PROGRESS:
                so_far = decode_progress(record.payload)
                progress[so_far.generation] = so_far
            elif record.kind in (Kind.SETTLE, Kind.VOID):
                row = decode_generation(record.payload)
                intents.pop(row.id, None)
                if record.lsn > watermark:
                    self._owed.append((record.lsn, row))
        return intents, progress

    def _records(self, watermark: int) -> Iterator[Record]:
        """All that is kept, and not only what is behind the watermark: an open intent may stand before it. Raises `RecordsMissing`."""
        self._journal.replay(watermark)
        return self._journal.replay(self._journal.first_lsn - 1)

    async def _apply_forever(self) -> None:
        wait = SETTLE_RETRY_SECONDS_FIRST
        while True:
            await self._news.wait()
            begun = self._clock.monotonic()
            try:
                await self._journal.synced(self._owed[-1][0])
                await self._apply_once()
                wait = SETTLE_RETRY_SECONDS_FIRST
            except (JournalFailed, JournalClosed):
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, what is owed is tried again
                self._wait_for_database(error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, SETTLE_RETRY_SECONDS_LONGEST)
                continue
            if not self._owed:
                self._news.clear()
            self._hurry.clear()
            if len(self._owed) < self._records_max and not self._readers:
                await wait_at_most(self._hurry, self._seconds_to_turn(self._clock.monotonic() - begun))

    def _seconds_to_turn(self, since_last: float) -> float:
        """Workers begin their batches in turn, each at its part of a period by the clock, so that two seldom want the same account at
        once. Where clocks differ they would sometimes wait for each other, and no more than that."""
        number, of = self._place
        period = min(BATCH_SECONDS * of, BATCH_SECONDS_MAX)
        wait = (period * number / of - self._clock.now().timestamp()) % period
        return wait if since_last + wait > period / 2 else wait + period

    @property
    def _records_max(self) -> int:
        return BATCH_RECORDS_MAX if self._place.of == 1 else BATCH_RECORDS_IN_TURN_MAX

    def _wait_for_database(self, error: Exception) -> None:
        if isinstance(error, Unavailable):
            _log.warning("%d settlements wait for the database: %s", len(self._owed), error.sentence)
            return
        refused = self._next_batch()
        _log.exception("%d settlements were refused; they are tried again with less in their rows", len(refused))
        for number, (lsn, row) in enumerate(refused):
            self._owed[number] = lsn, bare(row)

    def _next_batch(self) -> list[tuple[int, Generation]]:
        """Of what is on disk; one that is unsure is what it was."""
        if self._unsure is None:
            through, records_max = self._journal.synced_lsn, self._records_max
        else:
            through, records_max = self._unsure, len(self._owed)
        return [each for each in islice(self._owed, records_max) if each[0] <= through]

    async def _apply_once(self) -> None:
        batch = self._next_batch()
        if not batch:
            return
        last = self._unsure = batch[-1][0]
        async with self._row, self._database.begin(SYSTEM) as tx:
            rows = [row for _, row in batch]
            await apply_settlements(tx, self.worker, self._watermark + 1, last, rows, self._taken)
        for _, row in batch:
            self._owed.popleft()
            self._taken.pop(row.id, None)
        self._counts.batches[len(batch)] += 1
        self._watermark, self._unsure = last, None
        self._leases.answered()
        self._readers = [each for each in self._readers if not _is_told(each, last)]
        oldest = next(iter(self._open.values()), None)
        self._journal.truncate(last if oldest is None else min(last, oldest - 1))


def _is_told(reader: tuple[int, "asyncio.Future[None]"], applied: int) -> bool:
    lsn, future = reader
    if lsn <= applied and not future.done():
        future.set_result(None)
    return future.done()


def _refused(purse: Purse) -> BursarError:
    if purse.use is None:
        return InsufficientCredits("Insufficient credits.", available=Nanos(purse.available))
    in_use = purse.held > 0 or purse.is_elsewhere
    return refused_by(purse.use, Nanos(purse.available), is_in_use=in_use)


def _failed() -> Unavailable:
    return Unavailable("Bursar cannot record requests just now; it restarts.", retry_after_seconds=5)
