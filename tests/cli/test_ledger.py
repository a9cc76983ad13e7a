"""`bursar ledger`: what an operator sees of the books, beside a running server and without one."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from bursar.kernel.clock import SystemClock
from bursar.storage import Database, Sealer
from tests.cli.support import ask, bursar, eventually
from tests.support.metrics import read_metrics
from tests.support.postgres import PostgresServer
from tests.support.server import RunningServer
from tests.support.tampering import behind_their_backs


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "sqlite":
        yield None
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    made = server.clone("template_bursar")
    yield made
    server.drop_database(made)


def database_env(url: str | None) -> dict[str, str]:
    return {} if url is None else {"BURSAR_DATABASE_URL": url}


def tamper(data: Path, url: str | None, *statements: str) -> None:
    async def work() -> None:
        database = Database(
            url or f"sqlite:///{data / 'bursar.db'}", clock=SystemClock(), sealer=Sealer(os.urandom(32)), node="x"
        )
        await behind_their_backs(database, *statements)
        await database.close()

    asyncio.run(work())


def files(data: Path) -> set[str]:
    return {path.name for path in data.iterdir()} - {"bursar.db-wal", "bursar.db-shm"}


def test_the_books_are_verified_beside_a_running_server_and_after_it_and_drift_is_named(
    tmp_path: Path, url: str | None
):
    data, env = tmp_path / "data", database_env(url)
    with RunningServer(data_dir=data, database_url=url, args=["--pace", "0"]) as server:
        for _ in range(3):
            assert ask(server.api_base, server.api_key).status_code == 200
        found = bursar("ledger", "verify", "--data-dir", data, "--json", env=env).succeeded().json
        assert (found["ok"], found["drift"], found["differences"]) == (True, 0, [])
        assert sum(found["sums"]["USD"].values()) == 0
        eventually(
            lambda: bursar("ledger", "verify", "--data-dir", data, "--json", env=env).json["workers"][0]["batches"]
        )
    before = files(data)
    done = bursar("ledger", "verify", "--data-dir", data, env=env).succeeded()
    assert done.out.startswith("The books are right: drift 0 over ")
    assert "0 settlements behind" in done.out
    assert files(data) == before, "it made nothing"
    owner = server.organization["id"]
    tamper(
        data,
        url,
        f"UPDATE accounts SET balance_nanos = balance_nanos + 1 WHERE owner_id = '{owner}' AND account = 'spent'",
    )
    done = bursar("ledger", "verify", "--data-dir", data, env=env).refused(1)
    assert f"balance: {owner} spent: the balance is " in done.out
    assert bursar("ledger", "verify", "--data-dir", data, "--json", env=env).json["drift"] == 2


def test_what_was_journaled_and_not_applied_is_lag_and_no_drift(tmp_path: Path):
    data = tmp_path / "data"
    with RunningServer(data_dir=data, args=["--pace", "0"]) as server:
        ask(server.api_base, server.api_key)
        eventually(lambda: bursar("ledger", "verify", "--data-dir", data, "--json").json["workers"][0]["batches"] == 1)
        shutil.copytree(data, tmp_path / "old", ignore=shutil.ignore_patterns("*.sock"))
        for _ in range(2):
            ask(server.api_base, server.api_key)
        server.kill()
        shutil.rmtree(tmp_path / "old" / "journal")  # the database of before, the journal of now
        shutil.copytree(data / "journal", tmp_path / "old" / "journal")
        found = bursar("ledger", "verify", "--data-dir", tmp_path / "old", "--json").succeeded().json
        assert (found["drift"], found["workers"][0]["lag_records"]) == (0, 2)
        server.start()


def test_a_request_that_runs_is_an_open_hold(tmp_path: Path):
    data = tmp_path / "data"
    with RunningServer(data_dir=data) as server:
        body = {
            "model": "demo/echo-1",
            "stream": True,
            "messages": [{"role": "user", "content": "[[slow]][[tokens:4000]]"}],
        }
        url, headers = f"{server.api_base}/chat/completions", {"Authorization": f"Bearer {server.api_key}"}
        with httpx2.stream("POST", url, json=body, headers=headers, timeout=30) as answer:
            pieces = answer.iter_bytes()  # kept: forgotten, it would close the stream
            assert next(pieces)
            found = bursar("ledger", "verify", "--data-dir", data, "--json").succeeded().json
        assert found["holds"]["open"] == 1
        assert found["holds"]["held"] > 0
        assert found["holds"]["oldest_seconds"] >= 0
        assert found["drift"] == 0


def test_where_it_cannot_look_it_says_so_and_exits_with_2(tmp_path: Path):
    done = bursar("ledger", "verify", "--data-dir", tmp_path / "nowhere").refused(2)
    assert "There is no database" in done.err
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "bursar.db").write_bytes(b"not a database at all, but long enough to look like one" * 100)
    bursar("ledger", "verify", "--data-dir", tmp_path).refused(2)
    gone = bursar(
        "ledger",
        "verify",
        "--data-dir",
        tmp_path,
        "--json",
        env={"BURSAR_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"},
    ).refused(2)
    assert json.loads(gone.out)["error"]["name"] == "DatabaseUnavailable"


def test_a_charge_is_corrected_in_two_steps_beside_a_running_server(tmp_path: Path):
    data = tmp_path / "data"
    with RunningServer(data_dir=data, args=["--pace", "0"]) as server:
        charge = f"charge-{ask(server.api_base, server.api_key).json()['id']}"
        slug, operator = server.organization["slug"], server.users[0]["email"]
        eventually(lambda: bursar("ledger", "verify", "--data-dir", data, "--json").json["workers"][0]["batches"])
        where = ("--data-dir", data, "--json")
        made = bursar(
            *("ledger", "correct", "--organization", slug, "--transfer", charge, "--reason", "it was slow"),
            *("--operator", operator, *where),
        ).succeeded()
        identity = made.json["correction"]
        done = bursar("ledger", "confirm", "--correction", identity, "--operator", operator, *where).refused(1)
        assert "--alone" in done.json["error"]["remedy"]
        done = bursar(
            "ledger", "confirm", "--correction", identity, "--operator", operator, "--alone", *where
        ).succeeded()
        assert (done.json["corrects"], done.json["to"]) == (charge, "credits")
        listed = bursar("ledger", "corrections", "--data-dir", data).succeeded()
        assert f"{identity}  posted  " in listed.out
        found = bursar("ledger", "verify", "--data-dir", data, "--json").succeeded().json
        assert found["sums"]["USD"]["system:corrections"] == -made.json["amount_nanos"]


def test_a_server_counts_what_it_answered_charged_and_refused(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data", args=["--pace", "0"]) as server:
        cost = sum(round(ask(server.api_base, server.api_key).json()["usage"]["cost"] * 10**9) for _ in range(3))
        assert ask(server.api_base, "sk-bursar-v1-nonsense").status_code == 401
        assert ask(server.api_base, server.api_key, model="nobody/nothing").status_code == 400

        def counted() -> dict[str, float]:
            return read_metrics(httpx2.get(f"{server.base_url}/metrics").text)

        found = eventually(lambda: (seen := counted()).get("bursar_batch_settlements_sum worker=0") == 3 and seen)
        assert (found["bursar_requests_total status=200 worker=0"], found["bursar_spend_nanos_total worker=0"]) == (
            3,
            cost,
        )
        assert (
            found["bursar_requests_total status=401 worker=0"],
            found["bursar_requests_total status=400 worker=0"],
        ) == (1, 1)
        assert [
            found[f"bursar_{name} worker=0"] for name in ("open_holds", "journal_lag_records", "running_requests")
        ] == [
            0,
            0,
            0,
        ]
