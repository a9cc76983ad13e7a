"""Runs one schedule from its seed."""

import itertools
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bursar.kernel import ids
from tests.simulation.database import time_of_the_server
from tests.simulation.laws import Laws
from tests.simulation.world import Schedule, Violation

TRACE_LINES = 60


@dataclass
class Outcome:
    seed: int
    violations: list[str]
    trace: list[str]
    requests: int
    commits: int
    steps: int

    def __str__(self) -> str:
        lines = "\n".join(self.trace[-TRACE_LINES:])
        found = "\n".join(f"  - {each}" for each in self.violations) or "  (no violation)"
        return (
            f"seed {self.seed}:\n{found}\nThe end of its trace:\n{lines}\n"
            f"Again, with the whole trace: python -m tests.simulation --seed {self.seed}"
        )


def simulate(seed: int) -> Outcome:
    """The same seed gives the same trace, to the letter."""
    schedule = Schedule(seed)
    laws = Laws(schedule)
    schedule.server.on_commit = laws.at_a_commit
    with _ids_from(random.Random(f"ids {seed}")), time_of_the_server(), _quiet():
        try:
            schedule.loop.run_until_complete(_all(schedule, laws))
        except Violation:
            pass
        except Exception as error:  # noqa: BLE001 - of the simulation or of what it runs: neither may pass unseen
            schedule.violated(f"the schedule broke off: {error!r}")
        finally:
            schedule.loop.dispose()
    schedule.violations += [f"an exception nobody took: {each}" for each in schedule.loop.faults]
    return Outcome(
        seed,
        schedule.violations,
        schedule.trace,
        len(schedule.asked),
        schedule.server.commits,
        schedule.loop.steps,
    )


async def _all(schedule: Schedule, laws: Laws) -> None:
    await schedule.run()
    for node in schedule.nodes:
        for each in node.refusals:
            schedule.violated(each)
    await laws.when_quiet()


@contextmanager
def _ids_from(rng: random.Random) -> Iterator[None]:
    """Ids are made of the seed."""
    ids._randomness._left = ((rng.getrandbits(16), rng.getrandbits(64)) for _ in itertools.count())
    try:
        yield
    finally:
        ids._randomness.forget()


@contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong is meant to; nobody wants a log of it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
