"""What monitoring reads: Prometheus metrics of this node and of the books. Only for whoever has the token, or is on this machine.

Whichever worker answers tells those of all, each with its number as the label `worker`: what a worker counted begins at zero when it is
started again, which a sum would hide from whoever computes a rate. `bursar_ledger_*` and leases are of the whole installation, as the
regular check found them last. Amounts are nanos, as integers.
"""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from bursar import reports
from bursar.gateway import JournalState, Overloaded, Tally
from bursar.kernel import secrets
from bursar.kernel.errors import BursarError, NotAuthenticated, NotFound
from bursar.reports import LastCheck
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._parts import WebParts

if TYPE_CHECKING:
    from prometheus_client.core import Metric

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SHED = Overloaded.__name__
_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")


class WrongMetricsToken(NotAuthenticated):
    """The metrics are for whoever has BURSAR_METRICS_TOKEN."""


class NotForStrangers(NotFound):
    """Without a token the metrics are seen from this machine only."""


def require_monitor(visit: Visit) -> None:
    """Raises `WrongMetricsToken`, or `NotForStrangers` where no token is set and the client may be elsewhere.

    Behind a proxy on this machine everybody seems to be here: with a public URL there is one, and a token is needed.
    """
    parts, headers = visit.site.parts, visit.request.headers
    if parts.metrics_token is not None:
        given = headers.get("authorization", "")
        if not secrets.same(given, f"Bearer {parts.metrics_token}"):
            raise WrongMetricsToken(
                "This is not the metrics token.", remedy="Send Authorization: Bearer, and BURSAR_METRICS_TOKEN."
            )
        return
    if parts.is_public or any(name in headers for name in _FORWARDED) or not _is_here(visit.address):
        raise NotForStrangers("There is nothing here.")


async def show(visit: Visit) -> Response:
    from prometheus_client import CollectorRegistry, generate_latest  # costs 30 ms, and most starts are never asked
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    sample = await _sample(visit.site.parts)
    registry = CollectorRegistry()
    registry.register(sample)
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})


async def _sample(parts: WebParts) -> "_Sample":
    check, database_up = None, True
    try:
        async with parts.database.snapshot(SYSTEM) as snapshot:
            check = await reports.last_check(snapshot)
    except BursarError:
        database_up = False
    return _Sample(parts.tallies(), check, parts.clock.now(), database_up)


@dataclass(frozen=True, eq=False)
class _Sample:
    tallies: Mapping[int, Tally]
    check: LastCheck | None
    now: datetime
    database_up: bool

    def collect(self) -> "Iterator[Metric]":
        yield _gauge("bursar_database_up", "Whether the database answers.", int(self.database_up))
        yield from self._requests()
        yield from self._journals()
        if self.check is not None:
            yield from self._books(self.check)

    def _requests(self) -> "Iterator[Metric]":
        yield self._counters(
            "bursar_requests", "Requests to models, by status.", lambda tally: tally.answered, label="status"
        )
        yield self._counters(
            "bursar_refusals",
            "Requests that ended in an error, by its name.",
            lambda tally: tally.refused,
            label="name",
        )
        yield self._counters(
            "bursar_shed", "Requests refused because too many were running.", lambda tally: tally.refused.get(_SHED, 0)
        )
        yield self._counters("bursar_spend_nanos", "What requests were charged, in nanos.", lambda tally: tally.spent)
        running = {index: tally.running for index, tally in self.tallies.items()}
        yield _by_worker("bursar_running_requests", "Requests to models that run now.", running)

    def _counters(
        self, name: str, about: str, of: Callable[[Tally], int | Mapping[Any, int]], label: str | None = None
    ) -> "Metric":
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(name, about, labels=["worker", *([label] if label else ())])
        for index, tally in self.tallies.items():
            counted = of(tally)
            for value, number in sorted(counted.items()) if isinstance(counted, Mapping) else [(None, counted)]:
                family.add_metric([str(index), *([str(value)] if label else ())], number)
        return family

    def _journals(self) -> "Iterator[Metric]":
        states = {index: tally.journal for index, tally in self.tallies.items() if tally.journal is not None}
        if not states:
            return
        for name, about, of in self._of_a_journal():
            yield _by_worker(name, about, {index: of(state) for index, state in states.items()})
        yield self._batches()

    def _of_a_journal(self) -> tuple[tuple[str, str, Callable[[JournalState], int]], ...]:
        return (
            ("bursar_journal_lag_records", "Settlements that are not in the database yet.", lambda state: state.lag),
            (
                "bursar_journal_lag_seconds",
                "How old the oldest of them is.",
                lambda state: self._since(state.lag_since),
            ),
            ("bursar_open_holds", "Requests that were dispatched and have no end yet.", lambda state: state.open),
            (
                "bursar_oldest_hold_seconds",
                "How old the oldest of them is.",
                lambda state: self._since(state.oldest_open_at),
            ),
        )

    def _batches(self) -> "Metric":
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(
            "bursar_batch_settlements", "Settlements in a batch that was applied.", labels=["worker"]
        )
        for index, tally in self.tallies.items():
            sizes = tally.batches
            buckets = [(str(most), sum(n for size, n in sizes.items() if size <= most)) for most in BATCH_BUCKETS]
            total = sum(size * n for size, n in sizes.items())
            family.add_metric([str(index)], [*buckets, ("+Inf", sum(sizes.values()))], total)
        return family

    def _books(self, check: LastCheck) -> "Iterator[Metric]":
        yield _gauge("bursar_ledger_drift_nanos", "By how much the books are wrong; must be 0.", check.drift)
        yield _gauge("bursar_ledger_differences", "In how many places; must be 0.", check.difference_count)
        yield _gauge("bursar_ledger_check_age_seconds", "How long ago the books were checked.", self._since(check.at))
        if check.each_at is not None:
            about = "How long ago every single charge was checked, its batch and its request."
            yield _gauge("bursar_ledger_full_check_age_seconds", about, self._since(check.each_at))
        yield _gauge("bursar_ledger_check_duration_seconds", "How long that took.", check.seconds)
        yield _gauge("bursar_ledger_transfers", "Transfers in the books.", check.transfers)
        yield _gauge("bursar_ledger_loss_nanos", "What the house bore, in all, in nanos.", check.losses)
        yield _gauge("bursar_leases", "Leases of workers.", check.leases)
        yield _gauge("bursar_leased_nanos", "What workers have leased, in nanos.", check.leased)
        if all(tally.journal is None for tally in self.tallies.values()):
            yield _gauge("bursar_open_holds", "Requests that were dispatched and have no end yet.", check.open_holds)
            oldest = self._since(check.oldest_hold_at)
            yield _gauge("bursar_oldest_hold_seconds", "How old the oldest of them is.", oldest)

    def _since(self, moment: datetime | None) -> int:
        return 0 if moment is None else max(0, int((self.now - moment).total_seconds()))


def _gauge(name: str, about: str, value: Any) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, about, value=value)


def _by_worker(name: str, about: str, values: Mapping[int, int]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, about, labels=["worker"])
    for index, value in values.items():
        family.add_metric([str(index)], value)
    return family


def _is_here(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
