"""kill -9 at random moments and at named ones, under load: whoever saw the end of an answer was charged for it, once.

The loop is the product's own, `bursar selftest --kill`; here it also runs on PostgreSQL and stops at failpoints.
"""

import itertools
import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.cli._selftest import CrashLoop, SelfTestFailed, Server
from tests.cli.support import bursar
from tests.support.failpoints import ARROWS, AT_START, ONCE, RARE, WHEN
from tests.support.postgres import PostgresServer
from tests.support.scale import SEED, is_proving
from tests.support.server import clean_environment

ROOT = Path(__file__).parents[2]
PARTS = [*((f"sqlite {number}", 25) for number in range(6)), *((f"postgresql {number}", 25) for number in range(2))]
"""150 cycles on SQLite and 50 on PostgreSQL; in `make test` a tenth of each part."""
READY_SECONDS_MAX = 10


class FailingServer(Server):
    """Kills itself at `bomb`, if there is one."""

    bomb: tuple[str, int] | None = None

    def command(self) -> list[str]:
        if self.bomb is None:
            return super().command()
        point, passes = self.bomb
        return [sys.executable, "-m", "tests.support.failpoints", point, str(passes)]


class FailingLoop(CrashLoop):
    """Two cycles of three end at a failpoint, one at a random moment; on the way up again it may be killed once more."""

    server: FailingServer

    def __init__(self, server: FailingServer, chance: random.Random, first: int) -> None:
        super().__init__(server, chance)
        self._points = _from(_points(ARROWS), first)
        self._starts = _from(_points(AT_START), first)
        self._number = 0
        self.reached: set[str] = set()
        self.missed: set[str] = set()

    def arm(self) -> None:
        """Which way the next server ends."""
        self.server.bomb = None
        if self._number % 3:
            point = next(self._points)
            name = point.partition(":")[2]
            often = 1 if name in ONCE else 8 if name in RARE else 300
            self.server.bomb = point, self.chance.randint(1, often)

    def begin(self) -> None:
        super().begin()
        self.server.kill()
        self.start_again()

    def end_somehow(self) -> str:
        if self.server.bomb is None:
            return super().end_somehow()
        point, _ = self.server.bomb
        (self.reached if self.server.wait(60) else self.missed).add(point)
        return point

    def start_again(self) -> float:
        self._number += 1
        if self._number % 2:
            self.server.bomb = point, _ = next(self._starts), 1
            try:
                self.server.start()
            except SelfTestFailed:
                self.reached.add(point)
            self.server.kill()
        self.arm()
        return super().start_again()


def _points(arrows: dict[str, object]) -> list[str]:
    return [f"{when}:{name}" for name in arrows for when in WHEN]


def _from(points: list[str], first: int) -> Iterator[str]:
    """All of them again and again, another one first in every part."""
    return itertools.islice(itertools.cycle(random.Random(SEED).sample(points, len(points))), first, None)


@pytest.mark.parametrize(("part", "cycles"), PARTS)
def test_after_every_kill_what_was_answered_is_charged_once_and_the_books_are_right(
    tmp_path: Path, part: str, cycles: int, request: pytest.FixtureRequest
):
    backend, _, number = part.partition(" ")
    data = tmp_path / "data"
    env = clean_environment({"PYTHONPATH": str(ROOT)})
    if backend == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        env["BURSAR_DATABASE_URL"] = postgres.clone("template_bursar")
    count = cycles if is_proving() else 2 + int(number) % 2
    with FailingServer(data, env) as server:
        loop = FailingLoop(server, random.Random(f"{SEED} {part}"), int(number) * cycles)
        loop.begin()
        done = [loop.cycle() for _ in range(count)]
    print(
        f"{part}: {count} kills, {len(loop.seen.ended)} ends seen, "
        f"{statistics.median(each.requests_per_second for each in done):.0f} requests/s, "
        f"ready again in at most {max(each.start_seconds for each in done):.2f} s; at {sorted(loop.reached)}"
    )
    assert loop.missed <= set(), "every failpoint lies on the way"
    assert max(each.start_seconds for each in done) <= READY_SECONDS_MAX
    assert len(loop.seen.ended) > count


def test_anybody_can_see_it_happen_with_one_command(tmp_path: Path):
    done = bursar("selftest", "--kill", "--seconds", "3", "--seed", "7", "--json", env={"TMPDIR": str(tmp_path)})
    said = done.succeeded().json
    assert (said["drift"], said["seed"]) == (0, 7)
    assert said["kills"] >= 1
    assert said["answered"] >= 1
    assert "kill -9 after" in done.err
    assert list(tmp_path.iterdir()) == [], "the scratch directory is gone"
