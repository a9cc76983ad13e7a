from sqlalchemy import BigInteger, CheckConstraint, Column, Index, String, Table, Text, UniqueConstraint

from bursar.storage import UtcTime, metadata

purchases = Table(
    "purchases",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("id", String(40), primary_key=True),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("processor", String(16), nullable=False),
    Column("processor_event", String(80), unique=True),
    Column("created_by", String(40), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    # Made by a page, so that a double click is the same purchase; one id never means two owners' purchases.
    UniqueConstraint("id"),
    CheckConstraint("amount_nanos > 0", name="positive"),
)

credit_moves = Table(
    "credit_moves",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("note", Text),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    Column("closed_by", String(40)),
    Column("answer", Text),
    CheckConstraint("amount_nanos > 0", name="positive"),
    Index("ix_credit_moves_state", "state", "id"),
)
"""Requests to move personal credits (`owner_id`) to an organization; the operator carries them out or refuses."""
