"""What every command works on: the data directory, its secret and the database; opened, joined, or only looked at."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import bursar.activity.tables
import bursar.audit.tables
import bursar.catalog.tables
import bursar.identity.tables
import bursar.keys.tables
import bursar.ledger.tables
import bursar.organizations.tables
import bursar.payments.tables
import bursar.storage.tables  # noqa: F401 - these register the rooms' tables on the shared metadata
from bursar import storage
from bursar.identity import Passwords
from bursar.kernel.clock import Clock, SystemClock
from bursar.kernel.errors import SettingsError
from bursar.keys import KeyChecker
from bursar.settings import Settings
from bursar.storage import Database, DataDir, Sealer

CONNECTIONS_OF_A_NODE = 16
"""Of PostgreSQL's; its workers share them."""
CONNECTIONS_LEAST = 4
"""Of one worker."""

DEMO_MARK = "demo"
"""The fact, kept in the database, that `bursar demo` made this data."""

SYSTEM_CLOCK: Clock = SystemClock()
"""For commands that open no installation."""


@dataclass
class Installation:
    """What every command needs: the data directory, its secret and the database. `open_installation` makes it."""

    settings: Settings
    data_dir: DataDir
    clock: Clock
    secret: bytes
    database: Database
    checker: KeyChecker
    public_url: str
    passwords: Passwords = field(default_factory=Passwords)

    async def close(self) -> None:
        await self.release()
        self.data_dir.unlock()

    async def release(self) -> None:
        """Lets go of everything but the data directory."""
        self.passwords.close()
        await self.database.close()


async def open_installation(settings: Settings, *, public_url: str | None = None) -> Installation:
    """Takes the data directory for this process and brings the schema up to date.

    Raises `DataDirInUse`, `SettingsError` and what `storage.migrate` raises.
    """
    data_dir = DataDir(settings.data_dir)
    data_dir.lock()
    installation = join_installation(settings, data_dir, public_url=public_url)
    database, secret = installation.database, installation.secret
    try:
        await storage.migrate(database)
        await storage.check_secret(database, secret)
    except BaseException:
        await installation.close()
        raise
    return installation


def join_installation(settings: Settings, data_dir: DataDir, *, public_url: str | None = None) -> Installation:
    """One that another process has opened and holds: a worker's, whose supervisor took the data directory."""
    clock = SystemClock()
    secret = data_dir.secret(settings.secret)
    return Installation(
        settings=settings,
        data_dir=data_dir,
        clock=clock,
        secret=secret,
        database=make_database(settings, data_dir, secret, clock),
        checker=KeyChecker(secret),
        public_url=settings.public_url or public_url or f"http://{settings.host}:{settings.port}",
    )


def make_database(settings: Settings, data_dir: DataDir, secret: bytes, clock: Clock) -> Database:
    """A further `Database` on the installation's data; the caller closes it."""
    url = settings.database_url or data_dir.database_url
    connections = max(CONNECTIONS_LEAST, CONNECTIONS_OF_A_NODE // settings.workers)
    return Database(url, clock=clock, sealer=Sealer(secret), node=data_dir.node(), connections=connections)


async def look_at_schema(settings: Settings) -> str | None:
    """The schema's revision, None for an empty database; without the lock, changing nothing."""
    database = make_database(settings, DataDir(settings.data_dir), secrets.token_bytes(32), SystemClock())
    try:
        return await storage.current_revision(database)
    finally:
        await database.close()


class NothingToLookAt(SettingsError):
    """There is no installation in the data directory, or its schema is not this version's."""


@asynccontextmanager
async def look_at_installation(settings: Settings) -> AsyncIterator[Database]:
    """The installation's database for reading, beside a server or without one: nothing is made, locked, migrated or written.

    Raises `NothingToLookAt`, `storage.DatabaseUnavailable`.
    """
    file = settings.data_dir.absolute() / "bursar.db"
    if settings.database_url is None and not file.is_file():
        raise NothingToLookAt(f"There is no database {file}.", remedy="Name the right folder with --data-dir.")
    url = settings.database_url or f"sqlite:///{file}"
    nobody = Sealer(secrets.token_bytes(32))
    database = Database(url, clock=SystemClock(), sealer=nobody, node="look", read_only=True)
    try:
        revision = await storage.current_revision(database)
        if revision != storage.head_revision():
            raise NothingToLookAt(
                f"The database has schema {revision or 'none'}, this Bursar reads {storage.head_revision()}.",
                remedy="`bursar migrate` brings it to this version's; a running server of another version is asked by its own.",
            )
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_copy(settings: Settings) -> AsyncIterator[tuple[Database, bytes | None]]:
    """The database that a backup is restored to, and the installation's secret as far as it is there: none is made."""
    data_dir = DataDir(settings.data_dir)
    file = data_dir.path / "secret"
    secret = data_dir.secret(settings.secret) if settings.secret is not None or file.is_file() else None
    url = settings.database_url or data_dir.database_url
    sealer = Sealer(secret or secrets.token_bytes(32))
    database = Database(url, clock=SystemClock(), sealer=sealer, node="restore")
    try:
        yield database, secret
    finally:
        await database.close()
