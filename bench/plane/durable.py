"""What exact money costs: the same requests with holds, settlements and activity on disk, beside nginx, in one run.

1. SQLite and the journal, everything durable: CPU per request, added latency, and at a fixed rate; with this disk's fdatasync.
2. One hot organization beside a hundred cool ones.
3. PostgreSQL: one worker beside two on one database and two on two, and how often a look at the shared one found somebody waiting for
   a lock.

Read the ratios: absolute times are this machine's, and this moment's.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import asyncpg
from measure import (
    ROUNDS,
    Subject,
    answer_of,
    at_our_rate,
    interleaved,
    report,
    running,
    start_bursar,
    start_nginx,
    start_upstream,
    whole,
)

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.support.postgres import PostgresServer

RATES = (500, 2_000, 3_000)
"""The first is what added latency is promised at."""
COOL_OWNERS = 100
LOOK_SECONDS = 0.005


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        folder = Path(name)
        upstream = start_upstream(folder)
        rows = [("fdatasync of 200 bytes: p50, p99", fdatasync(folder))]
        nginx = start_nginx(folder, upstream)
        with running(upstream.process, nginx.process if nginx is not None else None):
            rows += on_sqlite(folder, upstream, nginx)
            rows += hot_and_cool(folder, upstream)
            rows += on_postgres(folder, upstream)
    report("durable", rows)


def fdatasync(folder: Path) -> str:
    taken = []
    with (folder / "synced").open("wb", buffering=0) as file:
        file.truncate(1 << 20)
        os.fsync(file.fileno())
        for number in range(500):
            begun = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 200, number * 200)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return f"{statistics.median(taken) * 1000:.2f}, {statistics.quantiles(taken, n=100)[98] * 1000:.2f} ms"


def on_sqlite(folder: Path, upstream: Subject, nginx: Subject | None) -> list[tuple[str, str]]:
    bursar = start_bursar(folder / "sqlite", upstream, funds="journal")
    subjects = [each for each in (bursar, nginx, upstream) if each is not None]
    with running(bursar.process):
        bursar.load(16, seconds=1)
        rows = []
        for connections in (1, 64):
            rows += whole(interleaved(subjects, connections), f"durable, {connections} at once")
        for rate in RATES:
            rows += whole(interleaved(subjects, 64, rate=rate), f"durable, {rate} requests/s")
        rows += at_our_rate(bursar, nginx, "durable")
    return rows


def hot_and_cool(folder: Path, upstream: Subject) -> list[tuple[str, str]]:
    hot = start_bursar(folder / "hot", upstream, "hot", funds="journal")
    cool = start_bursar(folder / "cool", upstream, "cool", funds="journal", owners=COOL_OWNERS)
    with running(hot.process, cool.process):
        for each in (hot, cool):
            each.load(64, seconds=1)
        found = interleaved([hot, cool], 64)
    one, many = found["hot"]["cpu_ms"], found["cool"]["cpu_ms"]
    return [(f"CPU-ms, one hot organization, {COOL_OWNERS} cool", f"{one:.3f}, {many:.3f}  ({one / many - 1:+.0%})")]


def on_postgres(folder: Path, upstream: Subject) -> list[tuple[str, str]]:
    """Both workers run on one core: two on databases of their own say what that alone costs."""
    with PostgresServer(is_durable=True) as postgres:
        shared, own = postgres.create_database("bench"), postgres.create_database("own")
        one, two, apart = (
            start_bursar(folder / name, upstream, name, funds="journal", database_url=url)
            for name, url in (("one", shared), ("two", shared), ("apart", own))
        )
        with running(*(worker.process for worker in (one, two, apart))):
            for worker in (one, two, apart):
                worker.load(32, seconds=1)
            return [
                row
                for rate, name in ((0, "32 at once each"), (500, "500 requests/s each"))
                for row in side_by_side(postgres, [one], [one, two], [one, apart], rate, f"PostgreSQL, {name}")
            ]


def side_by_side(
    postgres: PostgresServer, one: list[Subject], two: list[Subject], apart: list[Subject], rate: int, name: str
) -> list[tuple[str, str]]:
    found: list[list[float]] = [[], [], []]
    looks = waits = 0
    for _ in range(ROUNDS):
        found[0].append(cpu_ms(one, rate))
        watch = Watch(postgres)
        found[1].append(cpu_ms(two, rate))
        looked, waited = watch.stop()
        looks, waits = looks + looked, waits + waited
        found[2].append(cpu_ms(apart, rate))
    alone, both, neighbours = map(statistics.median, found)
    return [
        (
            f"{name}: CPU-ms, 1 worker, 2, 2 apart",
            f"{alone:.3f}, {both:.3f}, {neighbours:.3f}  ({both / alone:.2f}x, {neighbours / alone:.2f}x)",
        ),
        (f"{name}: looks that found a wait for a lock", f"{waits} of {looks}"),
    ]


def cpu_ms(workers: list[Subject], rate: int) -> float:
    """Of a request, over all workers, each under the same load."""
    before = sum(worker.cpu_seconds() for worker in workers)
    loads = [worker.start_load(32, rate=rate) for worker in workers]
    requests = sum(answer_of(load)["requests"] for load in loads)
    return (sum(worker.cpu_seconds() for worker in workers) - before) / requests * 1000


class Watch:
    """Looks again and again whether anybody waits for a lock."""

    def __init__(self, postgres: PostgresServer) -> None:
        self._folder = str(postgres.folder)
        self._looks = self._waits = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._look()))
        self._thread.start()

    def stop(self) -> tuple[int, int]:
        self._is_over.set()
        self._thread.join()
        return self._looks, self._waits

    async def _look(self) -> None:
        connection = await asyncpg.connect(host=self._folder, user="postgres", database="postgres")
        while not self._is_over.is_set():
            await asyncio.sleep(LOOK_SECONDS)
            found = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            self._looks += 1
            self._waits += found > 0
        await connection.close()


if __name__ == "__main__":
    main()
