"""A database that is away is `DatabaseUnavailable`; what a caller raises for itself stays what it is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from bursar import storage
from bursar.kernel.errors import SettingsError
from bursar.storage import SYSTEM, Database
from bursar.storage import _database as module
from bursar.storage._database import DatabaseBusy, DatabaseUnavailable, TextNotStorable
from tests.conftest import open_database
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def stoppable() -> Iterator[PostgresServer]:
    """A server of its own: the others' must go on."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def stoppable_database(stoppable: PostgresServer) -> AsyncIterator[Database]:
    made = open_database(stoppable.create_database("bursar"))
    await storage.migrate(made)
    yield made
    await made.close()


async def test_a_postgresql_that_was_stopped_is_unavailable_at_once_for_new_and_running_transactions(
    stoppable: PostgresServer, stoppable_database: Database
):
    database = stoppable_database
    await database.ping()

    async def interrupted() -> None:
        async with database.begin(SYSTEM) as tx:
            await storage.remember(tx, "colour", "green")
            await asyncio.to_thread(stoppable.stop)
            await tx.scalar(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable) as refusal:
        await interrupted()
    assert refusal.value.status == 503
    assert refusal.value.retry_after_seconds > 0
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
        with pytest.raises(DatabaseUnavailable):
            async with database.begin(SYSTEM):
                pytest.fail("there is nothing to begin on")


async def test_a_commit_that_a_stopped_postgresql_never_answers_is_unavailable(
    stoppable: PostgresServer, stoppable_database: Database
):
    heard = []
    stoppable_database.changes.subscribe("key", heard.append)

    async def interrupted() -> None:
        async with stoppable_database.begin(SYSTEM) as tx:
            await tx.announce("key", "key_1")
            await asyncio.to_thread(stoppable.stop)

    with pytest.raises(DatabaseUnavailable):
        await interrupted()
    assert heard == []


async def test_a_sqlite_file_that_cannot_be_opened_is_unavailable(tmp_path: Path):
    database = open_database(f"sqlite:///{tmp_path / 'missing' / 'bursar.db'}")
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    await database.close()
    await asyncio.sleep(0.2)  # the driver's thread still reports to this loop that it ended


async def test_a_connection_that_another_closed_is_replaced_without_anybody_noticing(postgres_database: Database):
    await postgres_database.ping()
    engine = postgres_database.owner_engine()
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    await engine.dispose()
    await postgres_database.ping()


@pytest.mark.parametrize("kind", ["begin", "snapshot"])
async def test_what_a_caller_raises_passes_through_unchanged(database: Database, kind: str):
    for error in (
        ConnectionError("upstream"),
        ConnectionResetError(),
        OSError(5, "disk"),
        TimeoutError(),
        KeyError("x"),
    ):
        with pytest.raises(type(error)) as raised:
            async with getattr(database, kind)(SYSTEM):
                raise error
        assert raised.value is error


async def test_a_caller_that_raises_leaves_nothing_behind(database: Database):
    async def fails() -> None:
        async with database.begin(SYSTEM) as tx:
            assert await storage.remember(tx, "colour", "green")
            raise ConnectionError("upstream")

    with pytest.raises(ConnectionError):
        await fails()
    async with database.snapshot(SYSTEM) as snapshot:
        assert await storage.recall(snapshot, "colour") is None


async def test_a_violated_constraint_stays_what_it_is(database: Database):
    insert = text("INSERT INTO installation (name, value) VALUES ('a', 'b'), ('a', 'c')")
    with pytest.raises(IntegrityError):
        async with database.begin(SYSTEM) as tx:
            await tx.execute(insert)


async def test_a_text_that_postgresql_does_not_take_is_the_callers_fault_and_not_a_crash(postgres_database: Database):
    with pytest.raises(TextNotStorable) as refusal:
        async with postgres_database.snapshot(SYSTEM) as snapshot:
            await storage.recall(snapshot, "colour\x00")
    assert refusal.value.status == 400


async def test_whoever_waits_too_long_for_a_connection_is_told_to_come_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(module, "POSTGRES_CONNECTIONS", 1)
    database = open_database(database_url)
    try:
        async with database.begin(SYSTEM):
            with pytest.raises(DatabaseBusy) as refusal:
                async with database.begin(SYSTEM):
                    pytest.fail("there is only one connection")
        assert refusal.value.status == 503
        async with database.begin(SYSTEM) as tx:
            assert await tx.scalar(text("SELECT 1")) == 1
    finally:
        await database.close()


@pytest.mark.parametrize("url", ["", "mysql://x/y", "nonsense", "postgresql//x", "sqlite"])
def test_a_url_that_is_neither_sqlite_nor_postgresql_is_refused_by_the_settings_name(url: str):
    with pytest.raises(SettingsError, match="BURSAR_DATABASE_URL") as refusal:
        open_database(url)
    assert "postgresql://" in (refusal.value.remedy or "")


async def test_a_snapshot_sees_one_moment_however_long_it_looks(database: Database):
    async with database.snapshot(SYSTEM) as snapshot:
        assert await storage.recall(snapshot, "colour") is None
        async with database.begin(SYSTEM) as tx:
            await storage.remember(tx, "colour", "green")
        assert await storage.recall(snapshot, "colour") is None
    async with database.snapshot(SYSTEM) as snapshot:
        assert await storage.recall(snapshot, "colour") == "green"
