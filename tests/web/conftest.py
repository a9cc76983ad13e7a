from collections.abc import AsyncIterator

import pytest

from bursar.identity import User
from bursar.organizations import Organization
from bursar.storage import Database
from tests.web.cast import House


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    made = House(database)
    yield made
    await made.close()


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
