"""Tokens of sound, of images and of caches that last an hour; the prices that charges were made at.

A price is stored once, by the version that its numbers make, and never changed: whoever explains an old charge reads what was pinned
in it, whatever the catalogue says today.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"

ROLE = "bursar_app"
TOKENS = ("cache_write_1h_tokens", "audio_tokens", "image_tokens", "audio_output_tokens", "image_output_tokens")
PIECES = ("images", "sounds", "media_made")


def upgrade() -> None:
    for name in TOKENS:
        op.add_column("generations", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    for name in PIECES:
        op.add_column("generations", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "price_versions",
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("prices", sa.Text(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_price_versions")),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        guard_postgresql()
    else:
        guard_sqlite()


def guard_sqlite() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER price_versions_no_{verb.lower()} BEFORE {verb} ON price_versions "
            "BEGIN SELECT RAISE(ABORT, 'prices are never changed'); END"
        )


def guard_postgresql() -> None:
    op.execute(f"GRANT SELECT, INSERT ON price_versions TO {ROLE}")
    op.execute(
        """
        CREATE FUNCTION bursar_prices_kept() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'prices are never changed';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER price_versions_kept BEFORE UPDATE OR DELETE ON price_versions "
        "FOR EACH ROW EXECUTE FUNCTION bursar_prices_kept()"
    )
    op.execute(
        "CREATE TRIGGER price_versions_no_truncate BEFORE TRUNCATE ON price_versions "
        "FOR EACH STATEMENT EXECUTE FUNCTION bursar_prices_kept()"
    )
