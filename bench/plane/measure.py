"""What the benches of the data plane share: processes on cores, their CPU and memory, one load, one table."""

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = float(os.environ.get("SECONDS", "2"))
RESULTS = Path(os.environ.get("BENCH_RESULTS", HERE.parent / "results"))
MACHINE = (
    f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
    f"{platform.system()} {platform.release()}"
)


class Subject:
    """A process under load. Its CPU is that of all its threads (user and system)."""

    def __init__(self, name: str, process: subprocess.Popen[str], port: int, keys: Path) -> None:
        self.name, self.process, self.port, self.keys = name, process, port, keys

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def load(
        self,
        connections: int,
        events: int = 0,
        gap_ms: float = 0,
        seconds: float = SECONDS,
        rate: int = 0,
        status: int = 200,
    ) -> dict[str, Any]:
        return answer_of(self.start_load(connections, events, gap_ms, seconds, rate, status))

    def start_load(
        self,
        connections: int,
        events: int = 0,
        gap_ms: float = 0,
        seconds: float = SECONDS,
        rate: int = 0,
        status: int = 200,
    ) -> subprocess.Popen[str]:
        url = f"http://127.0.0.1:{self.port}/api/v1/chat/completions"
        arguments = map(str, (url, self.keys, connections, seconds, events, gap_ms, rate, status))
        return start(1, sys.executable, str(HERE / "load.py"), *arguments)

    def measured(self, connections: int, events: int = 0, gap_ms: float = 0, rate: int = 0) -> dict[str, float]:
        """CPU per request in ms, and how long requests took."""
        before = self.cpu_seconds()
        got = self.load(connections, events, gap_ms, rate=rate)
        cpu = max(self.cpu_seconds() - before, 1 / TICKS)  # less cannot be told from nothing
        return {
            "cpu_ms": cpu / got["requests"] * 1000,
            "p50_ms": got["p50_ms"],
            "p99_ms": got["p99_ms"],
            "rate": got["requests"] / got["seconds"],
        }


def answer_of(load: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = load.communicate()
    if load.returncode:
        raise SystemExit("the load failed")
    return json.loads(out)  # type: ignore[no-any-return]


def interleaved(
    subjects: Sequence[Subject], connections: int, events: int = 0, gap_ms: float = 0, rate: int = 0
) -> dict[str, dict[str, float]]:
    """Medians of rounds, by the subject's name."""
    found: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
    for _ in range(ROUNDS):
        for subject in subjects:
            found[subject.name].append(subject.measured(connections, events, gap_ms, rate))
    return {name: median_of(rounds) for name, rounds in found.items()}


def beside_nginx(found: dict[str, dict[str, float]], figure: str) -> str:
    theirs = found["nginx"][figure] if "nginx" in found else 0.0
    return f"  {found['bursar'][figure] / theirs:.1f}x nginx ({theirs:.3f})" if theirs > 0 else ""


def whole(found: dict[str, dict[str, float]], name: str) -> list[tuple[str, str]]:
    """The lines about whole answers."""
    ours, direct = found["bursar"], found["direct"]
    return [
        (f"{name}: CPU-ms per request", f"{ours['cpu_ms']:.3f}{beside_nginx(found, 'cpu_ms')}"),
        (f"{name}: requests per second of one core", f"{1000 / ours['cpu_ms']:.0f}"),
        (f"{name}: added p50, p99", f"{ours['p50_ms'] - direct['p50_ms']:.2f}, {ours['p99_ms'] - direct['p99_ms']:.2f} ms"),
    ]  # fmt: skip


def at_our_rate(bursar: Subject, nginx: Subject | None, name: str) -> list[tuple[str, str]]:
    """As many requests a second for nginx as Bursar serves as fast as it can."""
    if nginx is None:
        return []
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(bursar.measured(64))
        theirs.append(nginx.measured(64, rate=round(ours[-1]["rate"])))
    found = {"bursar": median_of(ours), "nginx": median_of(theirs)}
    return [
        (
            f"{name}, as fast as Bursar can: CPU-ms per request",
            f"{found['bursar']['cpu_ms']:.3f}{beside_nginx(found, 'cpu_ms')} at {found['bursar']['rate']:.0f} requests/s",
        )
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(core: int, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(["taskset", "-c", str(core), *command], stdout=subprocess.PIPE, text=True)


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if "ready" not in process.stdout.readline():
        raise SystemExit("it did not start")


@contextmanager
def running(*processes: subprocess.Popen[str] | None) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            if process is not None:
                process.terminate()
                process.wait(30)


def start_upstream(folder: Path) -> Subject:
    port = free_port()
    process = start(1, sys.executable, str(HERE / "mock_upstream.py"), str(port))
    wait_until_ready(process)
    keys = folder / "no-keys"
    keys.write_text("none")
    return Subject("direct", process, port, keys)


def start_bursar(folder: Path, upstream: Subject, name: str = "bursar", **more: Any) -> Subject:
    """`more` is what `subject.Asked` has beside the ports."""
    port = free_port()
    asked = {"port": port, "data_dir": str(folder), "upstream_port": upstream.port, **more}
    process = start(0, sys.executable, str(HERE / "subject.py"), json.dumps(asked))
    wait_until_ready(process)
    return Subject(name, process, port, folder / "keys")


def start_nginx(folder: Path, upstream: Subject) -> Subject | None:
    """What it costs depends on how much it is asked: each time it wakes it serves all that waits (0.08 ms a request at 500/s, 0.025 at
    4,000/s, 0.014 at the 65,000/s that it does as fast as answers come). At a fixed rate it has the same work as the others."""
    if shutil.which("nginx") is None:
        return None
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        (HERE / "nginx.conf.in").read_text().format(folder=folder, port=port, upstream_port=upstream.port)
    )
    process = start(0, "nginx", "-c", str(config))
    time.sleep(0.5)
    return Subject("nginx", process, port, upstream.keys)


def median_of(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def report(name: str, rows: list[tuple[str, str]]) -> None:
    """Prints the table, and keeps it in `bench/results` with the machine it was made on."""
    print(MACHINE)
    for label, value in rows:
        print(f"  {label:56} {value}")
    out = RESULTS / f"{name}-{datetime.now(UTC):%Y-%m-%d}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"machine": MACHINE, "rounds": ROUNDS, "rows": dict(rows)}, indent=2) + "\n")
