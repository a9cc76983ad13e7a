"""`bursar serve --workers N`: several processes on one port and one database, each with its own journal and leases."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text

from bursar import ledger
from bursar.storage import Snapshot
from tests.cli.support import ask, books, bursar, eventually, read
from tests.cli.team import Provider, Team, kill, stream_of
from tests.support.metrics import read_metrics
from tests.support.postgres import PostgresServer

WORKERS = 3


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    made = postgres.clone("template_bursar")
    yield made
    postgres.drop_database(made)


def workers(url: str) -> list[ledger.Worker]:
    async def look(snapshot: Snapshot) -> list[ledger.Worker]:
        return list(await ledger.list_workers(snapshot))

    return read(url, look)


def watermarks(url: str) -> dict[str, int]:
    return {worker.id.rpartition("-")[2]: worker.watermark for worker in workers(url)}


def ask_many(team: Team, key: str, count: int) -> Counter[int]:
    """Each on a connection of its own, which the kernel gives to any worker."""
    body = json.dumps({"model": "acme/flat", "messages": [{"role": "user", "content": "Hi"}]})

    def one(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", team.port, timeout=30)
        try:
            connection.request("POST", "/api/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})
            return connection.getresponse().status
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(one, range(count)))


def answered(team: Team) -> dict[str, float]:
    """How many requests each worker says that it served, told by any of them."""
    found = read_metrics(httpx2.get(f"http://127.0.0.1:{team.port}/metrics").text)
    numbers = [key.rpartition("=")[2] for key in found if key.startswith("bursar_running_requests ")]
    return {number: found.get(f"bursar_requests_total status=200 worker={number}", 0) for number in numbers}


def test_sqlite_refuses_a_second_worker_and_says_what_to_do(tmp_path: Path):
    said = bursar("serve", "--workers", 2, "--data-dir", tmp_path / "data").refused(3).said
    assert "SQLite" in said
    assert "BURSAR_DATABASE_URL" in said


def test_workers_share_a_port_and_the_books_and_one_that_is_killed_comes_back_with_its_journal(
    tmp_path: Path, url: str, provider: Provider
):
    with Team(tmp_path / "data", provider, url, workers=WORKERS) as team:
        key = team.owner()[0]["key"]
        assert ask_many(team, key, 60) == {200: 60}
        eventually(lambda: books(url).requests == 60)
        assert all(mark > 0 for mark in watermarks(url).values()), "the kernel spread the connections"
        # Whichever worker is asked: so many connections meet each of them, as good as always.
        eventually(lambda: [sum(answered(team).values()) for _ in range(9)] == [60] * 9)
        assert len(answered(team)) == WORKERS
        before, started = team.processes, {worker.started_at for worker in workers(url)}
        kill(before[1])
        eventually(
            lambda: not Path(f"/proc/{before[1]}").exists()
        )  # not before its last thread does the port forget it
        statuses = ask_many(team, key, 20)
        assert statuses == {200: 20}, "the others go on"
        eventually(lambda: len(started - {worker.started_at for worker in workers(url)}) == 1)
        assert len(team.processes) == WORKERS
        eventually(lambda: sorted(answered(team)) == sorted(map(str, range(WORKERS))))
        assert sum(answered(team).values()) < 80, "one began anew"
    assert list((tmp_path / "data" / "workers").iterdir()) == []
    found = books(url)
    assert (found.verification.drift, found.verification.leased) == (0, 0)
    assert found.statuses["ok"] == 80
    assert found.cost_nanos == found.verification.spent
    assert {worker.node for worker in workers(url)} == {(tmp_path / "data" / "node").read_text().strip()}


def test_what_a_worker_left_is_brought_in_when_there_are_fewer_workers(tmp_path: Path, url: str, provider: Provider):
    data = tmp_path / "data"
    with Team(data, provider, url, workers=WORKERS) as team:
        key = team.owner()[0]["key"]
        assert ask_many(team, key, 40) == {200: 40}
        with contextlib.suppress(httpx2.HTTPError), stream_of(team, key, user="silent") as lines:
            next(lines)
            team.die()
    assert books(url).verification.leased > 0
    with Team(data, provider, url) as alone:
        found = books(url)
        assert (found.verification.drift, found.verification.leased) == (0, 0)
        assert found.statuses == {"ok": 40, "interrupted": 1}
        assert ask(alone.api_base, key, model="acme/flat").status_code == 200
    assert books(url).verification.leased == 0


def test_two_nodes_share_a_database(tmp_path: Path, url: str, provider: Provider):
    with (
        Team(tmp_path / "one" / "data", provider, url, workers=2) as one,
        Team(tmp_path / "two" / "data", provider, url) as two,
    ):
        key = one.owner(amount="1")[0]["key"]
        for team in (one, two):
            assert ask_many(team, key, 10) == {200: 10}
        statuses = ask_many(one, key, 100) + ask_many(two, key, 20)
        assert statuses[200] + statuses[402] == 120
        assert statuses[200] <= 80
    found = books(url)
    assert (found.verification.drift, found.verification.leased) == (0, 0)
    assert found.verification.spent == (20 + statuses[200]) * 10_000_000


def test_a_key_that_is_disabled_or_deleted_is_refused_by_every_worker_within_a_second(
    tmp_path: Path, url: str, provider: Provider, postgres: PostgresServer
):
    with Team(tmp_path / "data", provider, url, workers=WORKERS) as team:
        key, other = team.owner(keys=2)
        assert ask_many(team, key["key"], 30) == {200: 30}  # in the cache of each
        team.run("keys", "disable", "--hash", key["hash"])
        time.sleep(0.3)
        assert ask_many(team, key["key"], 30) == {401: 30}
        # And without anybody who listens: by looking.
        assert ask_many(team, other["key"], 30) == {200: 30}
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'"
        assert postgres._run_psql(ended).stdout.count("\n t") >= WORKERS
        team.run("keys", "disable", "--hash", other["hash"])
        time.sleep(1)
        assert ask_many(team, other["key"], 30) == {401: 30}


def test_one_process_runs_the_jobs_and_another_takes_over(tmp_path: Path, url: str, provider: Provider):
    async def holder(snapshot: Snapshot) -> str | None:
        found: str | None = await snapshot.scalar(text("SELECT holder FROM holders WHERE name = 'jobs'"))
        return found

    with Team(tmp_path / "data", provider, url, workers=2) as team:
        team.owner()  # by whichever worker answers on the operator's socket; its mail is sent by whoever holds the jobs
        eventually(lambda: "--- mail to p@example.com" in team.stderr)
        assert team.stderr.count("--- mail to p@example.com") == 1
        first = read(url, holder)
        for process in team.processes:
            kill(process)
        eventually(lambda: read(url, holder) not in (None, first), 30)
        team.owner("q")
        eventually(lambda: "--- mail to q@example.com" in team.stderr)


def test_an_installation_that_is_not_in_order_ends_with_a_sentence_and_no_worker_is_left(
    tmp_path: Path, url: str, provider: Provider
):
    data = tmp_path / "data"
    with Team(data, provider, url, workers=2):
        pass
    (data / "journal" / "1").rename(data / "journal" / "elsewhere")
    (data / "journal" / "1").write_text("not a folder")
    env = {"BURSAR_DATABASE_URL": url, "BURSAR_SECRET": "s" * 40}
    done = bursar("serve", "--workers", 2, "--port", 0, "--data-dir", data, env=env).refused(3)
    assert "journal/1" in done.said


def test_ctrl_c_in_a_terminal_drains_once_however_many_processes_hear_it(tmp_path: Path, url: str, provider: Provider):
    with Team(tmp_path / "data", provider, url, workers=2) as team:
        key = team.owner()[0]["key"]
        with stream_of(team, key, user="hold") as lines:
            next(lines)
            for process in (team.pid, *team.processes):
                os.kill(process, signal.SIGINT)
            eventually(lambda: team.health() in (0, 503))
            time.sleep(0.5)
            provider.release()
            assert list(lines)[-1] == "[DONE]"
        assert team.wait() == 0
    assert books(url).statuses == {"ok": 1}
