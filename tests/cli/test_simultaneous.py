"""Two thousand requests at the same moment against a pool that covers a hundred: over real HTTP, alone on SQLite and by four workers on
PostgreSQL.

All 2,000 connections are open, and everything but each request's last byte is sent, before the first last byte leaves. The named bounds
of requests at once are set above 2,000, so that it is credits and limits that refuse: a 503 or a 429 would fail these tests.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from bursar import ledger
from bursar.activity import tables as activity_tables
from bursar.cli._socket import call
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import NANOS_PER_CREDIT
from bursar.storage import Snapshot
from tests.cli.crowd import Answer, Client, connect, connect_again, request_of, wave
from tests.cli.support import eventually, read
from tests.cli.team import Provider, Team
from tests.support.postgres import PostgresServer
from tests.support.scale import scaled

CLIENTS = 2_000
REPEATS = 20
POOL = NANOS_PER_CREDIT
PRICE = POOL // 100
SPENT_LEAST = POOL * 98 // 100
ROUNDS_MAX = 20
"""How often whoever was refused asks again."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture(scope="module", params=[1, 4], ids=["sqlite", "postgresql"])
def team(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, provider: Provider
) -> Iterator[Team]:
    """One worker on SQLite, four on PostgreSQL."""
    folder, url = tmp_path_factory.mktemp("team"), None
    if request.param > 1:
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.clone("template_bursar")
    with Team(folder / "data", provider, url, workers=request.param) as made:
        yield made


@dataclass(frozen=True)
class Pool:
    """A person with a dollar, and `keys`."""

    team: Team
    owner: OwnerId
    keys: Sequence[str]

    async def require(self, spent: int) -> None:
        """So much was spent, in nanos, by the activity and by the ledger, as soon as what was answered is in the books."""
        table = activity_tables.generations
        asked = select(func.coalesce(func.sum(table.c.cost_nanos), 0)).where(table.c.owner_id == self.owner)

        async def look(snapshot: Snapshot) -> tuple[int, int]:
            return int(await snapshot.scalar(asked)), (await ledger.balance(snapshot, self.owner)).available

        await asyncio.to_thread(eventually, lambda: read(self.team.where, look) == (spent, POOL - spent))


def pool_of(team: Team, name: str, keys: int = 1, limit: float | None = None) -> Pool:
    email = f"{name}@example.com"

    def operate(what: str, **arguments: Any) -> dict[str, Any]:
        done = call(team.data_dir / "bursar.sock", what, arguments)
        assert done is not None
        return done

    operate("users.add", email=email, name=name, verified=True, operator=False)
    granted = operate("credits.grant", organization=None, email=email, amount="1", reason="for a test", transfer=None)
    manager = operate("keys.add", organization=None, email=email, name="manager", management=True)["key"]

    def key(number: int) -> str:
        body = {"name": f"key {number}"} | ({} if limit is None else {"limit": limit})
        made = httpx2.post(f"{team.api_base}/keys", json=body, headers={"Authorization": f"Bearer {manager}"})
        assert made.status_code == 201, made.text
        return str(made.json()["key"])

    return Pool(team, OwnerId(granted["owner"]), [key(number) for number in range(keys)])


async def spend(pool: Pool, **body: Any) -> tuple[Counter[int], Counter[int], int]:
    """The statuses of the first wave, and of all answers that were last; how many rounds of asking again there were."""
    # Half of them with the first key, so that its limit binds where there are limits.
    keys = [pool.keys[max(0, number % (2 * len(pool.keys)) - len(pool.keys))] for number in range(CLIENTS)]
    clients = await connect(pool.team.port, [request_of(key, **body) for key in keys])
    try:
        first = await wave(clients)
        rounds = await _again(clients)
    finally:
        for client in clients:
            client.close()
    odd = Counter(
        answer.body for client in clients for answer in client.answers if answer.status not in (200, 402, 403)
    )
    assert not odd, odd.most_common(3)
    served = _served(clients)
    await pool.require(len(served) * PRICE)
    by_key = Counter(key for key, client in zip(keys, clients, strict=True) if client.last.status == 200)
    assert max(by_key.values()) <= 100 // len(pool.keys), "the limits of the keys are the pool's equal parts"
    assert all(round(answer.json["usage"]["cost"] * 10**9) == PRICE for answer in served)
    assert len({answer.headers["x-generation-id"] for answer in served}) == len(served)
    return first, Counter(client.last.status for client in clients), rounds


async def _again(clients: Sequence[Client]) -> int:
    """As people do: whoever was refused asks again, until the pool is spent or nobody is served any more."""
    rounds = in_vain = 0
    while len(_served(clients)) * PRICE < SPENT_LEAST and in_vain < 2 and rounds < ROUNDS_MAX:
        rounds += 1
        refused = [client for client in clients if client.last.status != 200]
        await connect_again(refused)
        served = (await wave(refused))[200]
        in_vain = 0 if served else in_vain + 1  # what others gave back may have come too late for one round
    return rounds


def _served(clients: Sequence[Client]) -> Sequence[Answer]:
    return [client.last for client in clients if client.last.status == 200]


SHAPES = {
    "one key": (1, None, {"model": "acme/flat"}),
    "ten keys with limits": (10, 0.1, {"model": "acme/flat"}),
    "half of what is held": (1, None, {"model": "acme/metered", "max_tokens": 200}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_never_more_is_spent_than_there_is_and_hardly_anything_is_left(team: Team, shape: str):
    keys, limit, body = SHAPES[shape]
    waves, ends, rounds, forbidden = [], [], [], 0
    for repeat in range(scaled(REPEATS, one_in=REPEATS)):
        pool = pool_of(team, f"{shape.replace(' ', '-')}-{repeat}", keys, limit)
        first, last, asked = asyncio.run(spend(pool, **body))
        assert sum(last.values()) == CLIENTS
        assert last[200] <= 100
        assert limit is not None or not first[403] + last[403]
        assert last[200] * PRICE >= SPENT_LEAST
        if team.workers == 1 and "half" not in shape:
            assert first[200] * PRICE >= SPENT_LEAST, "in one wave"
        waves.append(first[200])
        forbidden += last[403]
        ends.append(last[200])
        rounds.append(asked)
    found = team.run("ledger", "verify")
    assert found["drift"] == 0
    print(
        f"{shape}, {team.workers} worker(s): {len(waves)} times {CLIENTS} at once; served in the first wave {min(waves)} to {max(waves)}, "
        f"in all {min(ends)} to {max(ends)} of 100, after asking again {min(rounds)} to {max(rounds)} times; "
        f"of the refusals {forbidden} were 403, the others 402 (what is only held may come back); drift {found['drift']}"
    )
