"""A stop under load: streams end with their usage and are charged, nothing new is taken, and nobody can stretch it."""

import asyncio
import http.client
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.cli.support import books, eventually
from tests.cli.team import Provider, Team, stream_of
from tests.support.postgres import PostgresServer
from tests.support.scale import scaled

STREAMS = 300
COST = 5_000_000
"""Of a stream: half of a hundred tokens at a hundredth of a cent."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    made = postgres.clone("template_bursar")
    yield made
    postgres.drop_database(made)


@pytest.fixture(params=[1, 2])
def team(request: pytest.FixtureRequest, tmp_path: Path, provider: Provider) -> Iterator[Team]:
    """Alone on SQLite, and two workers on PostgreSQL."""
    url = request.getfixturevalue("url") if request.param > 1 else None
    with Team(tmp_path / "data", provider, url, workers=request.param, BURSAR_DRAIN_SECONDS="20") as made:
        yield made


def where(team: Team) -> Path | str:
    return team.env.get("BURSAR_DATABASE_URL") or team.data_dir


async def streams(team: Team, key: str, count: int, begun: asyncio.Event, user: str = "hold") -> list[list[str]]:
    """The events of each; `begun` when all have their first."""
    left = count

    async def one(session: aiohttp.ClientSession) -> list[str]:
        nonlocal left
        body = {"model": "acme/metered", "stream": True, "max_tokens": 100, "user": user}
        body["messages"] = [{"role": "user", "content": "Hi"}]
        url, headers = f"{team.api_base}/chat/completions", {"Authorization": f"Bearer {key}"}
        async with session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            events = [await _event(answer)]
            left -= 1
            if not left:
                begun.set()
            return events + [event async for event in _events(answer)]

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(90)) as session:
        return await asyncio.gather(*(one(session) for _ in range(count)))


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in answer.content:
        if line.startswith(b"data: "):
            yield line.decode().removeprefix("data: ").strip()


async def _event(answer: aiohttp.ClientResponse) -> str:
    return await anext(_events(answer))


def post(connection: http.client.HTTPConnection, key: str) -> http.client.HTTPResponse:
    body = json.dumps({"model": "acme/flat", "messages": [{"role": "user", "content": "Hi"}]})
    connection.request("POST", "/api/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})
    return connection.getresponse()


def test_streams_end_with_their_usage_and_are_charged_while_nothing_new_is_taken(team: Team, provider: Provider):
    count = scaled(STREAMS)
    key = team.owner()[0]["key"]
    kept = http.client.HTTPConnection("127.0.0.1", team.port, timeout=30)
    answer = post(kept, key)
    assert (answer.status, answer.read() != b"") == (200, True)

    async def stopped_meanwhile() -> list[list[str]]:
        begun = asyncio.Event()
        running = asyncio.create_task(streams(team, key, count, begun))
        await asyncio.wait_for(begun.wait(), 60)
        assert team.health() == 200
        team.signal(signal.SIGTERM)
        await asyncio.to_thread(eventually, lambda: team.health() == 503, 5)
        assert team.health("live") == 200
        refused = await asyncio.to_thread(post, kept, key)
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.headers["Connection"] == "close"
        assert "shutting down" in refused.read().decode()
        provider.release()
        return await running

    found = asyncio.run(stopped_meanwhile())
    kept.close()
    assert team.wait() == 0
    for events in found:
        assert events[-1] == "[DONE]"
        assert round(json.loads(events[-2])["usage"]["cost"] * 10**9) == COST
    kept_books = books(where(team))
    assert kept_books.statuses == {"ok": count + 1}
    assert kept_books.cost_nanos == count * COST + 10_000_000
    assert (kept_books.verification.drift, kept_books.verification.leased) == (0, 0)


def test_a_silent_provider_stretches_no_stop_beyond_its_bound_and_what_arrived_is_charged(
    tmp_path: Path, provider: Provider
):
    with Team(tmp_path / "data", provider, BURSAR_DRAIN_SECONDS="1") as team:
        key = team.owner()[0]["key"]
        with stream_of(team, key, user="silent") as lines:
            next(lines)
            began = time.monotonic()
            team.signal(signal.SIGTERM)
            said = [json.loads(line) for line in lines if line != "[DONE]"]
            [error] = [each["error"] for each in said if "error" in each]
            assert error["code"] == 503
        assert team.wait() == 0
        assert 1 <= time.monotonic() - began < 10
    found = books(tmp_path / "data")
    assert found.statuses == {"failed": 1}
    assert 0 < found.cost_nanos < COST
    assert (found.verification.drift, found.verification.leased) == (0, 0)


def test_a_whole_answer_that_never_comes_is_given_up_at_no_charge(tmp_path: Path, provider: Provider):
    with Team(tmp_path / "data", provider, BURSAR_DRAIN_SECONDS="1") as team:
        key = team.owner()[0]["key"]

        async def ask() -> int:
            body = {"model": "acme/flat", "user": "silent", "messages": [{"role": "user", "content": "Hi"}]}
            url, headers = f"{team.api_base}/chat/completions", {"Authorization": f"Bearer {key}"}
            async with aiohttp.ClientSession() as session:
                asking = asyncio.create_task(session.post(url, json=body, headers=headers))
                await asyncio.to_thread(eventually, lambda: provider.running)
                team.signal(signal.SIGTERM)
                return (await asking).status

        assert asyncio.run(ask()) == 503
        assert team.wait() == 0
    found = books(tmp_path / "data")
    assert (found.statuses, found.cost_nanos, found.verification.leased) == ({"failed": 1}, 0, 0)


def test_a_second_signal_cuts_at_once(team: Team, provider: Provider):
    key = team.owner()[0]["key"]
    with stream_of(team, key, user="silent") as lines:
        next(lines)
        began = time.monotonic()
        team.signal(signal.SIGTERM)
        eventually(lambda: team.health() == 503)
        team.signal(signal.SIGTERM)
        list(lines)
    assert team.wait() == 0
    assert time.monotonic() - began < 10, "and not the 20 s that it may take"
    assert books(where(team)).verification.leased == 0
