from sqlalchemy import BigInteger, CheckConstraint, Column, Index, String, Table, Text, text

from bursar.storage import UtcTime, metadata

accounts = Table(
    "accounts",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("account", String(24), primary_key=True),
    Column("balance_nanos", BigInteger, nullable=False),
    # The law in the database: only the installation's own far-side accounts may be negative.
    CheckConstraint("owner_id = 'system' OR balance_nanos >= 0", name="never_negative"),
    sqlite_with_rowid=False,
)
"""A balance is the sum of its entries, kept so that nobody has to add them up; `ledger.verify` adds them up."""

transfers = Table(
    "transfers",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("id", String(48), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("debit", String(24), nullable=False),
    Column("credit", String(24), nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("reference", String(48)),
    Column("reason", Text),
    Column("at", UtcTime, nullable=False),
    CheckConstraint("amount_nanos > 0", name="positive"),
    CheckConstraint("debit <> credit", name="two_accounts"),
    Index("ix_transfers_owner_kind", "owner_id", "kind", "at"),
    Index("ix_transfers_moves", "id", sqlite_where=text("kind = 'move'"), postgresql_where=text("kind = 'move'")),
    sqlite_with_rowid=False,
)
"""Money moved from the account `debit` to the account `credit`: two entries in one row. `system:*` accounts are the installation's,
the others the owner's. Never updated, never deleted (triggers refuse)."""

holds = Table(
    "holds",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("generation_id", String(48), primary_key=True),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("node", String(40), nullable=False),
    Column("price_version", String(40), nullable=False),
    Column("key_id", String(40)),
    Column("user_id", String(40), nullable=False),
    Column("model", String(120), nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    CheckConstraint("amount_nanos >= 0", name="not_negative"),
    Index("ix_holds_open", "state", "node"),
    sqlite_with_rowid=False,
)
"""One request's reserve, and the durable trace that it was dispatched; resolved exactly once."""

leases = Table(
    "leases",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("worker", String(40), primary_key=True),
    Column("amount_nanos", BigInteger, nullable=False),
    CheckConstraint("amount_nanos >= 0", name="not_negative"),
    Index("ix_leases_worker", "worker"),
    sqlite_with_rowid=False,
)
"""Which part of an owner's `leased` account is whose to spend; over all workers they add up to the account."""

workers = Table(
    "workers",
    metadata,
    Column("worker", String(40), primary_key=True),
    Column("node", String(40), nullable=False),
    Column("watermark", BigInteger, nullable=False),
    Column("chain", String(64), nullable=False),
    Column("batches", BigInteger, nullable=False),
    Column("batches_unkept", BigInteger, nullable=False, server_default="0"),
    Column("started_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("stopped_at", UtcTime),
    Column("host", String(255)),
    Column("journaled", BigInteger, nullable=False, server_default="0"),
    Column("forgotten_at", UtcTime),
    Column("heard_at", UtcTime),
    CheckConstraint("watermark >= 0", name="from_nothing"),
    sqlite_with_rowid=False,
)
"""How far each worker's journal was applied. A watermark never goes back and a worker is never deleted (triggers refuse): either
would apply settlements twice. Times are the database's. `batches_unkept` of its first batches were applied by a version that did not
keep them in `batches`."""

batches = Table(
    "batches",
    metadata,
    Column("worker", String(40), primary_key=True),
    Column("first_lsn", BigInteger, primary_key=True),
    Column("last_lsn", BigInteger, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("contents", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    CheckConstraint("first_lsn >= 1 AND last_lsn >= first_lsn", name="in_order"),
    sqlite_with_rowid=False,
)
"""What each applied batch did (`contents_of`), with the hash over that and over the batch before it: a charge that was changed, and
which one, can be told. Never updated, never deleted (triggers refuse)."""

corrections = Table(
    "corrections",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("id", String(48), primary_key=True),
    Column("corrects", String(48), nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("proposed_by", String(40)),
    Column("proposed_at", UtcTime, nullable=False),
    Column("decided_by", String(40)),
    Column("decided_at", UtcTime),
    CheckConstraint("amount_nanos > 0", name="positive"),
    Index("ix_corrections_corrects", "owner_id", "corrects"),
    sqlite_with_rowid=False,
)
"""What an operator proposes to correct; confirmed, it becomes the transfer of the same id."""

limits = Table(
    "limits",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("subject", String(40), primary_key=True),
    Column("period", String(8), nullable=False),
    Column("limit_nanos", BigInteger, nullable=False),
    CheckConstraint("limit_nanos >= 0", name="not_negative"),
    sqlite_with_rowid=False,
)
"""How much a key, a user or the owner itself may spend in a window. No row, no limit."""

allowances = Table(
    "allowances",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("subject", String(40), primary_key=True),
    Column("period", String(8), primary_key=True),
    Column("since", UtcTime, primary_key=True),
    Column("used_nanos", BigInteger, nullable=False),
    Column("leased_nanos", BigInteger, nullable=False),
    CheckConstraint("used_nanos >= 0 AND leased_nanos >= 0", name="not_negative"),
    sqlite_with_rowid=False,
)
"""One window of a limit: what the activity of that window cost, and what is handed out beside it. Not credits: limits may add up to
more than there is."""

allowance_leases = Table(
    "allowance_leases",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("subject", String(40), primary_key=True),
    Column("period", String(8), primary_key=True),
    Column("since", UtcTime, primary_key=True),
    Column("holder", String(48), primary_key=True),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("lease_id", String(48)),
    Column("lease_nanos", BigInteger),
    Column("return_id", String(48)),
    Column("return_nanos", BigInteger),
    CheckConstraint("amount_nanos >= 0", name="not_negative"),
    Index("ix_allowance_leases_holder", "holder"),
    sqlite_with_rowid=False,
)
"""Which part of an allowance's `leased_nanos` is whose: a worker's, or (`durability=database`) one running request's. The latest
lease and the latest return stand here by their ids, so that repeating one whose answer was lost does nothing twice."""
