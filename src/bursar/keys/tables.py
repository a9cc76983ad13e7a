from sqlalchemy import Boolean, Column, Index, String, Table, false

from bursar.storage import UtcTime, metadata

keys = Table(
    "keys",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("id", String(40), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(100), nullable=False),
    Column("label", String(40), nullable=False),
    Column("creator_id", String(40), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime),
    Column("disabled_at", UtcTime),
    Column("deleted_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("include_byok_in_limit", Boolean, nullable=False, server_default=false()),
    Column("expires_at", UtcTime),
    Column("previous_hash", String(64)),
    Column("previous_label", String(40)),
    Column("previous_until", UtcTime),
    Column("rotated_at", UtcTime),
    Column("last_used_address", String(64)),
    Index("ix_keys_owner_creator", "owner_id", "creator_id"),
    Index("uq_keys_previous_hash", "previous_hash", unique=True),
)
"""A deleted key keeps its row: the activity it caused still has a name. A key that was rotated still answers to `previous_hash` until `previous_until`."""
