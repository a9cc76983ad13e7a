"""The real SQL on SQLite in memory, without a thread and without a file: for tests that go through thousands of databases.

A database costs 0.1 ms, a statement a tenth of what the real driver takes. What the driver does (cancellation, locks, durability) is
not there; only one of these databases is in use at a time in a process.
"""

import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Self
from unittest import mock

from sqlalchemy import Connection, Executable, create_engine, event
from sqlalchemy.pool import StaticPool

from bursar.kernel.clock import Clock, SystemClock
from bursar.storage import Database, Sealer
from bursar.storage import _database as storage

SECRET = b"a secret of a test in memory, long enough"


class MemoryConnection:
    """What `Database`, `Tx` and `Snapshot` use of an `AsyncConnection`; its transaction as well."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def start(self) -> None:
        """It is always there."""

    def begin(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        self._transaction = self._connection.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transaction.is_active:
            self._transaction.rollback()

    async def commit(self) -> None:
        self._transaction.commit()

    async def execute(self, statement: Executable, parameters: Any = None) -> Any:
        return self._connection.execute(statement, parameters)

    async def scalar(self, statement: Executable) -> Any:
        return self._connection.scalar(statement)

    async def close(self) -> None:
        """It is the next one's."""


class MemoryEngine:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connect(self) -> MemoryConnection:
        return MemoryConnection(self._connection)

    async def dispose(self) -> None:
        """There is nothing to let go of."""


def memory_database(clock: Clock | None = None) -> Database:
    """Migrated and empty; the one before is gone."""
    with mock.patch.object(storage, "_sqlite_engine", return_value=MemoryEngine(fresh()[0])):
        return Database("sqlite://", clock=clock or SystemClock(), sealer=Sealer(SECRET), node="node_test")


def fresh() -> tuple[Connection, sqlite3.Connection]:
    """The one connection of this process, on a migrated, empty database."""
    connection, raw = _shared()
    if connection.in_transaction():
        connection.rollback()
    raw.deserialize(_template())
    raw.execute("PRAGMA foreign_keys=ON")
    return connection, raw


@cache
def _template() -> bytes:
    from tests.conftest import migrate

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bursar.db"
        with ThreadPoolExecutor(1) as aside:  # whoever asks may be on a loop
            aside.submit(migrate, f"sqlite:///{path}").result()
        source = sqlite3.connect(path)
        try:
            source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            source.execute("PRAGMA journal_mode=DELETE")
            return source.serialize()
        finally:
            source.close()


@cache
def _shared() -> tuple[Connection, sqlite3.Connection]:
    """One for all databases: statements are compiled once."""
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def configure(made: Any, _record: Any) -> None:
        made.isolation_level = None

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    connection = engine.connect()
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return connection, raw
