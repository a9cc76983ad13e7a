"""`python -m tests.simulation --seed N`: one schedule with its whole trace. `--from N --count M`: many, only failures."""

import argparse
import sys
import time
from contextlib import nullcontext

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one schedule, with its trace")
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--mutant", choices=[each.name for each in MUTANTS], help="run it with this fault in the code")
    given = parser.parse_args()
    mutant = next((each for each in MUTANTS if each.name == given.mutant), None)
    with mutant.applied() if mutant is not None else nullcontext():
        return run(given)


def run(given: argparse.Namespace) -> int:
    if given.seed is not None:
        outcome = simulate(given.seed)
        print("\n".join(outcome.trace))
        print("\n".join(outcome.violations) or "no violation")
        return int(bool(outcome.violations))
    begun = time.process_time()
    failed = requests = 0
    for seed in range(given.first, given.first + given.count):
        outcome = simulate(seed)
        requests += outcome.requests
        if outcome.violations:
            failed += 1
            print(seed, *outcome.violations[:3], sep="\n  ", flush=True)
    seconds = time.process_time() - begun
    print(f"{given.count} schedules, {requests} requests, {failed} failed; {given.count / seconds:.1f} a second of CPU")
    return int(bool(failed))


sys.exit(main())
