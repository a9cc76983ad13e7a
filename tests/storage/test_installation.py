"""Facts about the installation are set once; its data belongs to its secret."""

import asyncio

import pytest

from bursar import storage
from bursar.storage import SYSTEM, Database, WrongSecret
from tests.conftest import SECRET
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio


async def test_a_fact_is_remembered_once_and_recalled(database: Database):
    async with database.begin(SYSTEM) as tx:
        assert await storage.recall(tx, "colour") is None
        assert await storage.remember(tx, "colour", "green")
        assert not await storage.remember(tx, "colour", "red")
        assert await storage.recall(tx, "colour") == "green"


async def test_of_ten_that_set_a_fact_at_once_one_does(database: Database):
    async def attempt(number: int) -> bool:
        async with database.begin(SYSTEM) as tx:
            return await storage.remember(tx, "first", str(number))

    assert sum(await asyncio.gather(*(attempt(number) for number in range(10)))) == 1


async def test_the_data_opens_with_the_secret_it_was_written_with_and_no_other(database: Database):
    await storage.check_secret(database, SECRET)
    await storage.check_secret(database, SECRET)
    with pytest.raises(WrongSecret) as refusal:
        await storage.check_secret(database, SECRET + b".")
    assert "secret" in (refusal.value.remedy or "")
    await storage.check_secret(database, SECRET)


async def test_the_secret_itself_is_not_in_the_database(database: Database):
    await storage.check_secret(database, SECRET)
    stored = await everything_stored(database)
    assert "secret_fingerprint" in stored
    assert SECRET.decode() not in stored
    assert SECRET.hex() not in stored
