"""Limits after any sequence of events, beside a model: what is handed out, what is used in which window, and never too much."""

import asyncio
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from bursar import ledger
from bursar.kernel.clock import FixedClock
from bursar.kernel.ids import GenerationId, KeyId, UserId
from bursar.kernel.money import Nanos
from bursar.ledger import (
    Allowance,
    Batch,
    Limit,
    LimitChanged,
    LimitReached,
    OpenHold,
    Period,
    Settlement,
    window_start,
)
from bursar.storage import SYSTEM, Database, Tx
from tests.conftest import open_database
from tests.rooms.books import ACME, ONE, TWO, grant_of
from tests.rooms.test_any_sequence import clones
from tests.support.postgres import PostgresServer
from tests.support.scale import scaled

Result = TypeVar("Result")
FULL = 2_000
STEPS = 30
KEY, USER = KeyId("key_a"), UserId("user_a")
BEGUN = datetime(2026, 11, 28, 12, tzinfo=UTC)
"""A Saturday, two days before a week and three before a month begin."""


class Model:
    """Limits by subject, everything that was charged, and what is handed out."""

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}
        self.charges: list[tuple[datetime, int]] = []
        self.leases: dict[tuple[Allowance, str], int] = defaultdict(int)
        self.moves: dict[tuple[Allowance, str, bool], tuple[str, int]] = {}

    def used(self, allowance: Allowance) -> int:
        return sum(cost for at, cost in self.charges if window_start(allowance.period, at) == allowance.since)

    def leased(self, allowance: Allowance) -> int:
        return sum(amount for (name, _), amount in self.leases.items() if name == allowance)

    def left(self, allowance: Allowance) -> int:
        return max(0, self.limits[allowance.subject].amount - self.used(allowance) - self.leased(allowance))

    def more_for(self, holder: str, wanted: int) -> int:
        """What the limits that a hold was taken from, and that still are, have left for it."""
        bound = [name for name, of in self.leases if of == holder and self.binds(name)]
        return min([max(0, wanted), *map(self.left, bound)])

    def binds(self, allowance: Allowance) -> bool:
        limit = self.limits.get(allowance.subject)
        return limit is not None and limit.period is allowance.period

    def lease(self, allowance: Allowance, worker: str, want: int, move: str) -> int | None:
        if not self.binds(allowance):
            return None
        before = self.moves.get((allowance, worker, True))
        if before is not None and before[0] == move:
            return before[1]
        granted = min(want, self.left(allowance))
        if granted:
            self.leases[allowance, worker] += granted
            self.moves[allowance, worker, True] = (move, granted)
        return granted

    def give_back(self, allowance: Allowance, worker: str, amount: int, move: str) -> int:
        if (allowance, worker) not in self.leases:
            return 0
        before = self.moves.get((allowance, worker, False))
        if before is not None and before[0] == move:
            return before[1]
        returned = min(amount, self.leases[allowance, worker])
        self.leases[allowance, worker] -= returned
        self.moves[allowance, worker, False] = (move, returned)
        return returned

    def give_back_all(self, holder: str) -> None:
        for name in [name for name in self.leases if name[1] == holder]:
            del self.leases[name]
        for move in [move for move in self.moves if move[1] == holder]:
            del self.moves[move]


subjects = st.sampled_from((KEY, USER, ACME))
periods = st.sampled_from(tuple(Period))
workers = st.sampled_from((ONE, TWO))
amounts = st.integers(0, 100)
moves = st.sampled_from([f"move-{number}" for number in range(4)])
days_ago = st.integers(0, 3)


