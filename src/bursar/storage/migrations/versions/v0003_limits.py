"""Limits, what was used of them in which window, and which part of the rest is whose to spend.

All three belong to owners and get row-level security like the other tables of owners.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"

ROLE = "bursar_app"
OWNED = ("limits", "allowances", "allowance_leases")


def upgrade() -> None:
    op.create_table(
        "limits",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("limit_nanos", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("limit_nanos >= 0", name=op.f("ck_limits_not_negative")),
        sa.PrimaryKeyConstraint("owner_id", "subject", name=op.f("pk_limits")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "allowances",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("used_nanos", sa.BigInteger(), nullable=False),
        sa.Column("leased_nanos", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("used_nanos >= 0 AND leased_nanos >= 0", name=op.f("ck_allowances_not_negative")),
        sa.PrimaryKeyConstraint("owner_id", "subject", "period", "since", name=op.f("pk_allowances")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "allowance_leases",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=48), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("lease_id", sa.String(length=48), nullable=True),
        sa.Column("lease_nanos", sa.BigInteger(), nullable=True),
        sa.Column("return_id", sa.String(length=48), nullable=True),
        sa.Column("return_nanos", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("amount_nanos >= 0", name=op.f("ck_allowance_leases_not_negative")),
        sa.PrimaryKeyConstraint("owner_id", "subject", "period", "since", "holder", name=op.f("pk_allowance_leases")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_allowance_leases_holder", "allowance_leases", ["holder"], unique=False)
    op.add_column(
        "keys", sa.Column("include_byok_in_limit", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    if op.get_bind().dialect.name == "postgresql":
        guard_postgresql()


def guard_postgresql() -> None:
    me = "current_setting('bursar.owner', true)"
    condition = f"{me} = '*' OR owner_id = {me}"
    for table in OWNED:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {table}_of_owner ON {table} USING ({condition}) WITH CHECK ({condition})")
