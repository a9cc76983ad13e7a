from sqlalchemy import Column, Index, String, Table, Text

from bursar.storage import UtcTime, metadata

audit_events = Table(
    "audit_events",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("id", String(40), primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("action", String(48), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("actor_kind", String(16), nullable=False),
    Column("actor_user_id", String(40)),
    Column("actor_key_id", String(40)),
    Column("address", String(64)),
    Column("details", Text, nullable=False),
    Index("ix_audit_events_actor_kind", "actor_kind", "id"),
    Index("ix_audit_events_owner_action", "owner_id", "action", "id"),
)
"""Never updated, never deleted (triggers refuse)."""
