from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from bursar.catalog import Catalog
from bursar.gateway import Funds
from bursar.keys import KeyChecker
from bursar.storage import Database
from tests.conftest import Cast
from tests.gateway.world import ScriptedUpstream, World


@pytest.fixture
async def world(database: Database, cast: Cast, checker: KeyChecker) -> AsyncIterator[World]:
    """A gateway with the demo provider, at once; `world.key` is a key of Acme, which has 10 credits."""
    made = World(database, cast, checker)
    made.key = await made.make_key()
    yield made
    await made.settled()
    await made.providers.close()


@pytest.fixture
async def scripted(database: Database, cast: Cast, checker: KeyChecker) -> AsyncIterator[Callable[..., Any]]:
    """`await scripted(alpha=[…], beta=[…])` is a gateway whose two providers follow these steps."""
    made: list[World] = []

    async def make(
        alpha: Sequence[Any] = (),
        beta: Sequence[Any] = (),
        catalog: Catalog | None = None,
        funds: Callable[[Funds], Funds] = lambda funds: funds,
    ) -> World:
        upstream = ScriptedUpstream({"alpha": alpha, "beta": beta})
        world = World(database, cast, checker, upstream=upstream, catalog=catalog, funds=funds)
        world.key = await world.make_key()
        made.append(world)
        return world

    yield make
    for world in made:
        await world.settled()
