"""Workers of several nodes: what an operator sees of them, who runs the jobs, and a knock when something changed.

On PostgreSQL a trigger dates each change by the database's clock, which is nobody's in particular, and notifies whoever listens
when the transaction commits: no statement more than before.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision = "v0005"

ROLE = "bursar_app"


def upgrade() -> None:
    op.add_column("workers", sa.Column("host", sa.String(length=255), nullable=True))
    op.add_column("workers", sa.Column("journaled", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("workers", sa.Column("forgotten_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "holders",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.String(length=40), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_holders")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON holders TO {ROLE}")
        knock_on_change()


def knock_on_change() -> None:
    op.execute(
        """
        CREATE FUNCTION bursar_change_made() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.at := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
            PERFORM pg_notify('bursar_changes', '');
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER changes_knock BEFORE INSERT ON changes FOR EACH ROW EXECUTE FUNCTION bursar_change_made()"
    )
