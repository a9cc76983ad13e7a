"""Accounts, leases and batches after any sequence of events, against a model of a few dictionaries."""

import asyncio
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bursar import ledger
from bursar.kernel.ids import GenerationId, OwnerId
from bursar.kernel.money import Nanos
from bursar.ledger import (
    CHAIN_START,
    Batch,
    CannotCorrect,
    CorrectionDecided,
    Findings,
    HoldState,
    InsufficientFunds,
    Verification,
    WatermarkGap,
    WorkerStopped,
    chain_after,
)
from bursar.storage import SYSTEM, Database, Tx
from tests.conftest import open_database
from tests.rooms.books import ACME, GLOBEX, ONE, TWO, batch_of, grant_of, hold_of
from tests.support.memory import memory_database
from tests.support.postgres import PostgresServer
from tests.support.scale import SEED, scaled

Result = TypeVar("Result")
FULL = 5_000
STEPS = 30
PARTS = 4
"""For several processes at once."""


class Model:
    """What must be true. Amounts by owner, or by owner and worker."""

    def __init__(self) -> None:
        self.credits, self.spent, self.leases = defaultdict(int), defaultdict(int), defaultdict(int)
        self.grants: dict[tuple[str, str], int] = {}  # what of each can still be corrected
        self.holds: dict[tuple[str, str], int] = {}  # -1: resolved
        self.extended: dict[tuple[str, str, int], int] = {}
        self.charged: set[tuple[str, str]] = set()
        self.lost: dict[tuple[str, str], int] = {}
        self.watermark = {ONE: 0, TWO: 0}
        self.chain = {ONE: CHAIN_START, TWO: CHAIN_START}
        self.moves: dict[tuple[str, str], int] = {}
        self.stopped: set[str] = set()

    def lease(self, owner: str, worker: str, want: int, name: str) -> int | None:
        return None if worker in self.stopped else self._move(owner, worker, min(want, self.credits[owner]), name)

    def give_back(self, owner: str, worker: str, amount: int, name: str) -> int:
        return -self._move(owner, worker, -min(amount, self.leases[owner, worker]), name)

    def _move(self, owner: str, worker: str, amount: int, name: str) -> int:
        if (owner, name) in self.moves:
            return self.moves[owner, name]
        self.credits[owner] -= amount
        self.leases[owner, worker] += amount
        if amount:
            self.moves[owner, name] = amount
        return amount

    def give_back_all(self, worker: str) -> None:
        for owner, whose in list(self.leases):
            if whose == worker:
                self.credits[owner] += self.leases.pop((owner, whose))

    def take(self, owner: str, amount: int, name: str, of: dict[tuple[str, str], int], sign: int) -> bool:
        """Out of the credits, if it fits: into a hold (1), or off a grant (-1)."""
        if amount > self.credits[owner]:
            return False
        self.credits[owner] -= amount
        of[owner, name] = of.get((owner, name), 0) + sign * amount
        return True

    def resolve(self, owner: str, name: str, charge: int) -> int | None:
        held = self.holds.get((owner, name), -1)
        if held < 0:
            return None
        paid = min(charge, held + self.credits[owner])
        self.credits[owner] += held - paid
        self.spent[owner] += paid
        self.holds[owner, name] = -1
        if charge > paid:
            self.lost[owner, name] = charge - paid
        return paid

    def apply(self, worker: str, batch: Batch) -> dict[str, int] | None:
        """What each generation was charged; None for a batch that does not follow."""
        if batch.last_lsn <= self.watermark[worker]:
            return {}
        if batch.first_lsn != self.watermark[worker] + 1:
            return None
        self.watermark[worker] = batch.last_lsn
        seen: dict[str, int] = {}
        contents = ""
        for each in batch.settlements:
            if each.generation not in seen and not (each.charge and (each.owner, each.generation) in self.charged):
                paid = seen[each.generation] = self._charge(each.owner, worker, each.generation, each.charge)
                lost = 0 if (each.owner, each.generation) in self.lost else each.charge - paid
                if lost:
                    self.lost[each.owner, each.generation] = lost
                contents += f"{each.owner} {each.generation} {paid} {lost}\n"
            seen.setdefault(each.generation, -1)
        self.chain[worker] = chain_after(self.chain[worker], worker, batch.first_lsn, batch.last_lsn, contents)
        return {name: paid for name, paid in seen.items() if paid >= 0}

    def _charge(self, owner: str, worker: str, generation: str, charge: int) -> int:
        paid = min(charge, self.leases[owner, worker] + self.credits[owner])
        cover = max(paid - self.leases[owner, worker], 0)
        self.credits[owner] -= cover
        self.leases[owner, worker] += cover - paid
        self.spent[owner] += paid
        if paid:
            self.charged.add((owner, generation))
        return paid


