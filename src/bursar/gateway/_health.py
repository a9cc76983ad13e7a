"""How each endpoint does, as this worker saw it: recent outages, a circuit breaker, speeds, and a budget for second tries.
What lists tell of it, over minutes and a day, is `_performance`.

Only what is the provider's fault counts: not a request it refuses, not a client that left. All of it is in memory, bounded, and
forgotten with the process.

The circuit of an endpoint: closed → (`FAILURES_TO_OPEN` in a row) → open for a pause → half open: one request tries it →
success closes it, failure opens it for twice as long, at most `PAUSE_SECONDS_MAX`. A pause is shortened by a random part, so
that many workers do not try a provider that recovers all at once.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from random import Random

from bursar.gateway._order import HEALTHY, Condition, Health, Surroundings
from bursar.gateway._performance import UNHEARD_OF, History, Performance, Window
from bursar.kernel.clock import Clock

ENDPOINTS_MAX = 4_096
"""How many endpoints are remembered; the ones heard of least recently are forgotten."""
OUTAGE_SECONDS = 30
OUTAGE_SLOTS = 10
OUTAGE_FAILURES_MIN = 3
OUTAGE_SHARE = 2
"""One in so many, within `OUTAGE_SECONDS`, and at least `OUTAGE_FAILURES_MIN`: that is a significant outage."""
FAILURES_TO_OPEN = 5
PAUSE_SECONDS_FIRST = 2
PAUSE_SECONDS_MAX = 30
"""The longest pause, and so the longest `Retry-After`."""
PROBE_SECONDS_MAX = 30
"""After so long without an outcome, a request that tries a half-open endpoint no longer keeps others from trying it."""
BUDGET_SECONDS = 10
BUDGET_SLOTS = 10
BUDGET_PERCENT = 20
BUDGET_FLOOR = 100
"""Second tries within `BUDGET_SECONDS`: so many, or `BUDGET_PERCENT` of the requests, whichever is more."""
SMOOTHING = 8
"""A new measurement moves an average by one part in so many."""

_MICROS = 1_000_000


@dataclass(slots=True)
class _Record:
    outcomes: Window = field(default_factory=lambda: Window(OUTAGE_SECONDS, OUTAGE_SLOTS))
    """Successes and failures."""
    failures_in_a_row: int = 0
    needs_person: bool = False
    opened: int = 0
    """How often in a row the circuit opened."""
    open_until: float | None = None
    probed_until: float | None = None
    latency_micros: int | None = None
    throughput_millis: int | None = None
    history: History = field(default_factory=History)


class EndpointHealth:
    """Every endpoint's outcomes. `random` shortens pauses and draws for `Surroundings`."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._budget = Window(BUDGET_SECONDS, BUDGET_SLOTS)

    def __len__(self) -> int:
        return len(self._records)

    def surroundings(self, favourites: frozenset[str] = frozenset()) -> Surroundings:
        """What a plan made now needs."""
        return Surroundings(self.look(), self._random.random(), favourites)

    def look(self) -> Health:
        """How endpoints do at this moment, by their id."""
        now = self._clock.monotonic()

        def condition(endpoint_id: str) -> Condition:
            record = self._records.get(endpoint_id)
            return HEALTHY if record is None else _condition(record, now)

        return condition

    def performance(self, endpoint_id: str) -> Performance:
        """How it did over the last minutes and the last day, for people to see."""
        record = self._records.get(endpoint_id)
        return UNHEARD_OF if record is None else record.history.performance(self._clock.monotonic())

    def claim(self, endpoint_id: str) -> bool:
        """Whether the endpoint may be called now. Who gets True for a half-open one is the one that tries it, and says how it went."""
        record = self._records.get(endpoint_id)
        if record is None or record.open_until is None:
            return True
        now = self._clock.monotonic()
        if _waits(record, now):
            return False
        record.probed_until = now + PROBE_SECONDS_MAX
        return True

    def succeeded(self, endpoint_id: str, latency_seconds: float | None) -> None:
        """It answered: whole, or with the first output of a stream, for which `latency_seconds` is given."""
        now = self._clock.monotonic()
        record = self._record(endpoint_id)
        record.outcomes.add(now, 1, 0)
        record.history.came_out(now, 1, 0)
        record.failures_in_a_row = record.opened = 0
        record.open_until = record.probed_until = None
        record.needs_person = False
        if latency_seconds is not None:
            micros = int(latency_seconds * _MICROS)
            record.latency_micros = _smooth(record.latency_micros, micros)
            record.history.answered_after(now, micros)

    def failed(self, endpoint_id: str, *, needs_person: bool = False, retry_after_seconds: int | None = None) -> None:
        """A failure that is the provider's fault. `retry_after_seconds`: how long it asks to be left alone."""
        now = self._clock.monotonic()
        record = self._record(endpoint_id)
        record.outcomes.add(now, 0, 1)
        record.history.came_out(now, 0, 1)
        record.failures_in_a_row += 1
        record.needs_person = needs_person
        # What began before the circuit opened may fail after that; it says nothing new.
        if record.failures_in_a_row >= FAILURES_TO_OPEN and (record.open_until is None or now >= record.open_until):
            record.opened += 1
            record.open_until = now + self._pause(record.opened, retry_after_seconds)
            record.probed_until = None

    def released(self, endpoint_id: str) -> None:
        """A call that says nothing about the endpoint: the client left, or the request itself was at fault."""
        record = self._records.get(endpoint_id)
        if record is not None:
            record.probed_until = None

    def measured(self, endpoint_id: str, tokens: int, seconds: float) -> None:
        """So many output tokens came in so long."""
        if tokens > 0 and seconds > 0:
            record = self._record(endpoint_id)
            millis = int(tokens * 1_000 / seconds)
            record.throughput_millis = _smooth(record.throughput_millis, millis)
            record.history.wrote_at(self._clock.monotonic(), millis)

    def asked(self) -> None:
        """A request came; second tries are a share of these."""
        self._budget.add(self._clock.monotonic(), 1, 0)

    def may_try_again(self) -> bool:
        """Whether there is budget for a second try, which is taken from it: an outage must not multiply the load."""
        now = self._clock.monotonic()
        self._budget.pass_to(now)
        if self._budget.second >= max(BUDGET_FLOOR, self._budget.first * BUDGET_PERCENT // 100):
            return False
        self._budget.add(now, 0, 1)
        return True

    def _record(self, endpoint_id: str) -> _Record:
        record = self._records.get(endpoint_id)
        if record is None:
            record = self._records[endpoint_id] = _Record()
            if len(self._records) > ENDPOINTS_MAX:
                self._records.popitem(last=False)
        else:
            self._records.move_to_end(endpoint_id)
        return record

    def _pause(self, opened: int, retry_after_seconds: int | None) -> float:
        longest = min(PAUSE_SECONDS_FIRST << min(opened - 1, 10), PAUSE_SECONDS_MAX)
        pause = longest * (0.5 + self._random.random() / 2)
        return max(pause, min(retry_after_seconds or 0, PAUSE_SECONDS_MAX))


def _condition(record: _Record, now: float) -> Condition:
    record.outcomes.pass_to(now)
    bad = record.outcomes.second
    waits = _waits(record, now)
    return Condition(
        has_outage=bad >= OUTAGE_FAILURES_MIN and bad * OUTAGE_SHARE >= bad + record.outcomes.first,
        is_open=waits > 0,
        needs_person=record.needs_person,
        retry_after_seconds=waits,
        latency_micros=record.latency_micros,
        throughput_millis=record.throughput_millis,
    )


def _waits(record: _Record, now: float) -> int:
    """How many seconds, rounded up, until the circuit lets somebody through; 0 when it does now."""
    if record.open_until is None:
        return 0
    until = record.open_until
    if now >= until:
        until = record.probed_until if record.probed_until is not None else now
    return math.ceil(max(0, until - now))


def _smooth(average: int | None, value: int) -> int:
    return value if average is None else average + (value - average) // SMOOTHING
