"""The schema: made from nothing, made once, and the same as what the rooms declare."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, text

from bursar import ledger, storage
from bursar.kernel.ids import GenerationId, OwnerId, WorkerId
from bursar.kernel.money import Nanos
from bursar.ledger import Balance
from bursar.storage import SYSTEM, Database, Scope, metadata
from bursar.storage._migrate import _SCRIPTS, SchemaNewer
from tests.conftest import BACKENDS, open_database
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BACKENDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"empty_{request.node.name.partition('[')[0].removeprefix('test_')[:40]}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
async def empty(empty_url: str):
    made = open_database(empty_url)
    yield made
    await made.close()


async def test_an_empty_database_is_brought_to_the_newest_schema_and_the_second_time_nothing_is_done(empty: Database):
    assert await storage.current_revision(empty) is None
    assert await storage.migrate(empty) is True
    assert await storage.current_revision(empty) == storage.head_revision()
    assert await storage.migrate(empty) is False


async def test_two_that_migrate_at_once_do_it_once(empty: Database, empty_url: str):
    other = open_database(empty_url, node="node_other")
    try:
        done = await asyncio.gather(storage.migrate(empty), storage.migrate(other))
    finally:
        await other.close()
    assert sorted(done) == [False, True]


async def test_the_schema_is_what_the_rooms_declare(database: Database):
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))

    engine = database.owner_engine()
    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    assert found == []


async def test_every_check_constraint_that_the_rooms_declare_is_in_the_database(database: Database):
    declared = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    query = {
        "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'table'",
        "postgresql": "SELECT conname FROM pg_constraint WHERE contype = 'c'",
    }[database.dialect]
    async with database.snapshot(SYSTEM) as snapshot:
        present = "\n".join(str(row[0]) for row in await snapshot.all(text(query)))
    assert len(declared) >= 5
    assert {name for name in declared if name not in present} == set()


async def upgrade_to(database: Database, revision: str) -> None:
    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(_SCRIPTS))
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision)

    engine = database.owner_engine()
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


BOOKS_OF_V0001 = """
INSERT INTO accounts (owner_id, account, balance_nanos) VALUES
    ('system', 'system:grants', -100), ('org_acme', 'credits', 60), ('org_acme', 'held', 10), ('org_acme', 'spent', 30);
INSERT INTO transfers (owner_id, id, kind, debit, credit, amount_nanos, at) VALUES
    ('org_acme', 'tr_1', 'grant', 'system:grants', 'credits', 100, 1), ('org_acme', 'hold-gen-1', 'hold', 'credits', 'held', 30, 2),
    ('org_acme', 'charge-gen-1', 'charge', 'held', 'spent', 30, 3), ('org_acme', 'hold-gen-2', 'hold', 'credits', 'held', 10, 4);
INSERT INTO holds (owner_id, generation_id, amount_nanos, state, node, price_version, user_id, model, opened_at) VALUES
    ('org_acme', 'gen-1', 30, 'settled', 'node_1', 'v1', 'user_1', 'demo/echo-1', 2),
    ('org_acme', 'gen-2', 10, 'open', 'node_1', 'v1', 'user_1', 'demo/echo-1', 4)
"""


async def test_books_of_the_first_schema_are_the_same_afterwards_and_can_be_leased_from(empty: Database):
    await upgrade_to(empty, "v0001")
    async with empty.begin(SYSTEM) as tx:
        for statement in BOOKS_OF_V0001.split(";"):
            await tx.execute(text(statement))
    assert await storage.migrate(empty) is True
    acme, worker = OwnerId("org_acme"), WorkerId("node_1.1")
    async with empty.begin(Scope(acme)) as tx:
        assert await ledger.balance(tx, acme) == Balance(Nanos(60), Nanos(0), Nanos(10), Nanos(30))
        await ledger.register_worker(tx, worker, "node_1")
        assert await ledger.lease(tx, acme, worker, Nanos(100), transfer_id="lease-1") == 60
        assert await ledger.settle_hold(tx, acme, GenerationId("gen-2"), Nanos(4)) == 4
    async with empty.snapshot(SYSTEM) as snapshot:
        found = await ledger.verify(snapshot)
    assert (found.drift, found.available, found.leased, found.held, found.spent) == (0, 66, 60, 0, 34)


async def test_a_database_of_a_later_version_is_refused_and_left_alone(database: Database):
    engine = database.owner_engine()
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'v9999'"))
    await engine.dispose()
    with pytest.raises(SchemaNewer, match="v9999"):
        await storage.migrate(database)
    assert await storage.current_revision(database) == "v9999"


async def test_a_migration_that_fails_leaves_no_half_schema(empty: Database, monkeypatch: pytest.MonkeyPatch):
    real = alembic.command.upgrade

    def fails_at_the_end(config, revision):
        real(config, revision)
        raise RuntimeError("as if the machine stopped here")

    monkeypatch.setattr(alembic.command, "upgrade", fails_at_the_end)
    with pytest.raises(RuntimeError):
        await storage.migrate(empty)
    assert await storage.current_revision(empty) is None
    monkeypatch.undo()
    assert await storage.migrate(empty) is True
