"""What monitoring reads: Prometheus metrics of this process and of the books. Only for whoever has the token, or is on this machine.

Counters are of this process since it started; `bursar_ledger_*` and leases are of the whole installation, as the regular check found
them last. Amounts are nanos, as integers.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from bursar import reports
from bursar.gateway import JournalState
from bursar.kernel import secrets
from bursar.kernel.errors import BursarError, NotAuthenticated, NotFound
from bursar.reports import LastCheck
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._parts import WebParts

if TYPE_CHECKING:
    from prometheus_client.core import Metric

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
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
    return _Sample(parts, check, parts.journal_state(), parts.clock.now(), database_up=database_up)


@dataclass(frozen=True, eq=False)
class _Sample:
    parts: WebParts
    check: LastCheck | None
    journal: JournalState | None
    now: datetime
    database_up: bool

    def collect(self) -> "Iterator[Metric]":
        yield _gauge("bursar_database_up", "Whether the database answers.", int(self.database_up))
        yield from self._requests()
        if self.journal is not None:
            yield from self._journal(self.journal)
        if self.check is not None:
            yield from self._books(self.check)

    def _requests(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily

        counts, places = self.parts.gateway.counts, self.parts.gateway.places
        answered = CounterMetricFamily("bursar_requests", "Requests to models, by status.", labels=["status"])
        for status, number in sorted(counts.answered.items()):
            answered.add_metric([str(status)], number)
        yield answered
        refused = CounterMetricFamily(
            "bursar_refusals", "Requests that ended in an error, by its name.", labels=["name"]
        )
        for name, number in sorted(counts.refused.items()):
            refused.add_metric([name], number)
        yield refused
        yield CounterMetricFamily(
            "bursar_shed", "Requests refused because too many were running.", value=counts.refused["Overloaded"]
        )
        yield CounterMetricFamily("bursar_spend_nanos", "What requests were charged, in nanos.", value=counts.spent)
        yield _gauge("bursar_running_requests", "Requests to models that run now.", places.taken)

    def _journal(self, state: JournalState) -> "Iterator[Metric]":
        from prometheus_client.core import HistogramMetricFamily

        yield _gauge("bursar_journal_lag_records", "Settlements that are not in the database yet.", state.lag)
        lag = self._since(state.lag_since)
        yield _gauge("bursar_journal_lag_seconds", "How old the oldest of them is.", lag)
        yield _gauge("bursar_open_holds", "Requests that were dispatched and have no end yet.", state.open)
        yield _gauge("bursar_oldest_hold_seconds", "How old the oldest of them is.", self._since(state.oldest_open_at))
        sizes = self.parts.gateway.counts.batches
        buckets = [(str(most), sum(n for size, n in sizes.items() if size <= most)) for most in BATCH_BUCKETS]
        yield HistogramMetricFamily(
            "bursar_batch_settlements",
            "Settlements in a batch that was applied.",
            buckets=[*buckets, ("+Inf", sizes.total())],
            sum_value=sum(size * n for size, n in sizes.items()),
        )

    def _books(self, check: LastCheck) -> "Iterator[Metric]":
        yield _gauge("bursar_ledger_drift_nanos", "By how much the books are wrong; must be 0.", check.drift)
        yield _gauge("bursar_ledger_differences", "In how many places; must be 0.", check.difference_count)
        yield _gauge("bursar_ledger_check_age_seconds", "How long ago the books were checked.", self._since(check.at))
        yield _gauge("bursar_ledger_check_duration_seconds", "How long that took.", check.seconds)
        yield _gauge("bursar_ledger_transfers", "Transfers in the books.", check.transfers)
        yield _gauge("bursar_ledger_loss_nanos", "What the house bore, in all, in nanos.", check.losses)
        yield _gauge("bursar_leases", "Leases of workers.", check.leases)
        yield _gauge("bursar_leased_nanos", "What workers have leased, in nanos.", check.leased)
        if self.journal is None:
            yield _gauge("bursar_open_holds", "Requests that were dispatched and have no end yet.", check.open_holds)
            oldest = self._since(check.oldest_hold_at)
            yield _gauge("bursar_oldest_hold_seconds", "How old the oldest of them is.", oldest)

    def _since(self, moment: datetime | None) -> int:
        return 0 if moment is None else max(0, int((self.now - moment).total_seconds()))


def _gauge(name: str, about: str, value: Any) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, about, value=value)


def _is_here(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