owners = st.sampled_from((ACME, GLOBEX))
workers = st.sampled_from((ONE, TWO))
amounts = st.integers(0, 120)
names = st.sampled_from([f"move-{number}" for number in range(12)])
generations = st.sampled_from([f"gen-{number}" for number in range(15)])
which = st.integers(0, 3)
settlements = st.lists(st.tuples(generations, st.integers(0, 60), owners), max_size=6)


class Ledger(RuleBasedStateMachine):
    """The real one beside the model."""

    open: Callable[[], Database]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.batches: dict[str, list[Batch]] = {ONE: [], TWO: []}

    @initialize()
    def begin(self) -> None:
        self.database = self.runner.run(self._opened())
        for owner in (ACME, GLOBEX):
            self.grant(owner, 300)
            self.hold(owner, 20)

    async def _opened(self) -> Database:
        database = type(self).open()
        async with database.begin(SYSTEM) as tx:
            for worker in (ONE, TWO):
                await ledger.register_worker(tx, worker, "node_a")
        return database

    def do(self, verb: Callable[[Tx], Awaitable[Result]]) -> Result:
        async def work() -> Result:
            async with self.database.begin(SYSTEM) as tx:
                return await verb(tx)

        return self.runner.run(work())

    @rule(owner=owners, amount=st.integers(1, 200))
    def grant(self, owner: OwnerId, amount: int) -> None:
        name = f"tr_{len(self.model.grants)}"
        self.do(lambda tx: ledger.post(tx, [grant_of(owner, name, amount)]))
        self.model.credits[owner] += amount
        self.model.grants[owner, name] = amount

    @rule(which=which, amount=st.integers(1, 200), confirmed=st.booleans())
    def correct(self, which: int, amount: int, confirmed: bool) -> None:
        """A grant, in two steps; what is not confirmed, or takes more than there is, is withdrawn."""
        owner, name = list(self.model.grants)[which % len(self.model.grants)]
        try:
            made = self.do(
                lambda tx: ledger.propose_correction(tx, owner, name, Nanos(amount), reason="a test's", by=None)
            )
        except CannotCorrect:
            assert amount > self.model.grants[owner, name]
            return

        async def confirm(tx: Tx) -> None:
            await ledger.confirm_correction(tx, OwnerId(owner), made.id, by=None)

        posted = confirmed and self._fits(confirm)
        assert posted == (confirmed and self.model.take(owner, amount, name, self.model.grants, -1))
        if not posted:
            self.do(lambda tx: ledger.withdraw_correction(tx, OwnerId(owner), made.id, by=None))
        with pytest.raises(CorrectionDecided):
            self.do(confirm)

    @rule(owner=owners, worker=workers, want=amounts, name=names)
    def lease(self, owner: OwnerId, worker: str, want: int, name: str) -> None:
        known = self.model.lease(owner, worker, want, f"lease-{worker}-{name}")
        try:
            found = self.do(
                lambda tx: ledger.lease(tx, owner, worker, Nanos(want), transfer_id=f"lease-{worker}-{name}")
            )
        except WorkerStopped:
            found = None
        assert found == known

    @rule(owner=owners, worker=workers, amount=amounts, name=names)
    def give_back(self, owner: OwnerId, worker: str, amount: int, name: str) -> None:
        name = f"return-{worker}-{name}"
        found = self.do(lambda tx: ledger.return_lease(tx, owner, worker, Nanos(amount), transfer_id=name))
        assert found == self.model.give_back(owner, worker, amount, name)

    @rule(worker=workers, what=st.sampled_from(("give back all", "forget", "register", "register")))
    def administer(self, worker: str, what: str) -> None:
        if what == "register":
            self.do(lambda tx: ledger.register_worker(tx, worker, "node_a"))
            self.model.stopped.discard(worker)
            return
        self.model.give_back_all(worker)
        if what == "forget":
            self.do(lambda tx: ledger.forget_worker(tx, worker, alive_within=timedelta(0)))
            self.model.stopped.add(worker)
        else:
            self.do(lambda tx: ledger.return_all(tx, worker))

    @rule(worker=workers, ahead=st.sampled_from((0, 0, 0, 0, 1)), more=st.integers(0, 3), made=settlements)
    def apply(self, worker: str, ahead: int, more: int, made: list[tuple[str, int, OwnerId]]) -> None:
        first = self.model.watermark[worker] + 1 + ahead
        self._apply(worker, batch_of(first, first + more, *made))

    @rule(worker=workers, choice=st.integers(0, 100), more=st.integers(0, 1))
    def replay(self, worker: str, choice: int, more: int) -> None:
        """An old batch; with `more` it is one that reaches beyond its end."""
        if self.batches[worker]:
            old = self.batches[worker][choice % len(self.batches[worker])]
            self._apply(worker, Batch(old.first_lsn, old.last_lsn + more, old.settlements))

    def _apply(self, worker: str, batch: Batch) -> None:
        before = self.model.watermark[worker]
        known = self.model.apply(worker, batch)
        try:
            found = self.do(lambda tx: ledger.apply_batch(tx, worker, batch))
        except WatermarkGap:
            assert known is None
        else:
            assert found.charged == known
            asked = {each.generation: each.charge for each in reversed(batch.settlements)}
            assert found.shortfall == {name: asked[name] - paid for name, paid in known.items() if asked[name] > paid}
        if self.model.watermark[worker] > before:
            self.batches[worker].append(batch)

    @rule(worker=workers, made=settlements)
    def crash(self, worker: str, made: list[tuple[str, int, OwnerId]]) -> None:
        """The process dies in the transaction of a batch."""
        first = self.model.watermark[worker] + 1

        async def die(tx: Tx) -> None:
            await ledger.apply_batch(tx, worker, batch_of(first, first, *made))
            raise KeyError("power")

        with pytest.raises(KeyError, match="power"):
            self.do(die)

    @rule(owner=owners, amount=amounts)
    def hold(self, owner: OwnerId, amount: int) -> None:
        name = f"held-{len(self.model.holds)}"
        fits = self.model.take(owner, amount, name, self.model.holds, 1)
        assert self._fits(lambda tx: ledger.open_hold(tx, hold_of(owner, name, amount))) == fits

    @precondition(lambda self: self.model.holds)
    @rule(which=which, extra=st.integers(1, 60), number=st.integers(1, 2))
    def extend(self, which: int, extra: int, number: int) -> None:
        """The same extension twice adds once; to a hold that is resolved nothing is added."""
        owner, name = self._held(which)
        known, fits = (owner, name, number) in self.model.extended, True
        if (
            self.model.holds[owner, name] >= 0
            and not known
            and (fits := self.model.take(owner, extra, name, self.model.holds, 1))
        ):
            self.model.extended[owner, name, number] = extra
        more = Nanos(self.model.extended.get((owner, name, number), extra))
        assert self._fits(lambda tx: ledger.extend_hold(tx, owner, GenerationId(name), more, number)) == fits

    def _held(self, which: int) -> tuple[OwnerId, str]:
        """A hold there is or was."""
        owner, name = list(self.model.holds)[which % len(self.model.holds)]
        return OwnerId(owner), name

    def _fits(self, verb: Callable[[Tx], Awaitable[None]]) -> bool:
        try:
            self.do(verb)
        except InsufficientFunds:
            return False
        return True

    @precondition(lambda self: self.model.holds)
    @rule(which=which, charge=amounts)
    def settle(self, which: int, charge: int) -> None:
        owner, name = self._held(which)
        found = self.do(lambda tx: ledger.settle_hold(tx, owner, GenerationId(name), Nanos(charge)))
        assert found == self.model.resolve(owner, name, charge)

    @precondition(lambda self: self.model.holds)
    @rule(which=which, state=st.sampled_from((HoldState.VOID, HoldState.INTERRUPTED)))
    def void(self, which: int, state: HoldState) -> None:
        owner, name = self._held(which)
        found = self.do(lambda tx: ledger.void_hold(tx, owner, GenerationId(name), state))
        assert found == (self.model.resolve(owner, name, 0) is not None)

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "database"):
            return
        kept, leases = self.runner.run(self._look())
        for owner in (ACME, GLOBEX):
            held = sum(amount for (whose, _), amount in self.model.holds.items() if whose == owner and amount > 0)
            leased = sum(amount for (whose, _), amount in self.model.leases.items() if whose == owner)
            expected = (self.model.credits[owner], leased, held, self.model.spent[owner])
            assert (kept[owner].unleased, kept[owner].leased, kept[owner].held, kept[owner].spent) == expected
            assert min(expected) >= 0
        assert leases == {name: amount for name, amount in self.model.leases.items() if amount}

    async def _look(self):
        async with self.database.snapshot(SYSTEM) as snapshot:
            leases = {(each.owner, each.worker): each.amount for each in await ledger.list_leases(snapshot)}
            return await ledger.balances(snapshot, [ACME, GLOBEX]), leases

    def teardown(self) -> None:
        """At the end everything is added up, by the ledger itself: entries against balances, leases and holds, chains."""
        try:
            if hasattr(self, "database"):
                self._add_up()
                self.runner.run(self.database.close())
        finally:
            self.runner.close()

    def _add_up(self) -> None:
        async def verify() -> tuple[Verification, Findings]:
            async with self.database.snapshot(SYSTEM) as snapshot:
                return await ledger.verify(snapshot), await ledger.verify_chains(snapshot)

        books, chains = self.runner.run(verify())
        assert (books.drift, chains.named) == (0, [])
        assert books.losses == sum(self.model.lost.values())
        assert {each.id: each.watermark for each in books.workers} == self.model.watermark
        assert {each.id: each.chain for each in books.workers} == self.model.chain


