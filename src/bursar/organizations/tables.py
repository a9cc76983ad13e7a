from sqlalchemy import Boolean, Column, Index, Integer, String, Table, false, text

from bursar.storage import UtcTime, metadata

organizations = Table(
    "organizations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("slug", String(48), nullable=False, unique=True),
    Column("name", String(80), nullable=False),
    Column("seats_max", Integer, nullable=False),
    Column("created_by", String(40), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("billing_email", String(254)),
    Column("is_catalog_filtered", Boolean, nullable=False, server_default=false()),
    Column("deleted_at", UtcTime),
)

memberships = Table(
    "memberships",
    metadata,
    Column("organization_id", String(40), primary_key=True),
    Column("user_id", String(40), primary_key=True),
    Column("since", UtcTime, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("ended_at", UtcTime),
    Index(
        "uq_memberships_current",
        "organization_id",
        "user_id",
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index("ix_memberships_user", "user_id"),
)
"""One row per period of membership: someone who left and came back has two."""

invitations = Table(
    "invitations",
    metadata,
    Column("organization_id", String(40), primary_key=True),
    Column("id", String(40), primary_key=True),
    Column("email", String(254), nullable=False),
    Column("email_normalized", String(254), nullable=False),
    Column("role", String(16), nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("invited_by", String(40), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("closed_at", UtcTime),
    Column("accepted_by", String(40)),
    Index(
        "uq_invitations_pending",
        "organization_id",
        "email_normalized",
        unique=True,
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index("ix_invitations_email", "email_normalized"),
)
"""A pending one that has not expired holds a seat; one address has at most one that is pending."""
