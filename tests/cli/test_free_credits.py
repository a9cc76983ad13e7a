"""Credits that cost nothing never meet a provider that costs the operator money, whichever way the two come together."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.support.server import RunningServer, clean_environment


def serve(data_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bursar", "serve", "--port", "0", "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=clean_environment(environment),
    )


def test_a_demos_data_is_not_served_with_real_providers():
    with RunningServer(args=["--pace", "0"]) as server:
        server.stop()
        refused = serve(server.data_dir, OPENAI_API_KEY="sk-not-a-real-one")
        assert refused.returncode == 3
        assert "demo" in refused.stderr
        assert "BURSAR_LET_SANDBOX_CREDITS_SPEND_REAL_MONEY" in refused.stderr
        assert "Traceback" not in refused.stderr


REAL = """
[[provider]]
slug = "real"
protocol = "openai"
base_url = "https://real.example/v1"
[[model]]
id = "real/one"
context_length = 1000
[[endpoint]]
model = "real/one"
provider = "real"
upstream_model = "one"
prompt = "0.000001"
completion = "0.000001"
"""


def test_a_reload_does_not_bring_a_real_provider_to_sandbox_credits(tmp_path: Path):
    catalog = tmp_path / "catalog.toml"
    catalog.write_text("")
    with RunningServer(args=["--pace", "0"], env={"BURSAR_CATALOG": str(catalog)}) as server:
        catalog.write_text(REAL)
        server.signal(signal.SIGHUP)
        for _ in range(100):
            if "not reloaded" in server.stderr():
                break
            time.sleep(0.05)
        assert "BURSAR_LET_SANDBOX_CREDITS_SPEND_REAL_MONEY" in server.stderr()
        models = httpx2.get(f"{server.api_base}/models").json()["data"]
        assert "real/one" not in [model["id"] for model in models]


@pytest.mark.parametrize("what", ["headers", "request line"])
def test_endless_headers_are_refused_before_they_fill_the_memory(what: str):
    with RunningServer(args=["--pace", "0"]) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        before = memory(server.pid)
        client.sendall(b"GET / HTTP/1.1\r\n" if what == "headers" else b"GET /")
        answer = b""
        try:
            for _ in range(800):
                client.sendall(b"x-filler: " + b"a" * 100_000 + b"\r\n" if what == "headers" else b"a" * 100_000)
            answer = client.recv(1000)
        except ConnectionError:
            pass
        assert not answer or b" 431 " in answer
        assert memory(server.pid) - before < 20_000
        assert httpx2.get(f"{server.api_base}/models").status_code == 200


def memory(pid: int) -> int:
    """Resident kilobytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])
