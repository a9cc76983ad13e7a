"""How many requests may run at once: in this process, of one key, of one owner. Counted in memory, before anything is held."""

from collections import Counter
from dataclasses import dataclass

from bursar.gateway._admit import Caller
from bursar.kernel.errors import BursarError, Unavailable

RETRY_AFTER_SECONDS = 1
"""Places become free by the second."""


class TooManyAtOnce(BursarError):
    """A key, or its owner, has as many requests running as it may. `scope`: api_key or account."""

    status = 429
    error_type = "rate_limit_exceeded"
    retry_after_seconds = RETRY_AFTER_SECONDS

    def __init__(self, sentence: str, *, scope: str, remedy: str) -> None:
        super().__init__(sentence, remedy=remedy)
        self.scope = scope


class Overloaded(Unavailable):
    """This process has as many requests running as it takes; passes by itself."""


@dataclass(frozen=True, slots=True)
class ConcurrencyLimits:
    """Requests running at the same moment; streams are requests until they end."""

    total: int = 4_096
    per_owner: int = 1_000
    per_key: int = 256


class Places:
    """Who takes a place gives it back."""

    def __init__(self, limits: ConcurrencyLimits) -> None:
        self.limits = limits
        self.taken = 0
        self._of_keys: Counter[str] = Counter()
        self._of_owners: Counter[str] = Counter()

    def require_room(self) -> None:
        """Before anything is known of a request. Raises `Overloaded`."""
        if self.taken >= self.limits.total:
            raise Overloaded(
                f"Bursar is busy: {self.limits.total} requests are running.", retry_after_seconds=RETRY_AFTER_SECONDS
            )

    def take(self, caller: Caller) -> None:
        """Raises `TooManyAtOnce`, `Overloaded`."""
        self.require_room()
        if caller.key is not None and self._of_keys[caller.key] >= self.limits.per_key:
            raise TooManyAtOnce(
                f"This API key has {self.limits.per_key} requests running, as many as it may.",
                scope="api_key",
                remedy="Wait for some of them to end, or spread the load over several keys.",
            )
        if self._of_owners[caller.owner] >= self.limits.per_owner:
            raise TooManyAtOnce(
                f"{self.limits.per_owner} requests are running on these credits, as many as may.",
                scope="account",
                remedy="Wait for some of them to end, or ask the operator for a higher limit.",
            )
        self.taken += 1
        if caller.key is not None:
            self._of_keys[caller.key] += 1
        self._of_owners[caller.owner] += 1

    def give_back(self, caller: Caller) -> None:
        self.taken -= 1
        if caller.key is not None:
            _less(self._of_keys, caller.key)
        _less(self._of_owners, caller.owner)


def _less(counts: Counter[str], name: str) -> None:
    if counts[name] == 1:
        del counts[name]
    else:
        counts[name] -= 1
