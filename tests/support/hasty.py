"""`python -m tests.support.hasty 10 serve …` is `bursar serve …` whose blind time, and the time between two signs of life, are a tenth.

For an outage that outlasts the blind time in a test that may not last a minute. The product knows nothing of this.
"""

import sys

from bursar import ledger


def main() -> None:
    factor, *command = sys.argv[1:]
    ledger.BLIND_SECONDS //= int(factor)  # type: ignore[misc]  # before anybody reads it: the gateway is not imported yet
    from bursar.gateway import _funds

    _funds.TEND_SECONDS /= int(factor)  # type: ignore[misc,assignment]
    sys.argv = ["bursar", *command]
    from bursar.cli import _main

    _main.run()


if __name__ == "__main__":
    main()
