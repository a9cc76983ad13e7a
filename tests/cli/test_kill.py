"""kill -9 at random moments, under load: whoever saw the end of an answer was charged for it, once, and nobody for anything else."""

import asyncio
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.cli.support import books, generations
from tests.support.postgres import PostgresServer
from tests.support.scale import SEED, scaled
from tests.support.server import RunningServer

AT_ONCE = 24


@dataclass
class Seen:
    """What clients know: the cost of every answer whose end they saw, in nanos by generation."""

    ended: dict[str, int] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)


async def ask(client: httpx2.AsyncClient, server: RunningServer, number: int, seen: Seen) -> None:
    content = f"[[tokens:{1 + number % 7 * 20}]] number {number}"
    body = {"model": "demo/echo-1", "stream": number % 2 == 0, "messages": [{"role": "user", "content": content}]}
    headers = {"Authorization": f"Bearer {server.api_key}"}
    async with client.stream("POST", f"{server.api_base}/chat/completions", json=body, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        identity = answer.headers["x-generation-id"]
        seen.begun.add(identity)
        text = (await answer.aread()).decode()
    if number % 2:
        seen.ended[identity] = round(json.loads(text)["usage"]["cost"] * 10**9)
    elif text.endswith("data: [DONE]\n\n"):
        last = json.loads(text.split("\n\n")[-3].removeprefix("data: "))
        seen.ended[identity] = round(last["usage"]["cost"] * 10**9)


async def load_until_killed(server: RunningServer, seconds: float, seen: Seen) -> None:
    async def client_of(first: int) -> None:
        async with httpx2.AsyncClient(timeout=20) as client:
            number = first
            while True:
                try:
                    await ask(client, server, number, seen)
                except httpx2.HTTPError:
                    return
                number += AT_ONCE

    clients = [asyncio.create_task(client_of(number)) for number in range(AT_ONCE)]
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.kill)
    await asyncio.wait_for(asyncio.gather(*clients), 30)


@pytest.mark.parametrize(("backend", "cycles"), [("sqlite", 60), ("postgresql", 20)])
def test_after_every_kill_what_was_answered_is_charged_once_and_the_books_are_right(
    tmp_path: Path, backend: str, cycles: int, request: pytest.FixtureRequest
):
    url = None
    if backend == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.clone("template_bursar")
    chance = random.Random(f"{SEED} {backend}")
    data, seen = tmp_path / "data", Seen()
    with RunningServer(data_dir=data, database_url=url, args=["--pace", "0"]) as server:
        for _ in range(scaled(cycles)):
            asyncio.run(load_until_killed(server, chance.uniform(0.2, 1.2), seen))
            server.start()
            rows = generations(url or data)
            found = books(url or data)
            assert found.verification.drift == 0
            assert sum(cost for _, cost in rows.values()) == found.cost_nanos == found.verification.spent
            charged = {identity: rows[identity][1] for identity in seen.ended if identity in rows}
            assert charged == seen.ended, "whoever saw the end was charged what was said, once"
            assert seen.begun <= rows.keys(), "whatever was dispatched left a trace"
        assert len(seen.ended) > scaled(cycles)
