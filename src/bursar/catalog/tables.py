from sqlalchemy import Column, String, Table, Text

from bursar.storage import UtcTime, metadata

price_versions = Table(
    "price_versions",
    metadata,
    Column("version", String(40), primary_key=True),
    Column("prices", Text, nullable=False),
    Column("stored_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)
"""Every set of prices that anything was ever offered at. `prices`: a JSON object of USD per unit as text, by class. Append-only."""
