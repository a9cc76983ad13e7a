from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

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


class Present:
    """Whatever stands for a part of the API in the test that runs: the application is built once, which costs more than most tests."""

    def __init__(self) -> None:
        self.part: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)


@dataclass
class Stage:
    database: Present = field(default_factory=Present)
    world: Present = field(default_factory=Present)
    admission: Present = field(default_factory=Present)
    checker: Present = field(default_factory=Present)
    health: Present = field(default_factory=Present)

    def build(self) -> FastAPI:
        parts: Any = (self.database, self.admission, self.checker, self.health)
        return create_api(ApiParts(*parts, lambda: self.world.catalog, self.caught_up, "https://bursar.test"))

    async def caught_up(self) -> None:
        await self.world.gateway.caught_up()

    def set(self, world: World, checker: KeyChecker) -> None:
        self.database.part, self.world.part, self.checker.part = world.database, world, checker
        self.admission.part, self.health.part = world.admission, world.health


@pytest.fixture(scope="session")
def stage() -> tuple[Stage, FastAPI]:
    made = Stage()
    return made, made.build()


@pytest.fixture
async def api(database: Database, cast: Cast, checker: KeyChecker, stage: tuple[Stage, FastAPI]) -> AsyncIterator[Api]:
    world = World(database, cast, checker)
    world.key = await world.make_key()
    present, app = stage
    present.set(world, checker)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bursar.test") as client:
        yield Api(world, client, world.key, await world.make_key(kind=KeyKind.MANAGEMENT))
    await world.settled()
    await world.providers.close()
