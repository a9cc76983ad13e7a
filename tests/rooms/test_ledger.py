"""The ledger's laws, on both databases."""

import pytest

from bursar import ledger
from bursar.storage import SYSTEM, Database, Scope
from tests.conftest import Cast

pytestmark = pytest.mark.anyio


async def test_a_grant_is_in_the_balance_and_the_books_add_up_to_zero(database: Database, cast: Cast):
    async with database.snapshot(Scope(cast.owner)) as snapshot:
        assert (await ledger.balance(snapshot, cast.owner)).available == 10_000_000_000
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await ledger.verify(snapshot)).drift == 0
