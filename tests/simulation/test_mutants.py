"""Each of twelve faults in the code is caught by the simulation; what it is called says which law it breaks."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.run import simulate

SEEDS_MAX = 150


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_in_the_code_is_caught(mutant: Mutant, record_property, capsys):
    with mutant.applied():
        for seed in (mutant.seed, *range(1, SEEDS_MAX)):
            outcome = simulate(seed)
            if outcome.violations:
                break
        else:
            pytest.fail(f"{mutant.name} ({mutant.breaks}) passed {SEEDS_MAX} schedules")
    record_property("seed", seed)
    with capsys.disabled():
        print(f"\n{mutant.name}: caught by seed {seed}: {outcome.violations[0]}")
    assert not simulate(seed).violations, "the fault is the code's, not the schedule's"
