"""`bursar demo`: a ready installation in one command, that keeps what it has."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bursar.kernel.secrets import hash_secret
from tests.cli.support import ask, books, bursar, eventually, get
from tests.support.clients import client_python
from tests.support.server import RunningServer, clean_environment, free_port

FIRST_START_SECONDS = 6
LATER_START_SECONDS = 2
NOISE = 3
"""A busy machine may take this many times as long; the figures are printed."""


def test_demo_prints_one_line_with_everything_a_script_needs(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data", args=["--pace", "0"]) as server:
        assert server.ready.keys() == {
            "base_url",
            "api_base",
            "api_key",
            "management_key",
            "organization",
            "users",
        }
        assert server.base_url == f"http://127.0.0.1:{server.port}"
        assert server.api_base == f"{server.base_url}/api/v1"
        assert server.organization.keys() == {"id", "slug"}
        assert [user["role"] for user in server.users] == ["operator", "admin", "member"]
        for user in server.users:
            assert user.keys() == {"id", "email", "role", "sign_in_url"}
            assert user["sign_in_url"].startswith(f"{server.base_url}/link?token=")
        assert ask(server.api_base, server.api_key).status_code == 200
        assert get(server.api_base, "/credits", server.management_key).json()["data"]["total_credits"] == 10
        assert httpx2.get(server.users[1]["sign_in_url"], timeout=10).status_code == 200
    assert oct((tmp_path / "data").stat().st_mode)[-3:] == "700"
    for name in ("secret", "bursar.lock"):
        assert oct((tmp_path / "data" / name).stat().st_mode)[-3:] == "600"
    assert not (tmp_path / "data" / "bursar.sock").exists()


def test_usage_starts_at_zero(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data"):
        found = books(tmp_path / "data")
        assert (found.requests, found.cost_nanos, found.verification.drift) == (0, 0, 0)
        assert found.verification.available == 10_000_000_000


def test_a_second_start_keeps_the_data_adds_fresh_keys_and_earlier_ones_work_until_disabled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "data"
    with RunningServer(data_dir=data, args=["--pace", "0"]) as server:
        first, seconds = server.ready, [server.ready_seconds]
        generation = ask(server.api_base, server.api_key).json()["id"]
        server.stop()
        server.start()
        seconds.append(server.ready_seconds)
        second = server.ready
        assert second["organization"] == first["organization"]
        assert [user["id"] for user in second["users"]] == [user["id"] for user in first["users"]]
        assert second["api_key"] != first["api_key"]
        assert second["management_key"] != first["management_key"]
        for key in (first["api_key"], second["api_key"]):
            assert get(server.api_base, f"/generation?id={generation}", key).status_code == 200
            assert ask(server.api_base, key).status_code == 200
        assert get(server.api_base, "/credits", second["management_key"]).json()["data"]["total_credits"] == 10
        bursar("keys", "disable", "--hash", hash_secret(first["api_key"]), "--data-dir", data).succeeded()
        assert ask(server.api_base, first["api_key"]).status_code == 401
        assert ask(server.api_base, second["api_key"]).status_code == 200
    with capsys.disabled():
        print(f"\nbursar demo: first start {seconds[0]:.2f} s, second start {seconds[1]:.2f} s")
    assert seconds[0] < FIRST_START_SECONDS * NOISE
    assert seconds[1] < LATER_START_SECONDS * NOISE


def test_history_is_a_month_that_adds_up_and_is_written_once(tmp_path: Path):
    data = tmp_path / "data"
    with RunningServer(data_dir=data, args=["--with-history", "--pace", "0"]) as server:
        found = books(data)
        assert found.requests > 500
        assert found.verification.drift == 0
        assert found.verification.open_holds == 0
        assert found.cost_nanos == found.verification.spent > 0
        totals = get(server.api_base, "/credits", server.management_key).json()["data"]
        assert round(totals["total_usage"] * 1e9) == found.cost_nanos
        server.stop()
        server.start()
        again = books(data)
        assert (again.requests, again.cost_nanos, again.statuses) == (found.requests, found.cost_nanos, found.statuses)
        assert again.verification.spent == found.verification.spent
        assert again.verification.available == found.verification.available
        assert ask(server.api_base, server.api_key).status_code == 200
        eventually(lambda: books(data).requests == found.requests + 1)


def test_for_people_it_prints_links_a_key_and_snippets_that_work_when_pasted(tmp_path: Path):
    port, printed = free_port(), tmp_path / "printed"
    command = [sys.executable, "-m", "bursar", "demo", "--port", str(port), "--data-dir", str(tmp_path / "data")]
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--pace", "0"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
            start_new_session=True,
        )
    try:
        eventually(lambda: "Stop with Ctrl+C" in printed.read_text(), 30)
        text = printed.read_text()
        assert text.count(f"http://127.0.0.1:{port}/link?token=") == 3
        curl = re.search(r"  curl .*?'\n", text, re.DOTALL)
        assert curl is not None
        if subprocess.run(["sh", "-c", "command -v curl"], capture_output=True, check=False).returncode == 0:
            done = subprocess.run(["sh", "-c", curl[0]], capture_output=True, text=True, timeout=30, check=True)
            assert json.loads(done.stdout)["choices"][0]["message"]["content"]
        snippet = text[text.index("  from openai import OpenAI") : text.index("Then open the activity")]
        code = "\n".join(line[2:] for line in snippet.splitlines())
        ran = subprocess.run(
            [client_python("openai"), "-c", code],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert len(ran.stdout) > 20
    finally:
        process.send_signal(signal.SIGINT)
        code_at_end = process.wait(20)
    assert code_at_end == 0
    assert "Traceback" not in printed.read_text()


def test_a_port_in_use_is_said_in_a_sentence_with_a_remedy(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        plain = bursar("demo", "--port", port, "--data-dir", tmp_path / "data").refused(3)
        assert f"Port {port} on 127.0.0.1 is in use." in plain.err
        assert "--port" in plain.err
        assert plain.out == ""
        told = bursar("demo", "--json", "--port", port, "--data-dir", tmp_path / "data").refused(3).json["error"]
        assert told["name"] == "PortInUse"
        assert "--port" in told["remedy"]


@pytest.mark.parametrize("command", [("demo",), ("serve",), ("migrate",), ("doctor",)])
def test_a_data_directory_that_cannot_be_used_is_said_in_a_sentence_with_a_remedy(
    tmp_path: Path, command: tuple[str, ...]
):
    (tmp_path / "file").write_text("not a directory")
    port = ["--port", "0"] if command[0] in ("demo", "serve") else []
    done = bursar(*command, *port, "--data-dir", tmp_path / "file" / "data").refused(1 if command[0] == "doctor" else 3)
    assert str(tmp_path / "file" / "data") in done.said
    assert "--data-dir" in done.said


def test_a_data_directory_in_use_is_refused_and_the_server_that_has_it_goes_on(tmp_path: Path):
    data = tmp_path / "data"
    with RunningServer(data_dir=data, args=["--pace", "0"]) as server:
        for command in (["demo", "--port", "0"], ["serve", "--port", "0"], ["migrate"]):
            done = bursar(*command, "--data-dir", data).refused(1)
            assert f"in use by process {server.pid}" in done.err
        assert ask(server.api_base, server.api_key).status_code == 200


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"BURSAR_PROT": "8484"}, "Did you mean BURSAR_PORT?"),
        ({"BURSAR_NONSENSE_OF_OURS": "1"}, "docs/settings.md"),
        ({"BURSAR_PORT": "many"}, "BURSAR_PORT"),
        ({"BURSAR_PORT": "70000"}, "BURSAR_PORT"),
        ({"BURSAR_SIGN_UP": "maybe"}, "BURSAR_SIGN_UP"),
        ({"BURSAR_PUBLIC_URL": "bursar.example.com"}, "BURSAR_PUBLIC_URL"),
        ({"BURSAR_SECRET": "short"}, "BURSAR_SECRET"),
        ({"BURSAR_SECRET_FILE": "/nowhere/at/all"}, "BURSAR_SECRET_FILE"),
        ({"BURSAR_DATABASE_URL": "mysql://x"}, "BURSAR_DATABASE_URL"),
        ({"BURSAR_CATALOG": "/nowhere/catalog.toml"}, "/nowhere/catalog.toml"),
        ({"BURSAR_TRUSTED_PROXIES": "my-proxy"}, "BURSAR_TRUSTED_PROXIES"),
    ],
)
def test_a_setting_that_is_wrong_is_named_and_nothing_starts(tmp_path: Path, env: dict[str, str], said: str):
    done = bursar("demo", "--data-dir", tmp_path / "data", env={"BURSAR_PORT": "0", **env}).refused(3)
    assert said in done.err
    assert done.out == ""


def test_nothing_secret_is_in_the_log(tmp_path: Path):
    secret = "a very secret installation secret of 40 bytes"
    with RunningServer(
        data_dir=tmp_path / "data", args=["--pace", "0"], env={"BURSAR_SECRET": secret, "BURSAR_LOG_LEVEL": "debug"}
    ) as server:
        ask(server.api_base, server.api_key)
        ask(server.api_base, server.api_key, "[[fail:500]]")
        ask(server.api_base, server.api_key[:-1] + "x")
        get(server.api_base, "/key", server.management_key)
        httpx2.get(server.users[0]["sign_in_url"], timeout=10)
        server.stop()
        log = server.stderr()
    secrets = [secret, server.api_key, server.api_key[:-1], server.management_key]
    secrets += [user["sign_in_url"].partition("token=")[2] for user in server.users]
    for each in secrets:
        assert each not in log
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            stored = path.read_bytes()
            assert not [each for each in secrets if each.encode() in stored], path


def test_the_last_words_of_a_server_are_quiet(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data", args=["--pace", "0"]) as server:
        ask(server.api_base, server.api_key, stream=True)
        server.signal(signal.SIGINT)
        server.stop()
        assert "Traceback" not in server.stderr()


def test_bad_http_is_refused_by_the_door_and_the_server_goes_on(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data", args=["--pace", "0"]) as server:
        head = "POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        good = f"Authorization: Bearer {server.api_key}\r\n"
        cases: list[tuple[bytes, set[int]]] = [
            (f"{head}Authorization: Bearer a\0b\r\n\r\n".encode(), {400}),
            (
                f"{head}Authorization: Bearer {'k' * 1024 * 1024}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
                {400, 401, 431},
            ),
            (f"{head}{good}User-Agent: a\0b\r\nContent-Length: 2\r\n\r\n{{}}".encode(), {400}),
            (f"{head}{good}Content-Length: -5\r\n\r\n".encode(), {400}),
            (f"{head}{good}Content-Length: many\r\n\r\n".encode(), {400}),
            (f"{head}{good}Content-Length: 99999999999\r\n\r\n{{".encode(), {413}),
            (f"{head}{good}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}".encode(), {400}),
            (b"GET / HTTP/9.9\r\n\r\n", {400, 505}),
            (b"\0\0\0\0\r\n\r\n", {400}),
            (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", {400}),
        ]
        for request, statuses in cases:
            assert status_of(server.port, request) in statuses, request[:120]
        oversized = [b" " * 1024 * 1024] * 21
        answer: Any = httpx2.post(
            f"{server.api_base}/chat/completions",
            content=iter(oversized),
            headers={"Authorization": f"Bearer {server.api_key}"},
            timeout=30,
        )
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == 413
        assert ask(server.api_base, server.api_key).status_code == 200
        assert "Traceback" not in server.stderr()


def status_of(port: int, request: bytes) -> int:
    """The status of the first answer; 400 where the server only closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(request)
            answer = connection.recv(65536)
        except ConnectionError:
            return 400
    return int(answer.split(b" ", 2)[1]) if answer else 400
