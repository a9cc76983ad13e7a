"""Every applied batch is kept with its hash, the house's loss is booked, and corrections are proposed before they are posted.

Batches name many owners and belong to the installation: on PostgreSQL only the system's scope sees them. How many batches a worker
applied before they were kept stands in `workers.batches_unkept`.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision = "v0004"

ROLE = "bursar_app"


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("worker", sa.String(length=40), nullable=False),
        sa.Column("first_lsn", sa.BigInteger(), nullable=False),
        sa.Column("last_lsn", sa.BigInteger(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("contents", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("first_lsn >= 1 AND last_lsn >= first_lsn", name=op.f("ck_batches_in_order")),
        sa.PrimaryKeyConstraint("worker", "first_lsn", name=op.f("pk_batches")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "corrections",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("corrects", sa.String(length=48), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("proposed_by", sa.String(length=40), nullable=True),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_by", sa.String(length=40), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("amount_nanos > 0", name=op.f("ck_corrections_positive")),
        sa.PrimaryKeyConstraint("owner_id", "id", name=op.f("pk_corrections")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_corrections_corrects", "corrections", ["owner_id", "corrects"], unique=False)
    op.add_column("generations", sa.Column("house_nanos", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("workers", sa.Column("batches_unkept", sa.BigInteger(), server_default="0", nullable=False))
    op.execute("UPDATE workers SET batches_unkept = batches")
    if op.get_bind().dialect.name == "postgresql":
        guard_postgresql()
    else:
        guard_sqlite()


def guard_sqlite() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER batches_no_{verb.lower()} BEFORE {verb} ON batches "
            "BEGIN SELECT RAISE(ABORT, 'batches are append-only'); END"
        )


def guard_postgresql() -> None:
    op.execute(f"GRANT SELECT, INSERT ON batches TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON corrections TO {ROLE}")
    me = "current_setting('bursar.owner', true)"
    for table, condition in (("batches", f"{me} = '*'"), ("corrections", f"{me} = '*' OR owner_id = {me}")):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {table}_of_owner ON {table} USING ({condition}) WITH CHECK ({condition})")
    op.execute(
        "CREATE TRIGGER batches_append_only BEFORE UPDATE OR DELETE ON batches "
        "FOR EACH ROW EXECUTE FUNCTION bursar_append_only()"
    )
    op.execute(
        "CREATE TRIGGER batches_no_truncate BEFORE TRUNCATE ON batches "
        "FOR EACH STATEMENT EXECUTE FUNCTION bursar_append_only()"
    )
