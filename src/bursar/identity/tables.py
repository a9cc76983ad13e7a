from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text

from bursar.storage import UtcTime, metadata

users = Table(
    "users",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("email", String(254), nullable=False),
    Column("email_normalized", String(254), nullable=False, unique=True),
    Column("name", String(100), nullable=False),
    Column("password_hash", Text),
    Column("email_verified_at", UtcTime),
    Column("is_operator", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
)
"""A deleted person keeps the row, without name, address and password: activity and audit still have somebody."""

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("user_id", String(40), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("address", String(64)),
    Column("user_agent", String(300)),
    Column("id", String(40)),
    Column("seen_at", UtcTime),
    Column("proved_at", UtcTime),
)
"""`id` names a session where its token must not be known; `proved_at` says when the person last proved who they are (step-up)."""

links = Table(
    "links",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("user_id", String(40), nullable=False),
    Column("purpose", String(20), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("spent_at", UtcTime),
    Column("detail", Text),
    Index("ix_links_user_purpose", "user_id", "purpose"),
)
"""One-time links; a newer one of the same purpose replaces the older. `detail`: what it is about, such as a new address."""

second_factors = Table(
    "second_factors",
    metadata,
    Column("user_id", String(40), primary_key=True),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("confirmed_at", UtcTime),
    Column("last_step", BigInteger, nullable=False),
)
"""TOTP: in force once confirmed. `last_step` is the last time step that was accepted, so that no code works twice."""

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("user_id", String(40), primary_key=True),
    Column("code_hash", String(64), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
    Column("spent_at", UtcTime),
)

attempts = Table(
    "attempts",
    metadata,
    Column("subject_hash", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", UtcTime, nullable=False, index=True),
)
"""Failed attempts by what was tried (a hash: an address that was tried need not be somebody's), for the back-off."""
