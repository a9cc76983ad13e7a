from sqlalchemy import BigInteger, CheckConstraint, Column, String, Table, UniqueConstraint

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
