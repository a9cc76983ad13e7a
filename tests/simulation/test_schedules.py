"""Whatever the weather, the laws of `money.md` hold: 500 schedules, 5,000 where everything is to be proved.

A failure prints its seed, what it broke and the end of its trace; `python -m tests.simulation --seed N` shows the whole.
"""

import os
import subprocess
import sys

import pytest

from tests.simulation.run import simulate
from tests.simulation.world import FAULTS
from tests.support.scale import SEED, scaled

FULL = 5_000
PARTS = 20
SEEN = [
    "402, was refused",
    "503, was refused",
    "cannot recover without the database",
    "fails",
    "falls silent",
    "is forgotten",
    "is lost for good",
    "leaves",
    "loses its power while it starts",
    "saw no end",
    "the disk of",
    "was told",
]
FIRST = (SEED - 20261124) * FULL + 1


@pytest.mark.parametrize("part", range(PARTS))
def test_every_law_holds_in_every_schedule(part: int):
    for seed in range(FIRST + part, FIRST + scaled(FULL), PARTS):
        outcome = simulate(seed)
        assert not outcome.violations, str(outcome)


def test_the_same_seed_gives_the_same_trace():
    here = [simulate(5).trace, simulate(5).trace]
    assert here[0] == here[1]
    assert len(here[0]) > 20
    elsewhere = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "5"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.splitlines()[: len(here[0])] == here[0]


def test_everything_that_can_happen_happens():
    """A simulation in which nothing goes wrong would prove nothing."""
    traces = "\n".join(line for seed in range(1, 41) for line in simulate(seed).trace)
    words = [f" {fault}: node" for fault in FAULTS] + SEEN
    assert [word for word in words if word not in traces] == []
    interrupted = [
        line for line in traces.splitlines() if "had been interrupted" in line and "; 0 requests" not in line
    ]
    assert len(interrupted) > 10
