"""Engines, transactions and snapshots on SQLite and PostgreSQL, from one URL."""

import asyncio
import json
import logging
import secrets as random_source
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import quote

from sqlalchemy import Executable, Row, Table, event, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction, create_async_engine

from bursar.kernel import errors
from bursar.kernel.clock import Clock
from bursar.kernel.ids import MessageId, OwnerId, new_message_id
from bursar.storage import tables
from bursar.storage._changes import Change, Changes
from bursar.storage._sealing import Sealer

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

APPLICATION_ROLE = "bursar_app"
"""The PostgreSQL role every statement runs as. It owns nothing, so that row-level security binds it."""

ENQUEUED = "enqueued"
"""The change that says a message waits in the outbox."""
POSTGRES_CONNECTIONS = 16
SQLITE_READERS = 4
WAIT_SECONDS = 30
"""How long a transaction waits for a connection before it is refused as `DatabaseBusy`."""

Result = TypeVar("Result")

_log = logging.getLogger("bursar.database")

_NOT_IN_REPERTOIRE = "22021"
"""PostgreSQL's code for a text that its encoding does not have."""


@dataclass(frozen=True)
class Scope:
    """Whose rows a transaction may touch: one owner's, or (None) everybody's, for jobs, sign-in and the gateway's look-ups."""

    owner: OwnerId | None

    def __post_init__(self) -> None:
        if self.owner in ("", "*"):
            raise ValueError("an owner's scope needs the owner's id: everybody's is asked for by its name, SYSTEM")

    @property
    def setting(self) -> str:
        return "*" if self.owner is None else self.owner


SYSTEM: Final = Scope(None)


class DatabaseUnavailable(errors.Unavailable):
    """The database does not answer."""


class TextNotStorable(errors.InvalidInput):
    """A text has a null byte or half a character, which PostgreSQL does not take."""


class DatabaseBusy(errors.Unavailable):
    """Every connection is taken; the request may be tried again."""


class Snapshot:
    """Reads only, from one consistent view."""

    def __init__(self, connection: AsyncConnection, database: "Database", scope: Scope) -> None:
        self._connection = connection
        self._database = database
        self.scope = scope

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        return self._database.dialect

    @property
    def now(self) -> datetime:
        return self._database.clock.now()

    async def database_time(self) -> datetime:
        """The one time that several nodes agree on, whatever their own clocks say. On SQLite there is one process, and its clock
        is that time."""
        if self.dialect == "sqlite":
            return self.now
        moment: datetime = await self.scalar(text("SELECT clock_timestamp()"))
        return moment.astimezone(UTC)

    async def all(self, statement: Executable) -> Sequence[Row[Any]]:
        rows: Sequence[Row[Any]] = (await self._connection.execute(statement)).all()
        return rows

    async def pages(self, statement: Executable, rows: int) -> AsyncIterator[Sequence[Row[Any]]]:
        """So many rows at a time, of a result that memory need not hold; the database may sort it on its disk."""
        async with self._connection.stream(statement) as result:
            async for page in result.partitions(rows):
                yield page

    async def first(self, statement: Executable) -> Row[Any] | None:
        row: Row[Any] | None = (await self._connection.execute(statement)).first()
        return row

    async def scalar(self, statement: Executable) -> Any:
        return await self._connection.scalar(statement)

    def unseal(self, row_id: str, sealed: bytes) -> bytes:
        """What `Tx.seal` sealed for this row. Raises `CannotUnseal`."""
        return self._database.sealer.unseal(row_id, sealed)

    async def run_sync(self, look: Callable[[Connection], Result]) -> Result:
        """Runs a function that inspects the connection; for migrations."""
        return await self._connection.run_sync(look)


