"""How much of the long proofs is run, and from which seed.

BURSAR_PROVE=1 in the environment (`make prove`): all of it, else a tenth. BURSAR_SEED: another seed than the usual one.
"""

import os

SHARE = 10
SEED = int(os.environ.get("BURSAR_SEED", "20261124"))


def is_proving() -> bool:
    return os.environ.get("BURSAR_PROVE") == "1"


def scaled(full: int, *, one_in: int = SHARE) -> int:
    """`full` cases where everything is to be proved, else one in `one_in` of them."""
    return full if is_proving() else -(-full // one_in)
