"""One database of a named kind, for what only one of them can do."""

from collections.abc import AsyncIterator, Iterator

import pytest

from bursar.storage import Database
from tests.conftest import open_database
from tests.support.postgres import PostgresServer


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.clone("template_bursar")
    yield url
    postgres.drop_database(url)


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[Database]:
    made = open_database(postgres_url)
    yield made
    await made.close()