class Tx(Snapshot):
    """Reads and writes. Commits when its block ends, rolls back when the block raises; rooms receive it and never commit."""

    def __init__(self, connection: AsyncConnection, database: "Database", scope: Scope) -> None:
        super().__init__(connection, database, scope)
        self.announced: list[Change] = []

    async def execute(self, statement: Executable) -> int:
        """Runs an insert, update or delete; returns how many rows it touched."""
        return (await self._connection.execute(statement)).rowcount

    async def execute_each(self, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
        """Runs one statement for each of `rows` (what its `bindparam`s or columns are), in their order and in one round trip.

        How many rows were touched is not known: only for what cannot miss.
        """
        if rows:
            await self._connection.execute(statement, rows)

    async def returning(
        self, statement: Executable, rows: Sequence[Mapping[str, Any]] | None = None
    ) -> Sequence[Row[Any]]:
        """Runs a statement with a RETURNING clause; an insert that names no values takes those of `rows`, many at once.

        Prefer `rows` to `.values([…])`, which is compiled anew each time, at eight times the CPU.
        """
        return (await self._connection.execute(statement, rows)).all()

    def seal(self, row_id: str, plain: bytes) -> bytes:
        """For a column that must be read back, and by nobody who has the database alone."""
        return self._database.sealer.seal(row_id, plain)

    def insert(self, table: Table) -> "postgresql.Insert | sqlite.Insert":
        """An insert that can say `on_conflict_do_nothing` and `on_conflict_do_update` on either database."""
        if self.dialect == "postgresql":
            from sqlalchemy.dialects import postgresql

            return postgresql.insert(table)
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)

    async def announce(self, kind: str, subject: str) -> None:
        """Tells every node, after the commit, that `subject` changed."""
        self.announced.append(Change(kind, subject))
        await self.execute(
            tables.changes.insert().values(node=self._database.announcer, kind=kind, subject=subject, at=self.now)
        )

    async def enqueue(
        self,
        topic: str,
        payload: Mapping[str, Any],
        *,
        summary: Mapping[str, Any],
        keep: timedelta,
        reference: str | None,
    ) -> MessageId:
        """Puts a side effect into the outbox; it happens after the commit, at least once.

        `payload` (JSON) is sealed until it left; `summary` stays and must hold no secret. `reference` names what the message
        depends on (a one-time link, say), so that it can be emptied when that is spent; after `keep` it is emptied anyway.
        """
        message = new_message_id(self.now)
        await self.announce(ENQUEUED, message)  # whoever sends may be another process
        await self.execute(
            tables.outbox.insert().values(
                id=message,
                topic=topic,
                state="waiting",
                sealed=self._database.sealer.seal(message, json.dumps(payload).encode()),
                summary=json.dumps(summary),
                reference=reference,
                attempts=0,
                next_attempt_at=self.now,
                created_at=self.now,
                expires_at=self.now + keep,
            )
        )
        return message


