"""What the journal costs on this disk, beside a bare loop of write and fdatasync on the same disk, in one run.

    .venv/bin/python bench/journal.py [FOLDER]     a scratch folder is made in FOLDER (default: where you are)

Rounds are interleaved, figures are medians. Read the ratios: absolute times are this disk's, and this moment's.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from bursar.journal import File, Journal, RealDisk

ROUNDS = 5
SECONDS = 1.0
PAYLOAD = os.urandom(200)
WAITERS = (1, 32, 256)


class CountingDisk(RealDisk):
    syncs = 0

    def open(self, path: Path) -> File:
        return CountingFile(self, super().open(path))


class CountingFile:
    def __init__(self, disk: CountingDisk, file: File) -> None:
        self.disk = disk
        self.pwrite = file.pwrite
        self.close = file.close
        self._file = file

    def fdatasync(self) -> None:
        self.disk.syncs += 1
        self._file.fdatasync()


def bare(folder: Path) -> float:
    """Records a second when each is written and synced on its own."""
    disk = RealDisk()
    disk.allocate(folder / "bare", 8 << 20)
    file = disk.open(folder / "bare")
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        file.pwrite(PAYLOAD, done * len(PAYLOAD))
        file.fdatasync()
        done += 1
    seconds = time.perf_counter() - begun
    file.close()
    disk.unlink(folder / "bare")
    return done / seconds


async def shared(folder: Path, waiters: int) -> dict[str, float]:
    disk = CountingDisk()
    journal = Journal.open(folder / f"journal-{waiters}", "bench", disk=disk)
    before = disk.syncs
    waits: list[float] = []
    end = time.perf_counter() + SECONDS
    cpu, begun = time.process_time(), time.perf_counter()

    async def one() -> None:
        while (start := time.perf_counter()) < end:
            await journal.synced(journal.append(1, PAYLOAD))
            waits.append(time.perf_counter() - start)

    await asyncio.gather(*(one() for _ in range(waiters)))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    journal.truncate(journal.synced_lsn)
    await journal.close()
    waits.sort()
    return {
        "records_per_second": len(waits) / seconds,
        "syncs_per_record": (disk.syncs - before) / len(waits),
        "p50_ms": waits[len(waits) // 2] * 1000,
        "p99_ms": waits[len(waits) * 99 // 100] * 1000,
        "cpu_us": cpu / len(waits) * 1e6,
    }


async def append_only(folder: Path, records: int = 20_000) -> float:
    """Microseconds of the event loop for one append."""
    journal = Journal.open(folder / "append", "bench")
    begun = time.perf_counter()
    for _ in range(records):
        journal.append(1, PAYLOAD)
    taken = time.perf_counter() - begun
    await journal.close()
    return taken / records * 1e6


def main() -> None:
    parent = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    alone: list[float] = []
    rounds: dict[int, list[dict[str, float]]] = {waiters: [] for waiters in WAITERS}
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        for _ in range(ROUNDS):
            alone.append(bare(folder))
            for waiters in WAITERS:
                rounds[waiters].append(uvloop.run(shared(folder, waiters)))
        append_us = uvloop.run(append_only(folder))
    base = statistics.median(alone)
    print(f"write + fdatasync, one by one: {base:,.0f} records/s")
    print(f"append alone: {append_us:.1f} µs of the event loop")
    print(f"{'waiters':>8}{'records/s':>12}{'× bare':>9}{'syncs/record':>14}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>9}")
    for waiters, found in rounds.items():
        row = {key: statistics.median(one[key] for one in found) for key in found[0]}
        print(
            f"{waiters:>8}{row['records_per_second']:>12,.0f}{row['records_per_second'] / base:>9.1f}"
            f"{row['syncs_per_record']:>14.3f}{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['cpu_us']:>9.1f}"
        )


if __name__ == "__main__":
    main()
