from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bursar import storage
from bursar.identity import User
from bursar.kernel.clock import SystemClock
from bursar.organizations import Organization
from bursar.storage import Database, Sealer
from tests.web.cast import SECRET, House


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def web_database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(
        f"sqlite:///{tmp_path}/bursar.sqlite", clock=SystemClock(), sealer=Sealer(SECRET), node="node_test"
    )
    await storage.migrate(database)
    yield database
    await database.close()


@pytest.fixture
async def house(web_database: Database) -> House:
    return House(web_database)


@pytest.fixture
async def ana(house: House) -> User:
    return await house.add_user("Ana Ruiz")


@pytest.fixture
async def max_(house: House) -> User:
    return await house.add_user("Max Weber")


@pytest.fixture
async def sam(house: House) -> User:
    return await house.add_user("Sam Stranger")


@pytest.fixture
async def acme(house: House, ana: User, max_: User) -> Organization:
    made = await house.add_organization("Acme Robotics", "acme", ana, max_)
    await house.grant(made.id, "100")
    return made
