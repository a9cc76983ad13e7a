"""The audit log of a context, for its admins, and the installation's for its operator: who changed what, when and from where; CSV."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from bursar import reports
from bursar.access import ActorKind
from bursar.audit import EventFilter, Kind
from bursar.kernel.ids import OwnerId, is_id
from bursar.kernel.paging import Cursor
from bursar.reports import AuditRow
from bursar.storage import SYSTEM, Scope, Snapshot
from bursar.web._context import Visit
from bursar.web._csv import csv_answer, harmless
from bursar.web._operator import installation_of
from bursar.web._pages import is_fragment, render

COLUMNS = (
    *("time_utc", "event_id", "action", "what", "actor", "actor_kind", "actor_user_id", "actor_key_id", "address"),
    *("context_id", "subject", "subject_id", "details"),
)
PERIODS = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30), "90d": timedelta(days=90)}
PERIOD_NAMES = {"": "All time", "1d": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
KIND_NAMES = {
    Kind.KEYS: "API keys",
    Kind.LIMITS: "Limits and budgets",
    Kind.MEMBERS: "Members and invitations",
    Kind.ORGANIZATION: "Organization",
    Kind.CREDITS: "Credits",
    Kind.ACCOUNT: "Accounts and sign-in",
}


@dataclass(frozen=True)
class Log:
    """Whose log a page shows; `owner` None: the installation's."""

    owner: OwnerId | None
    url: str
    file_name: str

    @property
    def scope(self) -> Scope:
        return SYSTEM if self.owner is None else Scope(self.owner)


@dataclass(frozen=True)
class Wanted:
    """The filters as the URL says them; what makes no sense there is as if it were not."""

    kind: str
    actor: str
    period: str

    @classmethod
    def read(cls, visit: Visit) -> "Wanted":
        kind, actor, period = visit.query("kind"), visit.query("actor"), visit.query("period")
        is_actor = is_id(actor, "user") or is_id(actor, "key") or actor in (ActorKind.OPERATOR, ActorKind.SYSTEM)
        return cls(kind if kind in set(Kind) else "", actor if is_actor else "", period if period in PERIODS else "")

    def filter(self, now: datetime) -> EventFilter:
        return EventFilter(
            kind=Kind(self.kind) if self.kind else None,
            actor=self.actor or None,
            since=now - PERIODS[self.period] if self.period else None,
        )

    @property
    def is_any(self) -> bool:
        return bool(self.kind or self.actor or self.period)

    def query(self, **more: str | None) -> str:
        values = {"kind": self.kind, "actor": self.actor, "period": self.period} | more
        return urlencode({name: value for name, value in values.items() if value})


async def show(visit: Visit) -> Response:
    return await _show(visit, _of_context(visit))


async def export(visit: Visit) -> Response:
    return await _export(visit, _of_context(visit))


async def show_installation(visit: Visit) -> Response:
    return await _show(visit, _INSTALLATION)


async def export_installation(visit: Visit) -> Response:
    return await _export(visit, _INSTALLATION)


_INSTALLATION = Log(None, "/operator/audit", "installation")


def _of_context(visit: Visit) -> Log:
    return Log(visit.owner, f"{visit.base}/audit", visit.here.slug or "personal")


async def _show(visit: Visit, log: Log) -> Response:
    wanted = Wanted.read(visit)
    async with visit.site.parts.database.snapshot(log.scope) as snapshot:
        page = await reports.audit_log(snapshot, log.owner, wanted.filter(visit.now), _cursor(visit))
        actors = await _actors(snapshot, log, wanted)
    response = render(
        visit,
        "_audit.html" if is_fragment(visit.request) else "audit.html",
        log={"url": log.url, "is_installation": log.owner is None},
        filters={"kind": wanted.kind, "actor": wanted.actor, "period": wanted.period, "any": wanted.is_any},
        kinds={kind.value: name for kind, name in KIND_NAMES.items()},
        periods=PERIOD_NAMES,
        actors=actors,
        rows=page.items,
        newer_url=f"{log.url}?{wanted.query(page=page.newer)}" if page.newer else None,
        older_url=f"{log.url}?{wanted.query(page=page.older)}" if page.older else None,
        csv_url=f"{log.url}.csv?{wanted.query()}".rstrip("?"),
        installation=None if log.owner is not None else await installation_of(visit),
    )
    response.headers["Vary"] = "HX-Request, HX-Request-Type, Cookie"
    return response


async def _actors(snapshot: Snapshot, log: Log, wanted: Wanted) -> Sequence[tuple[str, str]]:
    """With the one that is filtered by now, so that a choice never goes missing."""
    known = list(await reports.audit_actors(snapshot, log.owner))
    return known if not wanted.actor or wanted.actor in dict(known) else [*known, (wanted.actor, wanted.actor)]


async def _export(visit: Visit, log: Log) -> Response:
    """What the page shows with these filters, all pages of it."""
    wanted = Wanted.read(visit)
    name = f"bursar-audit-{log.file_name}-{visit.now:%Y-%m-%d}.csv"
    async with visit.site.parts.database.snapshot(log.scope) as snapshot:
        batches = reports.audit_export(snapshot, log.owner, wanted.filter(visit.now))
        return await csv_answer(name, COLUMNS, ([_cells(row) for row in batch] async for batch in batches))


def _cells(row: AuditRow) -> Sequence[str]:
    event = row.event
    details: dict[str, Any] = {
        name: value if after is None else {"before": value, "after": after} for name, value, after in row.details
    }
    texts = (
        *(event.id, event.action, f"{row.actor} {row.sentence}", row.actor, event.actor.kind.value),
        *(event.actor.user or "", event.actor.key or "", event.actor.address or "", event.owner),
        *(row.subject, event.subject, json.dumps(details, ensure_ascii=False) if details else ""),
    )
    return (f"{row.at:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z", *(harmless(text) for text in texts))


def _cursor(visit: Visit) -> Cursor | None:
    cursor = Cursor.decode(visit.query("page"))
    return cursor if cursor is not None and is_id(cursor.id, "evt") else None
