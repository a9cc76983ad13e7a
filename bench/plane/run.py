"""`make bench`: what a request costs through Bursar, as ratios to nginx and to the provider itself, in one run.

Everything is on loopback. The server under test is pinned to core 0, the load and the pretended provider to core 1. Each figure is a
median over interleaved rounds: Bursar, nginx, direct, Bursar, nginx, … What an event of a stream costs is the difference between a
long stream and a short one, by the number of events between them; what a stream costs as such is the short one.
"""

import subprocess
import tempfile
import time
from pathlib import Path

from measure import ROUNDS, Subject, median_of, report, running, start_bursar, start_nginx, start_upstream

SHORT, LONG = 20, 420
GAP_MS = 5
OPEN_STREAMS = 1_000


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = start_upstream(folder)
        begun = time.perf_counter()
        bursar = start_bursar(folder / "data", upstream)
        rows = [("start-up (first, data made)", f"{time.perf_counter() - begun:.2f} s")]
        nginx = start_nginx(folder, upstream)
        subjects = [subject for subject in (bursar, nginx, upstream) if subject is not None]
        with running(*(subject.process for subject in subjects)):
            idle = bursar.rss_mb()
            rows.append(("resident memory, idle", f"{idle:.0f} MB"))
            bursar.load(16, seconds=1)
            for connections in (1, 64):
                rows += whole(subjects, connections)
            for connections, gap_ms in ((1, 0), (64, 0), (64, GAP_MS)):
                rows += streamed(subjects, connections, gap_ms)
            rows += open_streams(bursar)
    report("plane", rows)


def rounds_of(
    subjects: list[Subject], connections: int, events: int = 0, gap_ms: float = 0
) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
    for _ in range(ROUNDS):
        for subject in subjects:
            found[subject.name].append(subject.measured(connections, events, gap_ms))
    return {name: median_of(rounds) for name, rounds in found.items()}


def whole(subjects: list[Subject], connections: int) -> list[tuple[str, str]]:
    found = rounds_of(subjects, connections)
    ours, direct = found["bursar"], found["direct"]
    name = f"whole, {connections} at once"
    return [
        (f"{name}: CPU-ms per request", f"{ours['cpu_ms']:.3f}{beside_nginx(found, 'cpu_ms')}"),
        (f"{name}: requests per second of one core", f"{1000 / ours['cpu_ms']:.0f}"),
        (f"{name}: added p50, p99", f"{ours['p50_ms'] - direct['p50_ms']:.2f}, {ours['p99_ms'] - direct['p99_ms']:.2f} ms"),
    ]  # fmt: skip


def streamed(subjects: list[Subject], connections: int, gap_ms: float) -> list[tuple[str, str]]:
    name = f"stream, {connections} at once, {'all events together' if not gap_ms else f'{gap_ms} ms apart'}"
    short = rounds_of(subjects, connections, SHORT, gap_ms)
    long = rounds_of(subjects, connections, LONG, gap_ms)
    event = {each: {"us": (long[each]["cpu_ms"] - short[each]["cpu_ms"]) * 1000 / (LONG - SHORT)} for each in short}
    return [
        (f"{name}: CPU-us per event", f"{event['bursar']['us']:.2f}{beside_nginx(event, 'us')}"),
        (f"{name}: streams per second of one core ({SHORT} events)", f"{1000 / short['bursar']['cpu_ms']:.0f}"),
    ]


def beside_nginx(found: dict[str, dict[str, float]], figure: str) -> str:
    theirs = found["nginx"][figure] if "nginx" in found else 0.0
    return f"  {found['bursar'][figure] / theirs:.1f}x nginx ({theirs:.3f})" if theirs > 0 else ""


def open_streams(bursar: Subject) -> list[tuple[str, str]]:
    before = bursar.rss_mb()
    load = subprocess.Popen(bursar.command(OPEN_STREAMS, 6, 1_000, 1), stdout=subprocess.DEVNULL)
    time.sleep(4.5)
    during = bursar.rss_mb()
    load.wait(60)
    each = (during - before) * 1024 / OPEN_STREAMS
    return [(f"resident memory, {OPEN_STREAMS} streams open", f"{during:.0f} MB ({each:.0f} KB a stream)")]


if __name__ == "__main__":
    main()
