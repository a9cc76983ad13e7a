"""Storage's own tables: what belongs to the installation rather than to an owner."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text

from bursar.storage._types import UtcTime, metadata

installation = Table(
    "installation",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts about this installation by name, such as the fingerprint of its secret."""

changes = Table(
    "changes",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("node", String(40), nullable=False),  # the process that announced it, of many on one node
    Column("kind", String(40), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("at", UtcTime, nullable=False, index=True),
)
"""What was announced, so that other processes hear it; kept for an hour. On PostgreSQL a trigger writes `at` by the database's clock."""

holders = Table(
    "holders",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("holder", String(40), nullable=False),
    Column("until", UtcTime, nullable=False),
)
"""What only one process does at a time, and which one until when, by the database's time."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("topic", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    Column("sealed", LargeBinary),
    Column("summary", Text, nullable=False),
    Column("reference", String(80), index=True),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcTime, nullable=False),
    Column("last_error", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("done_at", UtcTime),
    Index("ix_outbox_state_next", "state", "next_attempt_at"),
)
"""Side effects that wait for the commit. `sealed` holds the whole message and is emptied once it left; `summary` has no secret."""

repeats = Table(
    "repeats",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("caller", String(40), primary_key=True),
    Column("name_hash", String(64), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False, index=True),
)
"""What was answered to a request that carried an Idempotency-Key, without its secret; kept for a day."""
