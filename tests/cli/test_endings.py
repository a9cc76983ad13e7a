"""How a server ends, gently or not: streams end properly, holds come back, the books are right."""

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.cli.support import books, bursar, eventually, get
from tests.support.postgres import PostgresServer
from tests.support.server import RunningServer


@contextlib.contextmanager
def stream(server: RunningServer, content: str, **more: Any) -> Iterator[Iterator[str]]:
    body = {"model": "demo/echo-1", "stream": True, "messages": [{"role": "user", "content": content}], **more}
    headers = {"Authorization": f"Bearer {server.api_key}"}
    url = f"{server.api_base}/chat/completions"
    with httpx2.stream("POST", url, json=body, headers=headers, timeout=30) as response:
        assert response.status_code == 200
        yield (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))


def test_sigterm_under_a_live_stream_lets_it_end_and_exits_0(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data") as server:
        with stream(server, "[[tokens:60]]") as lines:
            seen = [next(lines) for _ in range(3)]
            server.signal(signal.SIGTERM)
            seen += list(lines)
        assert seen[-1] == "[DONE]"
        last = json.loads(seen[-2])
        assert last["usage"]["completion_tokens"] == 60
        server.stop()
        found = books(tmp_path / "data")
        assert (found.statuses, found.verification.open_holds, found.verification.drift) == ({"ok": 1}, 0, 0)
        assert round(last["usage"]["cost"] * 1e9) == found.cost_nanos == found.verification.spent


def test_after_a_kill_leases_come_back_and_the_interrupted_request_is_in_the_activity(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data") as server:
        with contextlib.suppress(httpx2.HTTPError), stream(server, "[[tokens:400]]") as lines:
            identity = json.loads(next(lines))["id"]
            next(lines)
            assert books(tmp_path / "data").verification.leased > 0
            server.kill()
            list(lines)
        left = books(tmp_path / "data")
        assert (left.requests, left.verification.drift) == (0, 0)
        assert left.verification.leased > 0
        server.start()
        found = books(tmp_path / "data")
        assert (found.verification.open_holds, found.verification.leased, found.verification.drift) == (0, 0, 0)
        assert found.verification.available + found.verification.spent == 10_000_000_000
        assert found.statuses == {"interrupted": 1}
        assert "interrupted" in server.stderr()
        row = get(server.api_base, f"/generation?id={identity}", server.api_key).json()["data"]
        assert (row["finish_reason"], row["model"]) == ("error", "demo/echo-1")
        # Less than a second of it arrived: what is lost to the house is bounded by what was not noted yet.
        assert row["native_tokens_completion"] < 100
        assert round(row["total_cost"] * 1e9) == found.verification.spent


def test_a_client_that_hangs_up_is_charged_for_what_arrived_and_no_more(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data") as server:
        with stream(server, "[[tokens:400]]") as lines:
            identity = json.loads(next(lines))["id"]
            for _ in range(5):
                next(lines)
        found = eventually(lambda: (it := books(tmp_path / "data")).requests and it)
        assert found.statuses == {"cancelled": 1}
        assert found.verification.open_holds == 0
        row = get(server.api_base, f"/generation?id={identity}", server.api_key).json()["data"]
        assert row["cancelled"] is True
        assert 5 <= row["native_tokens_completion"] < 100
        assert round(row["total_cost"] * 1e9) == found.cost_nanos > 0


async def many(server: RunningServer, key: str, count: int) -> list[int]:
    limits = httpx2.Limits(max_connections=count)
    async with httpx2.AsyncClient(limits=limits, timeout=60) as client:

        async def one(number: int) -> int:
            body = {
                "model": "demo/flat-1",
                "stream": number % 2 == 0,
                "messages": [{"role": "user", "content": f"number {number}"}],
            }
            answer = await client.post(
                f"{server.api_base}/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}
            )
            return int(answer.status_code)

        return await asyncio.gather(*(one(number) for number in range(count)))


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_64_at_once_over_http_against_credits_for_10_are_10_served_and_54_refused(
    tmp_path: Path, backend: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
):
    url = None
    if backend == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.clone("template_bursar")
    data = tmp_path / "data"
    with RunningServer(data_dir=data, database_url=url, args=["--pace", "0"]) as server:
        before = books(url or data)
        for command in (
            ("users", "add", "--email", "p@example.com", "--name", "P", "--verified"),
            ("credits", "grant", "--user", "p@example.com", "--amount", "0.10", "--reason", "ten requests"),
        ):
            bursar(*command, "--data-dir", data).succeeded()
        key = bursar("keys", "add", "--email", "p@example.com", "--name", "k", "--data-dir", data, "--json").json["key"]
        statuses = asyncio.run(many(server, key, 64))
        assert (statuses.count(200), statuses.count(402)) == (10, 54)
        usage = get(server.api_base, "/key", key).json()["data"]["usage"]
        assert usage == 0.1
        after = books(url or data)  # the key's answer waited for what was settled to be in the database
        assert after.verification.drift == 0
        assert after.verification.open_holds == 0
        assert after.cost_nanos - before.cost_nanos == 100_000_000
        assert after.verification.available == before.verification.available
        with Path(f"/proc/{server.pid}/status").open() as status:
            memory = next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))
    with capsys.disabled():
        print(f"\nbursar demo on {backend}: {memory} MB after 64 parallel requests")


def test_requests_that_come_while_the_server_stops_are_served_or_refused_never_half_charged(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data", args=["--pace", "0"]) as server:
        outcomes: list[str] = []

        def hammer() -> None:
            with httpx2.Client(timeout=10) as client:
                while True:
                    try:
                        answer = client.post(
                            f"{server.api_base}/chat/completions",
                            json={"model": "demo/flat-1", "messages": [{"role": "user", "content": "Hi"}]},
                            headers={"Authorization": f"Bearer {server.api_key}"},
                        )
                    except httpx2.HTTPError:
                        return
                    outcomes.append(str(answer.status_code))

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(outcomes) > 20)
        server.stop()
        for thread in threads:
            thread.join(15)
        found = books(tmp_path / "data")
        assert set(outcomes) <= {"200", "503"}
        assert (found.verification.drift, found.verification.open_holds) == (0, 0)
        assert found.requests >= outcomes.count("200")
        assert found.cost_nanos == found.requests * 10_000_000
        assert "Traceback" not in server.stderr()


def test_a_server_whose_lock_is_held_is_the_only_one(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data") as server:
        lock = (tmp_path / "data" / "bursar.lock").read_text().strip()
        assert lock == str(server.pid)