class Limits(RuleBasedStateMachine):
    """The real ones beside the model."""

    open: Callable[[], Database]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.watermark = {ONE: 0, TWO: 0}
        self.batches: list[tuple[str, Batch]] = []
        self.holds: dict[str, tuple[datetime, int]] = {}
        self.made = 0

    @initialize()
    def begin(self) -> None:
        self.database = type(self).open()
        self.clock = self.database.clock
        assert isinstance(self.clock, FixedClock)
        self.do(lambda tx: ledger.post(tx, [grant_of(ACME, "tr_grant", 10**9)]))
        for worker in (ONE, TWO):
            self.do(lambda tx, worker=worker: ledger.register_worker(tx, worker, "node_a"))
            self.do(lambda tx, worker=worker: ledger.lease(tx, ACME, worker, Nanos(10**8), transfer_id=f"tr_{worker}"))

    def do(self, verb: Callable[[Tx], Awaitable[Result]]) -> Result:
        async def work() -> Result:
            async with self.database.begin(SYSTEM) as tx:
                return await verb(tx)

        return self.runner.run(work())

    def allowance(self, subject: str, period: Period, ago: int) -> Allowance:
        known = self.model.limits.get(subject)
        period = known.period if known is not None and ago < 3 else period
        return Allowance(ACME, subject, period, window_start(period, self.clock.now() - timedelta(days=ago)))

    @rule(hours=st.integers(1, 40))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))

    @rule(subject=subjects, period=periods, amount=amounts)
    def set_limit(self, subject: str, period: Period, amount: int) -> None:
        limit = Limit(ACME, subject, Nanos(amount), period)
        used = self.model.used(limit.allowance_at(self.clock.now()))

        async def spent(_since: datetime) -> int:
            return used

        self.do(lambda tx: ledger.set_limit(tx, limit, spent=spent))
        self.model.limits[subject] = limit

    @rule(subject=subjects)
    def remove_limit(self, subject: str) -> None:
        removed = self.do(lambda tx: ledger.remove_limit(tx, ACME, subject))
        assert removed == self.model.limits.pop(subject, None)

    @rule(subject=subjects, period=periods, worker=workers, want=amounts, move=moves)
    def lease(self, subject: str, period: Period, worker: str, want: int, move: str) -> None:
        """Of the present window, as workers do."""
        allowance = self.allowance(subject, period, 0)
        known = self.model.lease(allowance, worker, want, move)
        found: int | None = None
        with suppress(LimitChanged):
            found, use, _ = self.do(lambda tx: ledger.lease_allowance(tx, allowance, worker, Nanos(want), move_id=move))
            assert use.unleased == self.model.left(allowance)
        assert found == known

    @rule(subject=subjects, period=periods, ago=days_ago, worker=workers, amount=amounts, move=moves)
    def give_back(self, subject: str, period: Period, ago: int, worker: str, amount: int, move: str) -> None:
        allowance = self.allowance(subject, period, ago)
        known = self.model.give_back(allowance, worker, amount, move)
        found = self.do(lambda tx: ledger.return_allowance(tx, allowance, worker, Nanos(amount), move_id=move))
        assert found == known

    @rule(worker=workers, charges=st.lists(st.tuples(st.integers(0, 60), days_ago, st.booleans()), max_size=4))
    def apply(self, worker: str, charges: list[tuple[int, int, bool]]) -> None:
        made = []
        for charge, ago, is_taken in charges:
            self.made += 1
            at = self.clock.now() - timedelta(days=ago)
            taken = [limit.allowance_at(at) for limit in self.model.limits.values()] if is_taken else []
            made.append(Settlement(ACME, GenerationId(f"gen-{self.made}"), Nanos(charge), (KEY, USER, ACME), at, taken))
        self.watermark[worker] += 1
        batch = Batch(self.watermark[worker], self.watermark[worker], made)
        self.do(lambda tx: ledger.apply_batch(tx, worker, batch))
        self.batches.append((worker, batch))
        spent: defaultdict[Allowance, int] = defaultdict(int)
        for each in made:
            assert each.at is not None
            self.model.charges.append((each.at, each.charge))
            for allowance in each.taken:
                spent[allowance] += each.charge
        for allowance, amount in spent.items():
            if (allowance, worker) in self.model.leases:
                self.model.leases[allowance, worker] -= min(amount, self.model.leases[allowance, worker])

    @rule(choice=st.integers(0, 100))
    def replay(self, choice: int) -> None:
        if self.batches:
            worker, batch = self.batches[choice % len(self.batches)]
            self.do(lambda tx: ledger.apply_batch(tx, worker, batch))

    @rule(worker=workers)
    def restart(self, worker: str) -> None:
        self.do(lambda tx: ledger.return_all(tx, worker))
        self.model.give_back_all(worker)
        self.do(
            lambda tx: ledger.lease(
                tx, ACME, worker, Nanos(10**8), transfer_id=f"again-{self.clock.now()}-{worker}"[:48]
            )
        )

    @rule(amount=amounts)
    def hold(self, amount: int) -> None:
        self.made += 1
        name, now = f"held-{self.made}", self.clock.now()
        wanted = OpenHold(ACME, GenerationId(name), Nanos(amount), "node_a", "v1", KEY, USER, "demo/echo-1", now)
        binding = [limit.allowance_at(now) for limit in self.model.limits.values()]
        fits = all(self.model.left(each) >= amount for each in binding) or not amount
        try:
            self.do(lambda tx: ledger.open_hold(tx, wanted))
        except LimitReached:
            assert not fits
            return
        assert fits
        self.holds[name] = (now, amount)
        for each in binding if amount else ():
            self.model.leases[each, name] += amount

    @rule(choice=st.integers(0, 100), charge=st.integers(0, 120))
    def settle(self, choice: int, charge: int) -> None:
        if self.holds:
            name = sorted(self.holds)[choice % len(self.holds)]
            at, held = self.holds.pop(name)
            charged = min(charge, held + self.model.more_for(name, charge - held))
            assert self.do(lambda tx: ledger.settle_hold(tx, ACME, GenerationId(name), Nanos(charge))) == charged
            self.model.charges.append((at, charged))
            self.model.give_back_all(name)

    @invariant()
    def what_is_used_is_what_was_charged_and_nobody_has_more_than_the_model_says(self) -> None:
        if not hasattr(self, "database"):
            return
        uses, drift = self.runner.run(self._look())
        assert drift == 0
        assert uses.keys() == self.model.limits.keys()
        for subject, use in uses.items():
            allowance = self.model.limits[subject].allowance_at(self.clock.now())
            assert (use.limit, use.used, use.leased) == (
                self.model.limits[subject],
                self.model.used(allowance),
                self.model.leased(allowance),
            )

    async def _look(self):
        async with self.database.snapshot(SYSTEM) as snapshot:
            uses = await ledger.limit_uses(snapshot, ACME, (KEY, USER, ACME), self.clock.now())
            return uses, (await ledger.verify(snapshot)).drift

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.runner.run(self.database.close())
        self.runner.close()


def walk(sequences: int, opened: Callable[[FixedClock], Database]) -> None:
    machine = type("Limits", (Limits,), {"open": staticmethod(lambda: opened(FixedClock(BEGUN)))})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=sequences, stateful_step_count=STEPS, deadline=None)
    )


def test_after_any_sequence_limits_are_kept_and_count_what_was_charged_on_sqlite(sqlite_template: Path):
    with tempfile.TemporaryDirectory() as folder:

        def opened(clock: FixedClock) -> Database:
            for old in Path(folder).iterdir():
                old.unlink()
            shutil.copy(sqlite_template, Path(folder) / "bursar.db")
            return open_database(f"sqlite:///{folder}/bursar.db", clock)

        walk(scaled(FULL, one_in=100), opened)


def test_after_any_sequence_limits_are_kept_and_count_what_was_charged_on_postgresql(postgres: PostgresServer):
    with clones(postgres) as fresh:
        walk(
            scaled(FULL // 10, one_in=25),
            lambda clock: open_database(fresh().url.render_as_string(hide_password=False), clock),
        )
