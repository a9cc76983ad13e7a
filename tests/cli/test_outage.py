"""The database goes away under load and comes back: served from leases for the blind time, then 503, then by itself as before.

Full size: PostgreSQL is stopped for 60 s, and the blind time is the product's 30 s. In `make test` both are a tenth.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2
import pytest

from tests.cli.load import CLIENTS, PRICES, Load
from tests.cli.support import books, eventually, generations
from tests.cli.team import Provider, Team, stream_of
from tests.cli.test_kill import ROOT
from tests.conftest import migrate
from tests.support.postgres import PostgresServer
from tests.support.scale import SHARE, is_proving, scaled

OUTAGE_SECONDS = 60
BLIND_SECONDS = 30
WORKERS = 2
REQUESTS_EACH = 24
"""The kernel gives each new connection to either worker: one in 8 million times all of them to the same."""


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


def known_to_every_worker(team: Team, keys: Sequence[str]) -> int:
    """Asks with each key over connections of its own until no worker can have missed it: a worker that never saw a key has no lease for it,
    and does not even know it, when the database is away. How many requests that took."""
    body = {"model": "acme/flat", "messages": [{"role": "user", "content": "Hi"}]}
    for key in keys * REQUESTS_EACH:
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx2.post(f"{team.api_base}/chat/completions", json=body, headers=headers).status_code == 200
    return len(keys) * REQUESTS_EACH


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
        warmed = known_to_every_worker(team, keys)
        with Load(team, keys) as load, stream_of(team, keys[0], user="hold") as lines:
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
    assert round(json.loads(ending[-2])["usage"]["cost"] * 10**9) == PRICES["acme/metered"]
    seeing = load.statuses(stopped, stopped + blind - slack)
    sheding = load.statuses(stopped + blind + slack, back)
    assert set(seeing) == {200}, (
        f"whoever has a lease is served, and not {load.errors(stopped, stopped + blind - slack)}"
    )
    assert set(sheding) == {503}, "and then nobody"
    assert all(0 < each.retry_after <= 30 for each in load.asked if each.status == 503)
    assert set(load.statuses(0, recovered)) == {200, 503}
    assert set(load.statuses(recovered, recovered + 99)) == {200}

    rows, kept, served = generations(url), books(url), load.served
    charged = {name: cost for name, (_, cost) in rows.items() if cost}
    assert {name: charged.get(name) for name in served} == served
    assert sorted(set(charged.values())) == sorted(PRICES.values())
    assert len(charged) == warmed + len(served) + 1, "nobody else was charged, but the stream that ended meanwhile"
    spent = warmed * PRICES["acme/flat"] + sum(served.values()) + PRICES["acme/metered"]
    assert kept.cost_nanos == kept.verification.spent == spent
    assert (kept.verification.drift, kept.verification.leased, kept.statuses.get("interrupted", 0)) == (0, 0, 0)
    print(
        f"away for {back - stopped:.1f} s, blind after {blind} s: {seeing[200]} served from leases ({seeing[200] / (blind - slack):.0f}/s), "
        f"{sheding[503]} shed; served again {recovered - back:.1f} s after its start; {warmed + len(served) + 1} charged once; drift 0"
    )
