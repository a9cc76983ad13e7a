"""Who changed what: one event in the transaction that changes it, append-only, with nothing secret in it."""

from bursar.audit._store import AuditEvent, list_events, record

__all__ = ["AuditEvent", "list_events", "record"]
