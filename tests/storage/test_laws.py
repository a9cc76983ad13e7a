"""Laws that the database itself keeps, also against whoever owns the schema."""

import itertools

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from bursar import ledger
from bursar.storage import SYSTEM, Database
from tests.conftest import Cast

pytestmark = pytest.mark.anyio

APPEND_ONLY = ("transfers", "audit_events")
CHANGES = ("UPDATE {table} SET owner_id = owner_id", "DELETE FROM {table}")


async def as_owner(database: Database, *statements: str) -> None:
    """Runs statements as the role that owns the schema, whom no grant binds."""
    engine = database.owner_engine()
    try:
        async with engine.begin() as connection:
            if database.dialect == "postgresql":
                await connection.execute(text("SELECT set_config('bursar.owner', '*', true)"))
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await engine.dispose()


async def count(database: Database, table: str) -> int:
    async with database.snapshot(SYSTEM) as snapshot:
        return int(await snapshot.scalar(text(f"SELECT count(*) FROM {table}")))


async def test_what_is_append_only_cannot_be_changed_even_by_its_owner(database: Database, cast: Cast):
    for table, change in itertools.product(APPEND_ONLY, CHANGES):
        before = await count(database, table)
        assert before > 0
        with pytest.raises(DBAPIError, match="append-only"):
            await as_owner(database, change.format(table=table))
        assert await count(database, table) == before


async def test_what_is_append_only_cannot_be_emptied_on_postgresql(postgres_database: Database):
    for table in APPEND_ONLY:
        with pytest.raises(DBAPIError, match="append-only"):
            await as_owner(postgres_database, f"TRUNCATE {table}")


async def test_the_application_has_not_even_the_right_to_on_postgresql(postgres_database: Database):
    for table, change in itertools.product(APPEND_ONLY, (*CHANGES, "TRUNCATE {table}")):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with postgres_database.begin(SYSTEM) as tx:
                await tx.execute(text(change.format(table=table)))


async def test_a_balance_below_zero_is_refused_by_the_database_itself(database: Database, cast: Cast):
    with pytest.raises(IntegrityError, match="never_negative"):
        async with database.begin(SYSTEM) as tx:
            await tx.execute(text(f"UPDATE accounts SET balance_nanos = -1 WHERE owner_id = '{cast.owner}'"))
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await ledger.balance(snapshot, cast.owner)).available == 10_000_000_000


async def test_the_installations_own_side_may_be_negative(database: Database, cast: Cast):
    async with database.snapshot(SYSTEM) as snapshot:
        far = await snapshot.scalar(text("SELECT balance_nanos FROM accounts WHERE owner_id = 'system'"))
    assert far == -10_000_000_000


async def test_a_transfer_moves_something_to_somewhere_else(database: Database, cast: Cast):
    for amount, debit, credit in ((0, "credits", "held"), (-5, "credits", "held"), (5, "held", "held")):
        with pytest.raises(IntegrityError, match=r"positive|two_accounts"):
            async with database.begin(SYSTEM) as tx:
                await tx.execute(
                    text(
                        "INSERT INTO transfers (owner_id, id, kind, debit, credit, amount_nanos, at) "
                        f"VALUES ('{cast.owner}', 'tr_x', 'hold', '{debit}', '{credit}', {amount}, 0)"
                    )
                )


async def test_a_person_cannot_be_a_member_twice_at_once(database: Database, cast: Cast):
    with pytest.raises(IntegrityError):
        async with database.begin(SYSTEM) as tx:
            await tx.execute(
                text(
                    "INSERT INTO memberships (organization_id, user_id, since, role) "
                    f"VALUES ('{cast.acme.id}', '{cast.member.id}', 1, 'admin')"
                )
            )
