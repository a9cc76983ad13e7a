"""`make bench`: what a request costs through Bursar, as ratios to nginx and to the provider itself, in one run.

Everything is on loopback. The server under test is pinned to core 0, the load and the pretended provider to core 1; CPU is the
server process's own (user + system). Each figure is a median over interleaved rounds: Bursar, nginx, Bursar, nginx, …
"""

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = float(os.environ.get("SECONDS", "2"))
EVENTS = 100


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(core: int, *command: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["taskset", "-c", str(core), *command], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def load(port: int, key: str, connections: int, kind: str, seconds: float = SECONDS) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/api/v1/chat/completions"
    command = [
        "taskset",
        "-c",
        "1",
        sys.executable,
        str(HERE / "load.py"),
        url,
        key,
        str(connections),
        str(seconds),
        kind,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def measured(server: subprocess.Popen[str], port: int, key: str, connections: int, kind: str) -> dict[str, float]:
    before = cpu_seconds(server.pid)
    got = load(port, key, connections, kind)
    cpu = cpu_seconds(server.pid) - before
    return {
        "rate": got["requests"] / cpu if cpu else 0,
        "cpu_ms": cpu / got["requests"] * 1000,
        "cpu_us_per_event": cpu / got["events"] * 1e6 if got["events"] else 0,
        "p50_ms": got["p50_ms"],
        "p99_ms": got["p99_ms"],
    }


def median_of(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def main() -> None:
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        upstream_port, port, nginx_port = free_port(), free_port(), free_port()
        upstream = start(1, sys.executable, str(HERE / "mock_upstream.py"), str(upstream_port), EVENTS=str(EVENTS))
        assert upstream.stdout is not None
        upstream.stdout.readline()
        begun = time.perf_counter()
        bursar = start(0, sys.executable, str(HERE / "stand_in.py"), str(port), f"{folder}/data", str(upstream_port))
        assert bursar.stdout is not None
        key = json.loads(bursar.stdout.readline())["key"]
        rows.append(("start-up (first, data made)", f"{time.perf_counter() - begun:.2f} s"))
        nginx = None
        if shutil.which("nginx"):
            config = Path(folder, "nginx.conf")
            config.write_text(
                (HERE / "nginx.conf.in").read_text().format(folder=folder, port=nginx_port, upstream_port=upstream_port)
            )
            nginx = start(0, "nginx", "-c", str(config))
            time.sleep(0.5)
        try:
            rows.append(("resident memory, idle", f"{rss_mb(bursar.pid):.0f} MB"))
            load(port, key, 16, "whole", 1)
            for kind, connections in (("whole", 1), ("whole", 64), ("stream", 1), ("stream", 64)):
                ours, theirs, direct = [], [], []
                for _ in range(ROUNDS):
                    ours.append(measured(bursar, port, key, connections, kind))
                    if nginx is not None:
                        theirs.append(measured(nginx, nginx_port, key, connections, kind))
                    direct.append(measured(upstream, upstream_port, key, connections, kind))
                rows += report(
                    kind, connections, median_of(ours), median_of(theirs) if theirs else None, median_of(direct)
                )
            rows.append(("resident memory, after", f"{rss_mb(bursar.pid):.0f} MB"))
        finally:
            for process in (bursar, upstream, nginx):
                if process is not None:
                    process.terminate()
                    process.wait(30)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    print(machine)
    for name, value in rows:
        print(f"  {name:48} {value}")
    out = HERE.parent / "results" / f"plane-{datetime.now(UTC):%Y-%m-%d}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"machine": machine, "rounds": ROUNDS, "rows": dict(rows)}, indent=2) + "\n")


def report(
    kind: str, connections: int, ours: dict[str, float], theirs: dict[str, float] | None, direct: dict[str, float]
) -> list[tuple[str, str]]:
    name = f"{kind}, {connections} connection{'s' if connections > 1 else ''}"
    rows = []
    if kind == "whole":
        ratio = f"  {ours['cpu_ms'] / theirs['cpu_ms']:.1f}x nginx ({theirs['cpu_ms']:.3f})" if theirs else ""
        rows.append((f"{name}: CPU-ms per request", f"{ours['cpu_ms']:.3f}{ratio}"))
        rows.append((f"{name}: requests per CPU-second", f"{ours['rate']:.0f}"))
    else:
        ratio = (
            f"  {ours['cpu_us_per_event'] / theirs['cpu_us_per_event']:.1f}x nginx ({theirs['cpu_us_per_event']:.2f})"
            if theirs
            else ""
        )
        rows.append((f"{name}: CPU-us per event", f"{ours['cpu_us_per_event']:.2f}{ratio}"))
    rows.append((f"{name}: added p50", f"{ours['p50_ms'] - direct['p50_ms']:.2f} ms"))
    rows.append((f"{name}: p99", f"{ours['p99_ms']:.2f} ms (direct {direct['p99_ms']:.2f})"))
    return rows


if __name__ == "__main__":
    main()
