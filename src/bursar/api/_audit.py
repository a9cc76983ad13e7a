"""`/audit-events`: who changed what, for machines that keep it elsewhere. Our own: OpenRouter has none."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, WithJsonSchema
from starlette.responses import Response

from bursar import reports
from bursar.api import _schemas
from bursar.api._answers import InvalidParameter, json_answer, time_text
from bursar.api._describe import MANAGEMENT_ONLY, answers
from bursar.api._door import Manager
from bursar.audit import Change, Detail, EventFilter, Kind
from bursar.kernel.ids import is_id
from bursar.kernel.paging import PAGE_ITEMS_DEFAULT, Cursor
from bursar.reports import AuditRow
from bursar.storage import Database, Scope

PAGE_EVENTS_MAX = 100


def _moment(text: Any) -> Any:
    """In UTC; what lies before all events or far ahead is as near as an id can tell."""
    if not isinstance(text, str):
        return text
    if not _TIME.match(text):
        raise ValueError("write a time with its zone, like 2026-11-01T00:00:00Z")
    try:
        return max(datetime.fromisoformat(text.upper()).astimezone(UTC), _EARLIEST)
    except OverflowError:
        return _EARLIEST if text.startswith("0") else _LATEST
    except ValueError:
        raise ValueError("there is no such time") from None


_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$", re.ASCII)
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
Moment = Annotated[
    datetime | None,
    BeforeValidator(_moment),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
]


def router(database: Database, managed: Any) -> APIRouter:
    routes = APIRouter(tags=["Audit"])

    @routes.get(
        "/audit-events",
        summary="Who changed what",
        operation_id="listAuditEvents",
        responses=answers(_schemas.AuditEventsAnswer, 400, 401, 403, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def list_audit_events(
        kind: Annotated[Kind | None, Query(description="What it is about.")] = None,
        action: Annotated[str | None, Query(max_length=48, description="Exactly, like `key.created`.")] = None,
        actor: Annotated[
            str | None, Query(max_length=40, description="A user's or a key's id, `operator` or `system`.")
        ] = None,
        since: Annotated[Moment, Query(description="At or after this time.")] = None,
        until: Annotated[Moment, Query(description="Before this time.")] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_EVENTS_MAX)] = PAGE_ITEMS_DEFAULT,
        cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
        manager: Manager = managed,
    ) -> Response:
        """Of the owner that the management key belongs to, newest first. Events are never changed or removed, and hold no secrets."""
        wanted = EventFilter(kind, action, actor, since, until)
        async with database.snapshot(Scope(manager.owner)) as snapshot:
            page = await reports.audit_log(snapshot, manager.owner, wanted, _cursor(cursor), limit)
        return json_answer({"data": [_event(row) for row in page.items], "next_cursor": page.older})

    return routes


def _cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    cursor = Cursor.decode(text)
    if cursor is None or cursor.direction != "older" or not is_id(cursor.id, "evt"):
        raise InvalidParameter("cursor: it is none of ours.", remedy="Send `next_cursor` as it was answered.")
    return cursor


def _event(row: AuditRow) -> dict[str, Any]:
    event = row.event
    return {
        "id": event.id,
        "at": time_text(event.at),
        "action": event.action,
        "sentence": f"{row.actor} {row.sentence}",
        "actor": {
            "kind": event.actor.kind.value,
            "name": row.actor,
            "user_id": event.actor.user,
            "key_id": event.actor.key,
            "address": event.actor.address,
        },
        "context_id": event.owner,
        "subject": {"id": event.subject, "name": row.subject},
        "details": {name: value for name, value in event.details.items() if not isinstance(value, Change)},
        "changes": {name: _change(value) for name, value in event.details.items() if isinstance(value, Change)},
    }


def _change(change: Change) -> dict[str, Detail]:
    return {"before": change.before, "after": change.after}
