"""The schema: made from nothing, made once, and the same as what the rooms declare."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, text

from bursar import storage
from bursar.storage import SYSTEM, Database, metadata
from bursar.storage._migrate import SchemaNewer
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


async def test_a_database_of_a_later_version_is_refused_and_left_alone(database: Database):
    engine = database.owner_engine()
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'v9999'"))
    await engine.dispose()
    with pytest.raises(SchemaNewer, match="v9999"):
        await storage.migrate(database)
    assert await storage.current_revision(database) == "v9999"


async def test_a_migration_that_fails_leaves_no_half_schema(empty: Database, monkeypatch: pytest.MonkeyPatch):
    import alembic.command

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