class Database:
    """One database for everything. `node` names this process's data directory among several nodes on one database, `announcer` this
    process among all. `read_only` is for whoever looks beside a server: on SQLite the file is opened so that it cannot be written.
    `connections`: how many of PostgreSQL's it takes at most, beside the one that listens."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        sealer: Sealer,
        node: str,
        read_only: bool = False,
        connections: int | None = None,
    ) -> None:
        self.source = self.url = _parsed(url)
        if read_only and self.url.get_backend_name() == "sqlite":
            self.url = self.url.set(
                database=f"file:{quote(self.url.database or '')}", query={"mode": "ro", "uri": "true"}
            )
        self.clock = clock
        self.sealer = sealer
        self.node = node
        self.announcer = f"process_{random_source.token_hex(8)}"
        self.changes = Changes()
        self.heard_at = clock.monotonic()
        """When it last answered, in monotonic seconds."""
        self.dialect: Literal["sqlite", "postgresql"] = (
            "sqlite" if self.url.get_backend_name() == "sqlite" else "postgresql"
        )
        if self.dialect == "sqlite":
            # One writer connection: SQLite has one writer anyway, and waiting in our own pool is fair where its lock is not.
            self._writer = _sqlite_engine(self.url, begin="BEGIN IMMEDIATE", connections=1)
            self._reader = _sqlite_engine(self.url, begin="BEGIN", connections=SQLITE_READERS)
        else:
            self._writer = self._reader = _postgres_engine(
                self.url, connections or POSTGRES_CONNECTIONS, APPLICATION_ROLE
            )

    @asynccontextmanager
    async def begin(self, scope: Scope) -> AsyncIterator[Tx]:
        """A transaction. Never keep it open across an upstream or network call."""
        async with connected(self._writer) as connection, connection.begin() as transaction:
            await self._enter(connection, scope)
            tx = Tx(connection, self, scope)
            yield tx
            await _to_the_end(self._commit(transaction, tx))

    async def _commit(self, transaction: AsyncTransaction, tx: Tx) -> None:
        await transaction.commit()
        self.heard_at = self.clock.monotonic()
        self.changes.publish(tx.announced)

    @asynccontextmanager
    async def snapshot(self, scope: Scope) -> AsyncIterator[Snapshot]:
        async with connected(self._reader) as connection:
            if self.dialect == "postgresql":
                await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                await self._enter(connection, scope)
                self.heard_at = self.clock.monotonic()
                yield Snapshot(connection, self, scope)

    async def _enter(self, connection: AsyncConnection, scope: Scope) -> None:
        if self.dialect == "postgresql":
            await connection.execute(_SET_OWNER, {"owner": scope.setting})

    async def ping(self) -> None:
        """Raises `DatabaseUnavailable` when the database does not answer."""
        async with self.snapshot(SYSTEM) as snapshot:
            await snapshot.scalar(text("SELECT 1"))

    @asynccontextmanager
    async def listen(self, channel: str, callback: Callable[[], None]) -> AsyncIterator[asyncio.Event]:
        """Calls back at each notification on a channel of PostgreSQL's, on a connection of its own; yields an event that is set when
        that connection is lost. Raises `DatabaseUnavailable`."""
        engine = _postgres_engine(self.url, 1, APPLICATION_ROLE)
        lost = asyncio.Event()
        try:
            async with connected(engine) as connection:
                wire: Any = (await connection.get_raw_connection()).driver_connection
                wire.add_termination_listener(lambda _wire: lost.set())
                await wire.add_listener(channel, lambda *_: callback())
                yield lost
        finally:
            await engine.dispose()

    def owner_engine(self) -> AsyncEngine:
        """An engine that owns the schema, for migrations only."""
        return (
            _sqlite_engine(self.url, "BEGIN IMMEDIATE", 1)
            if self.dialect == "sqlite"
            else _postgres_engine(self.url, 1)
        )

    async def close(self) -> None:
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()


_CALLERS_CLASSES = frozenset({"22", "23", "42", "P0"})
"""Classes of SQLSTATE: data, integrity, syntax and rights, raised by our own triggers."""

_SET_OWNER = text("SELECT set_config('bursar.owner', :owner, true)")


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    backend = parsed.get_backend_name() if parsed is not None else ""
    if parsed is None or backend not in ("sqlite", "postgresql"):
        raise errors.SettingsError(
            "BURSAR_DATABASE_URL is not a SQLite or PostgreSQL URL.",
            remedy="Write postgresql://user@host/database, or leave it out for SQLite in the data directory.",
        )
    driver = "sqlite+aiosqlite" if backend == "sqlite" else "postgresql+asyncpg"
    return parsed.set(drivername=driver)


def _sqlite_engine(url: URL, begin: str, connections: int) -> AsyncEngine:
    from sqlalchemy.pool import AsyncAdaptedQueuePool

    engine = create_async_engine(
        url,
        hide_parameters=True,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself; `begin` below says which kind.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in (
            *(() if url.query.get("mode") == "ro" else ("journal_mode=WAL",)),
            "synchronous=FULL",
            "foreign_keys=ON",
            "busy_timeout=5000",
            "cache_size=-16000",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "invalidate")
    def let_go(dbapi_connection: Any, _record: Any, _error: BaseException | None) -> None:
        # A connection whose statement was cancelled is closed, but SQLite keeps its transaction, and the write lock, for as long
        # as a cursor is still about: the next writer would wait for `busy_timeout`, in vain.
        with suppress(Exception):  # it is given up either way
            dbapi_connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgres_engine(url: URL, connections: int, role: str | None = None) -> AsyncEngine:
    settings = {"application_name": "bursar", "timezone": "UTC"}
    if role is not None:
        settings["role"] = role
    return create_async_engine(
        url,
        hide_parameters=True,  # what a statement was given may be a password hash or an address: not for logs
        pool_size=connections,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
        pool_pre_ping=True,
        connect_args={"server_settings": settings, "timeout": 5},
    )


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of the engine's pool. A database that is away or full becomes our own error; a violated constraint, and
    whatever the caller's block raises for itself, stays what it is."""
    connection = engine.connect()
    try:
        await connection.start()
    except PoolTimeoutError as error:
        raise DatabaseBusy("The database is busy.", remedy="Try again in a few seconds.") from error
    except Exception as error:
        # Whatever the driver raises before there is a connection means the same to whoever asked for one.
        _log.warning("no connection to the database: %s: %s", type(error).__name__, error)
        raise DatabaseUnavailable("The database does not answer.", remedy="Try again in a few seconds.") from error
    try:
        yield connection
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _NOT_IN_REPERTOIRE:
            raise TextNotStorable("A text has characters that cannot be stored, such as a null byte.") from error
        if not _is_the_callers(error):
            _log.warning("the database failed: %s", error.orig)
            raise DatabaseUnavailable("The database does not answer.", remedy="Try again in a few seconds.") from error
        raise
    finally:
        await _to_the_end(connection.close())


def _is_the_callers(error: DBAPIError) -> bool:
    """Whether the statement itself is at fault: bad data, a violated constraint, wrong SQL. Everything else (away, full,
    read-only, a deadlock) is the database's and passes."""
    if error.connection_invalidated:
        return False
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(state, str):
        return state[:2] in _CALLERS_CLASSES
    return isinstance(error, IntegrityError | DataError | ProgrammingError)


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Does the work also when whoever waits for it is cancelled meanwhile, and passes the cancellation on afterwards.

    For commits: one that happened must be announced, or this node would honour a key that was just revoked. For closing: a
    connection goes back to the pool in order, never with somebody's transaction open on it.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            _log.warning("after a cancellation: %s", task.exception())
        raise
