from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from bursar.api import ApiParts, create_api
from bursar.keys import KeyChecker, KeyKind
from bursar.storage import Database
from tests.conftest import Cast
from tests.gateway.world import World


@dataclass
class Api:
    """The API in this process beside a gateway with the demo provider; `key` and `management` are Acme's."""

    world: World
    client: httpx2.AsyncClient
    key: str
    management: str

    async def get(self, path: str, key: str | None = None, **more: Any) -> httpx2.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return await self.client.get(f"/api/v1{path}", headers=headers, **more)

    async def data(self, path: str, key: str, **more: Any) -> dict[str, Any]:
        answer = await self.get(path, key, **more)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["data"])


@pytest.fixture
async def api(database: Database, cast: Cast, checker: KeyChecker) -> AsyncIterator[Api]:
    world = World(database, cast, checker)
    world.key = await world.make_key()
    app = create_api(
        ApiParts(
            database,
            world.admission,
            checker,
            world.health,
            lambda: world.catalog,
            world.gateway.caught_up,
            "https://bursar.test",
        )
    )
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bursar.test") as client:
        yield Api(world, client, world.key, await world.make_key(kind=KeyKind.MANAGEMENT))
    await world.settled()
    await world.providers.close()
