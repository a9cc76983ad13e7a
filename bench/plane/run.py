"""`make bench`: what a request costs through Bursar, as ratios to nginx and to the provider itself, in one run.

Everything is on loopback. The server under test is pinned to core 0, the load and the pretended provider to core 1. Each figure is a
median over interleaved rounds: Bursar, nginx, direct, Bursar, nginx, … What an event of a stream costs is the difference between a
long stream and a short one, by the number of events between them; what a stream costs as such is the short one.

What nginx costs depends on how often it is asked: as fast as answers come that is many times as often as Bursar is, and a request costs it a
fraction of what it does at a rate both can serve. So whole answers are also measured at fixed rates, and at the one that Bursar reaches.
No one row is the answer: read all.
"""

import tempfile
import time
from pathlib import Path

from measure import (
    Subject,
    answer_of,
    at_our_rate,
    beside_nginx,
    interleaved,
    report,
    running,
    start_bursar,
    start_nginx,
    start_upstream,
    whole,
)

SHORT, LONG = 20, 420
GAP_MS = 5
RATES = (500, 2_000, 4_000)
OPEN_STREAMS = 1_000
PLACES = 256
SHED = {429: {"per_key": PLACES}, 503: {"in_all": PLACES}}
"""What refuses a request when so many run: the limit of one key, and that of the process."""


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
                rows += whole(interleaved(subjects, connections), f"whole, {connections} at once")
            for rate in RATES:
                rows += whole(interleaved(subjects, 64, rate=rate), f"whole, {rate} requests/s")
            rows += at_our_rate(bursar, nginx, "whole")
            for connections, gap_ms in ((1, 0), (64, 0), (64, GAP_MS)):
                rows += streamed(subjects, connections, gap_ms)
            rows += open_streams(bursar)
            for status, limit in SHED.items():
                full = start_bursar(folder / f"full-{status}", upstream, **limit)
                with running(full.process):
                    rows += shed(full, status)
    report("plane", rows)


def streamed(subjects: list[Subject], connections: int, gap_ms: float) -> list[tuple[str, str]]:
    name = f"stream, {connections} at once, {'all events together' if not gap_ms else f'{gap_ms} ms apart'}"
    short = interleaved(subjects, connections, SHORT, gap_ms)
    long = interleaved(subjects, connections, LONG, gap_ms)
    event = {each: {"us": (long[each]["cpu_ms"] - short[each]["cpu_ms"]) * 1000 / (LONG - SHORT)} for each in short}
    return [
        (f"{name}: CPU-us per event", f"{event['bursar']['us']:.2f}{beside_nginx(event, 'us')}"),
        (f"{name}: streams per second of one core ({SHORT} events)", f"{1000 / short['bursar']['cpu_ms']:.0f}"),
    ]


def open_streams(bursar: Subject) -> list[tuple[str, str]]:
    before = bursar.rss_mb()
    load = bursar.start_load(OPEN_STREAMS, 6, 1_000, seconds=1)
    time.sleep(4.5)
    during = bursar.rss_mb()
    answer_of(load)
    each = (during - before) * 1024 / OPEN_STREAMS
    return [(f"resident memory, {OPEN_STREAMS} streams open", f"{during:.0f} MB ({each:.0f} KB a stream)")]


def shed(bursar: Subject, status: int) -> list[tuple[str, str]]:
    """How long a request waits for its refusal when every place is taken by a stream that runs."""
    taken = bursar.start_load(PLACES, 8, 1_000, seconds=1)
    time.sleep(2.5)
    before = bursar.cpu_seconds()
    got = bursar.load(16, seconds=3, rate=500, status=status)
    cpu_ms = (bursar.cpu_seconds() - before) / got["requests"] * 1000
    answer_of(taken)
    name = f"overload, {PLACES} streams run, 500 more a second: {status}"
    return [
        (f"{name} after p50, p99", f"{got['p50_ms']:.2f}, {got['p99_ms']:.2f} ms"),
        (f"{name}: CPU-ms (with the streams')", f"{cpu_ms:.3f}"),
    ]


if __name__ == "__main__":
    main()
