"""What Bursar costs: start-up, memory, and CPU per request on its embedded default.

Starts `bursar demo --pace 0` (SQLite, demo provider answering at once) as a subprocess on loopback, loads it from this process
and prints one table; also writes it to `bench/results/`. Figures of a noisy machine: compare ratios within one run, never
absolute times between runs. (The comparison with a bare proxy comes with the data plane's issue.)
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp

REQUESTS = 2_000
STREAMS = 200
CONNECTIONS = 64
TICKS = os.sysconf("SC_CLK_TCK")
BODY = {"model": "demo/echo-1", "max_tokens": 32, "messages": [{"role": "user", "content": "Hello"}]}


class Demo:
    """A demo installation in a scratch directory."""

    def __init__(self, data_dir: str) -> None:
        self.data_dir = data_dir

    def __enter__(self) -> Self:
        begun = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "bursar",
            "demo",
            "--json",
            "--port",
            "0",
            "--pace",
            "0",
            "--data-dir",
            self.data_dir,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.facts: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.ready_seconds = time.perf_counter() - begun
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise AssertionError


async def load(count: int, connections: int, once: Callable[[], Awaitable[float]]) -> tuple[float, list[float]]:
    """Runs `once` `count` times on `connections` at a time; seconds in all, and each one's latency."""
    left = iter(range(count))
    latencies: list[float] = []

    async def worker() -> None:
        latencies.extend([await once() for _ in left])

    begun = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return time.perf_counter() - begun, latencies


async def measure(demo: Demo) -> list[tuple[str, str]]:
    headers = {"Authorization": f"Bearer {demo.facts['api_key']}"}
    url = f"{demo.facts['api_base']}/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    rows: list[tuple[str, str]] = []
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def call(body: dict[str, Any], address: str = url) -> float:
            begun = time.perf_counter()
            async with session.post(address, json=body) as response:
                await response.read()
                assert response.status == 200, await response.text()
            return time.perf_counter() - begun

        await load(100, 4, lambda: call(BODY))
        cases = (
            ("whole answers, 1 connection", REQUESTS // 4, 1, BODY),
            (f"whole answers, {CONNECTIONS} connections", REQUESTS, CONNECTIONS, BODY),
            (f"streams of 32 tokens, {CONNECTIONS} connections", STREAMS, CONNECTIONS, {**BODY, "stream": True}),
        )
        for name, count, connections, body in cases:
            before = demo.cpu_seconds()
            seconds, latencies = await load(count, connections, lambda body=body: call(body))  # type: ignore[misc]
            cpu = (demo.cpu_seconds() - before) / count * 1000
            p50, p99 = statistics.median(latencies) * 1000, statistics.quantiles(latencies, n=100)[98] * 1000
            rows.append(
                (name, f"{count / seconds:7.0f}/s  {cpu:6.2f} CPU-ms each  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms")
            )
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Demo(folder) as demo:
            first = demo.ready_seconds
        with Demo(folder) as demo:
            rows = [("first start, ready", f"{first:7.2f} s"), ("later start, ready", f"{demo.ready_seconds:7.2f} s")]
            time.sleep(2)
            rows.append(("resident memory, idle", f"{demo.rss_mb():7.1f} MB"))
            rows += asyncio.run(measure(demo))
            rows.append(("resident memory, after", f"{demo.rss_mb():7.1f} MB"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    print(machine)
    for name, value in rows:
        print(f"  {name:40} {value}")
    results = Path(__file__).parent / "results" / f"{datetime.now(UTC):%Y-%m-%d}.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({"machine": machine, "rows": dict(rows)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
