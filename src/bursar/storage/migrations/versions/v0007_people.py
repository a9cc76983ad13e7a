"""People and organizations whole: second factors, failed attempts, invitations, moving credits, keys that expire and rotate, repeats.

What belongs to an owner gets row-level security like the other tables of owners; what belongs to a person is seen in that
person's scope.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0007"
down_revision = "v0006"

ROLE = "bursar_app"
POLICIES = {
    "second_factors": "user_id = {me}",
    "recovery_codes": "user_id = {me}",
    "invitations": "organization_id = {me}",
    "credit_moves": "owner_id = {me}",
    "repeats": "owner_id = {me}",
}


def upgrade() -> None:
    op.execute("DELETE FROM sessions")  # they have neither name nor proof: everybody signs in once more
    add_columns()
    create_tables()
    if op.get_bind().dialect.name == "postgresql":
        guard_postgresql()


def add_columns() -> None:
    op.add_column("users", sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    op.add_column("sessions", sa.Column("id", sa.String(length=40), nullable=True))
    op.add_column("sessions", sa.Column("seen_at", sa.BigInteger(), nullable=True))
    op.add_column("sessions", sa.Column("proved_at", sa.BigInteger(), nullable=True))
    op.add_column("links", sa.Column("detail", sa.Text(), nullable=True))
    op.add_column("organizations", sa.Column("billing_email", sa.String(length=254), nullable=True))
    op.add_column(
        "organizations", sa.Column("is_catalog_filtered", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("organizations", sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    op.add_column("keys", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.add_column("keys", sa.Column("previous_hash", sa.String(length=64), nullable=True))
    op.add_column("keys", sa.Column("previous_label", sa.String(length=40), nullable=True))
    op.add_column("keys", sa.Column("previous_until", sa.BigInteger(), nullable=True))
    op.add_column("keys", sa.Column("rotated_at", sa.BigInteger(), nullable=True))
    op.create_index("uq_keys_previous_hash", "keys", ["previous_hash"], unique=True)
    op.add_column("keys", sa.Column("last_used_address", sa.String(length=64), nullable=True))
    op.add_column("workers", sa.Column("heard_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_audit_events_actor_kind", "audit_events", ["actor_kind", "id"])
    moves = sa.text("kind = 'move'")
    op.create_index("ix_transfers_moves", "transfers", ["id"], sqlite_where=moves, postgresql_where=moves)
    op.create_index("ix_audit_events_owner_action", "audit_events", ["owner_id", "action", "id"])


def create_tables() -> None:
    op.create_table(
        "second_factors",
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_second_factors")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("spent_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("user_id", "code_hash", name=op.f("pk_recovery_codes")),
    )
    op.create_table(
        "attempts",
        sa.Column("subject_hash", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject_hash", name=op.f("pk_attempts")),
    )
    op.create_index("ix_attempts_last_at", "attempts", ["last_at"])
    op.create_table(
        "invitations",
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("email_normalized", sa.String(length=254), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("invited_by", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("accepted_by", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_invitations_token_hash")),
    )
    pending = sa.text("state = 'pending'")
    op.create_index(
        "uq_invitations_pending",
        "invitations",
        ["organization_id", "email_normalized"],
        unique=True,
        sqlite_where=pending,
        postgresql_where=pending,
    )
    op.create_index("ix_invitations_email", "invitations", ["email_normalized"])
    op.create_table(
        "credit_moves",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("organization_id", sa.String(length=40), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_by", sa.String(length=40), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.CheckConstraint("amount_nanos > 0", name=op.f("ck_credit_moves_positive")),
        sa.PrimaryKeyConstraint("owner_id", "id", name=op.f("pk_credit_moves")),
    )
    op.create_index("ix_credit_moves_state", "credit_moves", ["state", "id"])
    op.create_table(
        "repeats",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("caller", sa.String(length=40), nullable=False),
        sa.Column("name_hash", sa.String(length=64), nullable=False),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "caller", "name_hash", name=op.f("pk_repeats")),
    )
    op.create_index("ix_repeats_created_at", "repeats", ["created_at"])


def guard_postgresql() -> None:
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON attempts TO {ROLE}")
    me = "current_setting('bursar.owner', true)"
    for table, rule in POLICIES.items():
        condition = f"{me} = '*' OR " + rule.format(me=me)
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {table}_of_owner ON {table} USING ({condition}) WITH CHECK ({condition})")
