"""How an endpoint did over minutes and a day, for those who choose one; what plans are made of is in `_health`.

All of it is in memory, of this worker, bounded, and forgotten with the process.
"""

from array import array
from dataclasses import dataclass

SAMPLES_MAX = 128
"""Percentiles are of so many latest measurements at most."""
SAMPLES_SECONDS = 30 * 60
UPTIME_SECONDS = (5 * 60, 30 * 60, 24 * 60 * 60)
_MINUTE = 60
_HALF_HOUR = 30 * 60


class Window:
    """Counts of two kinds over the last `seconds`, which pass in `slots` steps."""

    def __init__(self, seconds: int, slots: int) -> None:
        self._width = seconds / slots
        self._counts = [(0, 0)] * slots
        self._tick = 0
        self.first = 0
        self.second = 0

    def add(self, now: float, first: int, second: int) -> None:
        self.pass_to(now)
        slot = self._tick % len(self._counts)
        before = self._counts[slot]
        self._counts[slot] = (before[0] + first, before[1] + second)
        self.first += first
        self.second += second

    def pass_to(self, now: float) -> None:
        """Forgets what is too old at `now` (monotonic seconds)."""
        tick, slots = int(now / self._width), len(self._counts)
        if tick <= self._tick:
            return
        for gone in range(max(self._tick + 1, tick - slots + 1), tick + 1):
            first, second = self._counts[gone % slots]
            self.first -= first
            self.second -= second
            self._counts[gone % slots] = (0, 0)
        self._tick = tick

    def latest(self, slots: int) -> tuple[int, int]:
        """The counts of the last so many slots, the present one among them."""
        found = [self._counts[(self._tick - back) % len(self._counts)] for back in range(slots)]
        return sum(first for first, _ in found), sum(second for _, second in found)


@dataclass(frozen=True, slots=True)
class Percentiles:
    p50: int
    p75: int
    p90: int
    p99: int


class Samples:
    """The latest measurements, each with its time, in two arrays that are written round and round."""

    def __init__(self) -> None:
        self._at = array("d")
        self._values = array("q")
        self._next = 0

    def add(self, now: float, value: int) -> None:
        if len(self._at) < SAMPLES_MAX:
            self._at.append(now)
            self._values.append(value)
            return
        self._at[self._next], self._values[self._next] = now, value
        self._next = (self._next + 1) % SAMPLES_MAX

    def percentiles(self, now: float) -> Percentiles | None:
        """By nearest rank, of what is younger than `SAMPLES_SECONDS`; None where nothing is."""
        young = zip(self._at, self._values, strict=True)
        values = sorted(value for at, value in young if now - at < SAMPLES_SECONDS)
        if not values:
            return None
        return Percentiles(*(values[-(-percent * len(values) // 100) - 1] for percent in (50, 75, 90, 99)))


@dataclass(frozen=True, slots=True)
class Performance:
    """`uptimes`: successes and failures within the last 5 minutes, 30 minutes, day. Percentiles are of the last 30 minutes.

    `latency_micros`: until the first output of a stream. `throughput_millis`: thousandths of a token per second.
    """

    uptimes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0), (0, 0))
    latency_micros: Percentiles | None = None
    throughput_millis: Percentiles | None = None


UNHEARD_OF = Performance()


class History:
    """One endpoint's outcomes and speeds."""

    def __init__(self) -> None:
        self._minutes = Window(UPTIME_SECONDS[1], UPTIME_SECONDS[1] // _MINUTE)
        self._day = Window(UPTIME_SECONDS[2], UPTIME_SECONDS[2] // _HALF_HOUR)
        self._latencies = Samples()
        self._throughputs = Samples()

    def came_out(self, now: float, successes: int, failures: int) -> None:
        self._minutes.add(now, successes, failures)
        self._day.add(now, successes, failures)

    def answered_after(self, now: float, micros: int) -> None:
        self._latencies.add(now, micros)

    def wrote_at(self, now: float, millis: int) -> None:
        self._throughputs.add(now, millis)

    def performance(self, now: float) -> Performance:
        self._minutes.pass_to(now)
        self._day.pass_to(now)
        return Performance(
            uptimes=(
                self._minutes.latest(UPTIME_SECONDS[0] // _MINUTE),
                (self._minutes.first, self._minutes.second),
                (self._day.first, self._day.second),
            ),
            latency_micros=self._latencies.percentiles(now),
            throughput_millis=self._throughputs.percentiles(now),
        )
