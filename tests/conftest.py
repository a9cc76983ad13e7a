"""The fixtures that every test may ask for: a real database, twice (SQLite and PostgreSQL), and a fixed cast."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

import bursar.app  # noqa: F401 - registers every room's tables
from bursar import actions, identity, organizations, storage
from bursar.access import Actor, Role
from bursar.identity import User
from bursar.kernel.clock import FixedClock, SystemClock
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.keys import KeyChecker
from bursar.organizations import Organization
from bursar.storage import SYSTEM, Database, Sealer
from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.proved"]

SECRET = b"a secret of this test installation, long enough"
BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def open_database(url: str, clock: FixedClock | SystemClock | None = None, node: str = "node_test") -> Database:
    return Database(url, clock=clock or SystemClock(), sealer=Sealer(SECRET), node=node)


def migrate(url: str) -> None:
    async def work() -> None:
        database = open_database(url)
        await storage.migrate(database)
        await database.close()

    asyncio.run(work())


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One private server per test process, with a migrated template."""
    with PostgresServer() as server:
        migrate(server.create_database("template_bursar"))
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "bursar.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        shutil.copy(template, tmp_path / "bursar.db")
        yield f"sqlite:///{tmp_path / 'bursar.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.clone("template_bursar")
    yield url
    server.drop_database(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = open_database(database_url)
    yield made
    await made.close()


@pytest.fixture
def fixed_clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 24, 13, 30, tzinfo=UTC))


@pytest.fixture
async def fixed_database(database_url: str, fixed_clock: FixedClock) -> AsyncIterator[Database]:
    """The same with a clock that stands still."""
    made = open_database(database_url, fixed_clock)
    yield made
    await made.close()


@pytest.fixture
def checker() -> KeyChecker:
    return KeyChecker(SECRET)


@dataclass(frozen=True)
class Cast:
    """An admin and a member of Acme, and a stranger who is in no organization; all verified. Acme has 10 credits."""

    admin: User
    member: User
    stranger: User
    acme: Organization

    @property
    def owner(self) -> OwnerId:
        return OwnerId(self.acme.id)

    @staticmethod
    def actor(user: User) -> Actor:
        return Actor.person(user.id, "192.0.2.1")


async def make_cast(database: Database) -> Cast:
    async with database.begin(SYSTEM) as tx:
        people = [
            await identity.add_user(
                tx, email=f"{name.lower()}@example.com", name=f"{name} Test", password_hash=None, verified=True
            )
            for name in ("Ana", "Tomas", "Sasha")
        ]
        acme = await organizations.create(tx, name="Acme Robotics", slug="acme", creator=people[0].id)
        await organizations.add_member(tx, acme.id, people[1].id, Role.MEMBER)
    await actions.grant_credits(
        database, Actor.operator(), owner=OwnerId(acme.id), amount=Nanos(10 * NANOS_PER_CREDIT), reason="for tests"
    )
    return Cast(*people, acme)


@pytest.fixture
async def cast(database: Database) -> Cast:
    return await make_cast(database)
