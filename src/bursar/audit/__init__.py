"""Who changed what: one event in the transaction that changes it, append-only, with nothing secret in it."""

from bursar.audit._store import (
    REDACTED,
    WORDS,
    AuditEvent,
    Change,
    Detail,
    EventFilter,
    Kind,
    addresses_of,
    find_event,
    list_actors,
    list_events,
    page_events,
    record,
)

__all__ = [
    "REDACTED",
    "WORDS",
    "AuditEvent",
    "Change",
    "Detail",
    "EventFilter",
    "Kind",
    "addresses_of",
    "find_event",
    "list_actors",
    "list_events",
    "page_events",
    "record",
]
