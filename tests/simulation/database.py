"""One database for all processes: the real SQL on SQLite in memory, behind a network that is slow, is cut, and loses answers.

`SimulatedEngine` stands where `storage.Database` has SQLAlchemy's `AsyncEngine`; everything above it is the real code: transactions,
scopes, the translation of errors, what happens to a commit whose task was cancelled, announcements. Transactions run one after
another, as SQLite's writers do. What PostgreSQL adds (locks row by row) is not simulated; other tests have real servers for that.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from unittest import mock

from sqlalchemy import Executable
from sqlalchemy.exc import OperationalError

import bursar.app  # noqa: F401 - registers every room's tables
from bursar.storage import Change, Database, Sealer, Snapshot
from bursar.storage import _database as storage
from tests.simulation.loop import Process, current
from tests.support.memory import SECRET, fresh

BEGINNING = datetime(2026, 11, 24, 23, 58, tzinfo=UTC)
"""Schedules run across midnight, so that the activity has two days."""


class Network:
    """Between one process and the database."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.heal()

    def heal(self) -> None:
        self.is_cut = False
        self.slow = 1.0
        self.losing = 0.0
        """How likely it is that one message is lost, and the connection with it."""
        self.losing_commits = 0.0
        """The same for a commit on its way there, and for the answer to it."""

    async def travel(self, *, commit: bool = False) -> None:
        """One way. A lost message is noticed only after a while."""
        rng = self._rng
        losing = self.losing_commits if commit else self.losing
        if self.is_cut or (losing and rng.random() < losing):
            await asyncio.sleep(rng.choice((0.0, 0.01, 0.5, 2.0)))
            raise OperationalError("a message", None, ConnectionError("cut"), connection_invalidated=True)
        await asyncio.sleep(rng.choice((0.0, 0.0002, 0.0005, 0.002)) * self.slow)


class Server:
    """The database server. `on_commit` is told of every commit, before anybody else knows."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.connection, self.raw = fresh()
        self.commits = 0
        self.on_commit: Callable[[], None] = lambda: None
        self.databases: list[SimulatedDatabase] = []
        self.notices_lost = 0.0
        self._waiting: deque[tuple[asyncio.Future[None], Process | None]] = deque()
        self._owner: SimulatedConnection | None = None

    @property
    def time(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.loop.time())

    async def enter(self, connection: "SimulatedConnection") -> None:
        """Waits for its turn and begins a transaction."""
        while self._owner is not None:
            turn = self.loop.create_future()
            self._waiting.append((turn, connection.process))
            await turn
        self._owner = connection
        connection.transaction = self.connection.begin()

    def commit(self, connection: "SimulatedConnection") -> None:
        connection.transaction.commit()
        self.commits += 1
        self.leave(connection)
        self.on_commit()

    def leave(self, connection: "SimulatedConnection") -> None:
        """Whatever is not committed is rolled back."""
        if self._owner is not connection:
            return
        if connection.transaction.is_active:
            connection.transaction.rollback()
        self._owner = None
        while self._waiting:
            turn, process = self._waiting.popleft()
            if not turn.done() and (process is None or process.is_alive):
                turn.set_result(None)
                return

    def died(self, process: Process) -> None:
        """Its connection is closed by the kernel."""
        if self._owner is not None and self._owner.process is process:
            self.leave(self._owner)

    def tell(self, changes: Sequence[Change], origin: "SimulatedDatabase") -> None:
        """Other nodes hear of what was announced later, twice, or not at all."""
        for database in self.databases:
            if database is origin or database.network.is_cut or self.rng.random() < self.notices_lost:
                continue
            for _ in range(1 if self.rng.random() < 0.9 else 2):
                wait = self.rng.choice((0.001, 0.005, 0.05, 0.3))
                database.process.run(lambda wait=wait, to=database: self.loop.call_later(wait, to.hear, changes))


class SimulatedTransaction:
    def __init__(self, connection: "SimulatedConnection") -> None:
        self._connection = connection

    async def __aenter__(self) -> Self:
        await self._connection.server.enter(self._connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.server.leave(self._connection)

    async def commit(self) -> None:
        await self._connection.network.travel(commit=True)
        self._connection.server.commit(self._connection)
        await self._connection.network.travel(commit=True)  # lost here, it has happened all the same


class SimulatedConnection:
    """What `Database`, `Tx` and `Snapshot` use of an `AsyncConnection`."""

    transaction: Any

    def __init__(self, server: Server, network: Network, process: Process | None) -> None:
        self.server = server
        self.network = network
        self.process = process

    async def start(self) -> None:
        await self.network.travel()

    def begin(self) -> SimulatedTransaction:
        return SimulatedTransaction(self)

    async def execute(self, statement: Executable, parameters: Any = None) -> Any:
        await self.network.travel()
        return self.server.connection.execute(statement, parameters)

    async def scalar(self, statement: Executable) -> Any:
        await self.network.travel()
        return self.server.connection.scalar(statement)

    async def close(self) -> None:
        self.server.leave(self)


class SimulatedEngine:
    def __init__(self, server: Server, network: Network) -> None:
        self._server = server
        self._network = network

    def connect(self) -> SimulatedConnection:
        return SimulatedConnection(self._server, self._network, current())


class SimulatedDatabase(Database):
    """The real one on a simulated engine. Its clock is the node's, `database_time` the server's, as on PostgreSQL."""

    def __init__(self, server: Server, process: Process, network: Network, clock: Any) -> None:
        self.server = server
        self.process = process
        self.network = network
        engine = SimulatedEngine(server, network)
        with mock.patch.object(storage, "_sqlite_engine", return_value=engine):
            super().__init__("sqlite://", clock=clock, sealer=Sealer(SECRET), node=process.name)
        publish = self.changes.publish

        def told(changes: Sequence[Change]) -> None:
            publish(changes)
            if changes:
                server.tell(list(changes), self)

        self.hear = publish
        self.changes.publish = told  # type: ignore[method-assign]


@contextmanager
def time_of_the_server() -> Iterator[None]:
    """On SQLite one process's clock is the database's; here many share it, so that it has its own, as PostgreSQL does."""

    async def database_time(snapshot: Snapshot) -> datetime:
        database = snapshot._database
        assert isinstance(database, SimulatedDatabase)
        return database.server.time

    with mock.patch.object(Snapshot, "database_time", database_time):
        yield
