"""Leases, and how far each worker's journal was applied.

Leases belong to owners and get row-level security like the other tables of owners. Workers belong to the installation; a trigger
keeps their watermarks from going back and their rows from being deleted.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"

ROLE = "bursar_app"


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("worker", sa.String(length=40), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount_nanos >= 0", name=op.f("ck_leases_not_negative")),
        sa.PrimaryKeyConstraint("owner_id", "worker", name=op.f("pk_leases")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_leases_worker", "leases", ["worker"], unique=False)
    op.create_table(
        "workers",
        sa.Column("worker", sa.String(length=40), nullable=False),
        sa.Column("node", sa.String(length=40), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.String(length=64), nullable=False),
        sa.Column("batches", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("watermark >= 0", name=op.f("ck_workers_from_nothing")),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_workers")),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        guard_postgresql()
    else:
        guard_sqlite()


def guard_sqlite() -> None:
    op.execute(
        "CREATE TRIGGER workers_no_way_back BEFORE UPDATE ON workers WHEN NEW.watermark < OLD.watermark "
        "BEGIN SELECT RAISE(ABORT, 'a watermark never goes back'); END"
    )
    op.execute(
        "CREATE TRIGGER workers_no_delete BEFORE DELETE ON workers "
        "BEGIN SELECT RAISE(ABORT, 'workers are never deleted'); END"
    )


def guard_postgresql() -> None:
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON leases TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON workers TO {ROLE}")
    me = "current_setting('bursar.owner', true)"
    condition = f"{me} = '*' OR owner_id = {me}"
    op.execute("ALTER TABLE leases ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE leases FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY leases_of_owner ON leases USING ({condition}) WITH CHECK ({condition})")
    op.execute(
        """
        CREATE FUNCTION bursar_watermark_kept() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'UPDATE' THEN
                RAISE EXCEPTION 'workers are never deleted';
            ELSIF NEW.watermark < OLD.watermark THEN
                RAISE EXCEPTION 'a watermark never goes back';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER workers_watermark BEFORE UPDATE OR DELETE ON workers "
        "FOR EACH ROW EXECUTE FUNCTION bursar_watermark_kept()"
    )
    op.execute(
        "CREATE TRIGGER workers_no_truncate BEFORE TRUNCATE ON workers "
        "FOR EACH STATEMENT EXECUTE FUNCTION bursar_watermark_kept()"
    )
