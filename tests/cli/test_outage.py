"""The database goes away under load and comes back: served from leases for the blind time, then 503, then by itself as before.

Full size: PostgreSQL is stopped for 60 s, and the blind time is the product's 30 s. In `make test` both are a tenth.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx2
import pytest

from tests.cli.crowd import Client, request_of
from tests.cli.support import books, eventually, generations
from tests.cli.team import Provider, Team, stream_of
from tests.cli.test_kill import ROOT
from tests.conftest import migrate
from tests.support.postgres import PostgresServer
from tests.support.scale import SHARE, is_proving, scaled

OUTAGE_SECONDS = 60
BLIND_SECONDS = 30
WORKERS = 2
CLIENTS = 16
PAUSE_SECONDS = 0.05
PRICE = 10_000_000
STREAM_COST = 5_000_000


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture
def postgres_of_its_own() -> Iterator[PostgresServer]:
    """Others must not be without it meanwhile."""
    with PostgresServer(is_durable=True) as server:
        migrate(server.create_database("bursar"))
        yield server


@dataclass
class Asked:
    """One request of the load: when its answer came, and what it was. Status 0: the connection broke."""

    client: int
    at: float
    status: int
    retry_after: int = 0
    generation: str = ""
    error: str = ""


@dataclass
class Load:
    """Clients that ask again and again, in a thread, until told to stop; who is refused asks again as well."""

    port: int
    keys: Sequence[str]
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._done = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(60)

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(CLIENTS)))

    async def _one(self, number: int) -> None:
        request = request_of(self.keys[number % len(self.keys)], "acme/flat")
        while not self._done.is_set():
            try:
                client = await Client(self.port, request).connect()
                try:
                    await self._until_cut(number, client)
                finally:
                    client.close()
            except (OSError, asyncio.IncompleteReadError):
                self.asked.append(Asked(number, time.monotonic(), 0))
                await asyncio.sleep(PAUSE_SECONDS)

    async def _until_cut(self, number: int, client: Client) -> None:
        while not self._done.is_set():
            client.begin()
            client.finish()
            answer = await client.answer()
            headers = answer.headers
            self.asked.append(
                Asked(
                    number,
                    time.monotonic(),
                    answer.status,
                    int(headers.get("retry-after", 0)),
                    headers.get("x-generation-id", ""),
                    "" if answer.status == 200 else answer.json["error"]["message"],
                )
            )
            if headers.get("connection") == "close":
                return
            await asyncio.sleep(PAUSE_SECONDS)

    def errors(self, since: float, until: float) -> Counter[str]:
        return Counter(each.error for each in list(self.asked) if each.status != 200 and since <= each.at < until)

    def statuses(self, since: float, until: float) -> Counter[int]:
        return Counter(each.status for each in list(self.asked) if since <= each.at < until)

    @property
    def clients_served(self) -> int:
        return len({each.client for each in list(self.asked) if each.status == 200})

    @property
    def served(self) -> list[str]:
        return [each.generation for each in self.asked if each.status == 200]


def test_a_database_that_is_away_for_twice_the_blind_time_costs_nobody_anything(
    tmp_path: Path, provider: Provider, postgres_of_its_own: PostgresServer
):
    outage, blind = scaled(OUTAGE_SECONDS), scaled(BLIND_SECONDS)
    program = ("bursar",) if is_proving() else ("tests.support.hasty", str(SHARE))
    slack = blind / 5 + 0.5
    server, url = postgres_of_its_own, postgres_of_its_own.url("bursar")
    with Team(tmp_path / "data", provider, url, workers=WORKERS, program=program, PYTHONPATH=str(ROOT)) as team:
        keys = [each["key"] for each in team.owner(amount="100000", keys=2)]
        manager = team.run("keys", "add", "--email", "p@example.com", "--name", "manager", "--management")["key"]
        body, headers = {"name": "limited", "limit": 50_000}, {"Authorization": f"Bearer {manager}"}
        keys.append(httpx2.post(f"{team.api_base}/keys", json=body, headers=headers).json()["key"])
        with Load(team.port, keys) as load, stream_of(team, keys[0], user="hold") as lines:
            next(lines)
            eventually(lambda: load.clients_served == CLIENTS, 30)
            time.sleep(blind / 5)
            stopped = time.monotonic()
            server.pause()
            time.sleep(blind)
            eventually(lambda: team.health() == 503, slack)
            assert team.health("live") == 200
            time.sleep(max(0.0, stopped + blind + slack - time.monotonic()))
            provider.release()  # what began before is answered and charged, without a database
            ending = list(lines)
            time.sleep(max(0.0, stopped + outage - time.monotonic()))
            server.resume()
            back = time.monotonic()
            eventually(lambda: team.health() == 200)
            eventually(lambda: load.statuses(time.monotonic() - 0.5, time.monotonic()).keys() == {200}, 15)
            recovered = time.monotonic()
            time.sleep(1)
    assert ending[-1] == "[DONE]"
    assert round(json.loads(ending[-2])["usage"]["cost"] * 10**9) == STREAM_COST
    seeing = load.statuses(stopped, stopped + blind - slack)
    sheding = load.statuses(stopped + blind + slack, back)
    assert set(seeing) == {200}, (
        f"whoever has a lease is served, and not {load.errors(stopped, stopped + blind - slack)}"
    )
    assert set(sheding) == {503}, "and then nobody"
    assert all(0 < each.retry_after <= 30 for each in load.asked if each.status == 503)
    assert set(load.statuses(0, recovered)) == {200, 503}
    assert set(load.statuses(recovered, recovered + 99)) == {200}

    rows, kept = generations(url), books(url)
    charged = {name: cost for name, (_, cost) in rows.items() if cost}
    assert len(load.served) == len(set(load.served))
    assert {name: charged.get(name) for name in load.served} == dict.fromkeys(load.served, PRICE)
    assert len(charged) == len(load.served) + 1, "nobody else was charged, but the stream"
    assert kept.cost_nanos == kept.verification.spent == len(load.served) * PRICE + STREAM_COST
    assert (kept.verification.drift, kept.verification.leased, kept.statuses.get("interrupted", 0)) == (0, 0, 0)
    print(
        f"away for {back - stopped:.1f} s, blind after {blind} s: {seeing[200]} served from leases ({seeing[200] / (blind - slack):.0f}/s), "
        f"{sheding[503]} shed; served again {recovered - back:.1f} s after its start; {len(load.served) + 1} charged once; drift 0"
    )