def walk(sequences: int, opened: Callable[[], Database], *, seed: int = SEED) -> None:
    machine = hypothesis.seed(seed)(type("Ledger", (Ledger,), {"open": staticmethod(opened)}))
    run_state_machine_as_test(
        machine, settings=settings(max_examples=sequences, stateful_step_count=STEPS, deadline=None)
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_after_any_sequence_of_leases_and_batches_the_books_are_right(part: int):
    walk(scaled(FULL // PARTS), memory_database, seed=SEED + part)


def test_after_any_sequence_of_leases_and_batches_the_books_are_right_on_sqlite(sqlite_template: Path):
    with tempfile.TemporaryDirectory() as folder:

        def opened() -> Database:
            for old in Path(folder).iterdir():
                old.unlink()
            shutil.copy(sqlite_template, Path(folder) / "bursar.db")
            return open_database(f"sqlite:///{folder}/bursar.db")

        walk(scaled(FULL // 10, one_in=100), opened)


def test_after_any_sequence_of_leases_and_batches_the_books_are_right_on_postgresql(postgres: PostgresServer):
    with clones(postgres) as opened:
        walk(scaled(FULL // 10, one_in=100), opened)


@contextmanager
def clones(postgres: PostgresServer) -> Iterator[Callable[[], Database]]:
    """A fresh database each time; the one before is dropped."""
    urls: list[str] = []

    def opened() -> Database:
        dropped()
        urls.append(postgres.clone("template_bursar"))
        return open_database(urls[-1])

    def dropped() -> None:
        while urls:
            postgres.drop_database(urls.pop())

    try:
        yield opened
    finally:
        dropped()
