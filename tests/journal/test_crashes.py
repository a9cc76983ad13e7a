"""Any sequence of appending, syncing, truncating, killing and losing power, against a list; and a real `kill -9`."""

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bursar.journal import Journal, JournalFull, Record
from tests.support.journal import MIDDLING, SMALL, ForgetfulDisk, HandSyncer, PowerLost

FOLDER = Path("/journal")


class AgainstAList(RuleBasedStateMachine):
    """`records` is what was appended, of which the first `durable` were reported as on disk; `applied` may be forgotten."""

    @initialize(segments=st.integers(2, 8))
    def start(self, segments: int) -> None:
        self.disk = ForgetfulDisk(capacity_bytes=segments * SMALL.segment_bytes)
        self.records: list[Record] = []
        self.durable = self.applied = 0
        self._open()

    def _open(self) -> None:
        self.syncer = HandSyncer()
        self.journal = Journal.open(FOLDER, "w", limits=SMALL, disk=self.disk, syncer=self.syncer)

    def _reopen(self, fuse: int, seed: int) -> None:
        """Starts again, at first losing power during the start as well."""
        self.disk.fuse = fuse
        try:
            self._open()
        except PowerLost:
            self.disk.lose_power(random.Random(seed))
            self._open()
        self.disk.fuse = None
        found = list(self.journal.replay(self.applied))
        last = found[-1].lsn if found else self.applied
        assert last >= self.durable, "what was reported as on disk is gone"
        assert found == self.records[self.applied : last]
        self.records = self.records[:last]
        self.durable = last

    @rule(size=st.integers(0, 1024), kind=st.integers(0, 65535), byte=st.integers(0, 255), reserve=st.booleans())
    def append(self, size: int, kind: int, byte: int, reserve: bool) -> None:
        payload = bytes([byte]) * size
        try:
            lsn = self.journal.append(kind, payload, reserve=reserve)
        except JournalFull:
            return
        self.records.append(Record(lsn, kind, payload))
        assert lsn == len(self.records)

    @rule(turns=st.integers(1, 6))
    def work(self, turns: int) -> None:
        for _ in range(turns):
            self.syncer.turn()
        self.durable = self.journal.synced_lsn

    @rule(share=st.integers(0, 100))
    def apply(self, share: int) -> None:
        self.applied += (self.durable - self.applied) * share // 100
        self.journal.truncate(self.applied)

    @rule(seed=st.integers(0, 1 << 32), fuse=st.integers(0, 30))
    def lose_power(self, seed: int, fuse: int) -> None:
        self.disk.lose_power(random.Random(seed))
        self._reopen(fuse, seed + 1)

    @rule(burn=st.integers(0, 12), seed=st.integers(0, 1 << 32), fuse=st.integers(0, 30))
    def lose_power_while_working(self, burn: int, seed: int, fuse: int) -> None:
        self.disk.fuse = burn
        try:
            for _ in range(8):
                self.syncer.turn()
        except PowerLost:
            pass
        self.durable = self.journal.synced_lsn
        self.lose_power(seed, fuse)

    @rule(seed=st.integers(0, 1 << 32), fuse=st.integers(0, 30))
    def kill(self, seed: int, fuse: int) -> None:
        self.disk.kill()
        self._reopen(fuse, seed)

    @precondition(lambda self: self.disk.capacity_bytes < 8 * SMALL.segment_bytes)
    @rule()
    def find_more_room(self) -> None:
        self.disk.capacity_bytes += SMALL.segment_bytes

    @invariant()
    def numbers_are_those_of_the_list(self) -> None:
        assert self.journal.last_lsn == len(self.records)
        assert self.durable <= self.journal.synced_lsn <= self.journal.last_lsn


TestAgainstAList = AgainstAList.TestCase
TestAgainstAList.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class BusyHour:
    """One fixed course of events, in which segments come and go."""

    def __init__(self, disk: ForgetfulDisk) -> None:
        self.disk = disk
        self.records: list[Record] = []
        self.durable = self.applied = 0

    def run(self) -> None:
        self.start()
        for burst in range(1, 16):
            for number in range(burst % 5 + 1):
                payload = bytes([burst]) * (60 * burst + number)
                lsn = self.journal.append(burst, payload)
                self.records.append(Record(lsn, burst, payload))
            for _ in range(4):
                self.syncer.turn()
                self.durable = self.journal.synced_lsn
            if burst % 4 == 0:
                self.applied = self.durable - 3
                self.journal.truncate(self.applied)

    def start(self) -> None:
        self.syncer = HandSyncer()
        self.journal = Journal.open(FOLDER, "w", limits=SMALL, disk=self.disk, syncer=self.syncer)

    def check(self) -> None:
        found = list(self.journal.replay(self.applied))
        last = found[-1].lsn if found else self.applied
        assert last >= self.durable, "what was reported as on disk is gone"
        assert found == self.records[self.applied : last]
        self.records = self.records[:last]
        self.durable = last

    def one_more(self) -> None:
        self.records.append(Record(self.journal.append(1, b"one more", reserve=True), 1, b"one more"))
        self.syncer.settle(4)
        self.durable = self.journal.synced_lsn
        assert self.durable == len(self.records)


@pytest.mark.parametrize("kill_first", [False, True], ids=["power lost", "killed, then power lost"])
def test_wherever_a_busy_hour_is_cut_short_nothing_synced_is_lost(kill_first):
    cut = 0
    for call in range(10_000):
        for seed in range(4):
            disk = ForgetfulDisk()
            hour, rng = BusyHour(disk), random.Random(seed)
            disk.fuse = call
            try:
                hour.run()
            except PowerLost:
                cut += 1
            else:
                assert cut > 300
                return
            disk.kill() if kill_first else disk.lose_power(rng)
            hour.start()
            hour.check()
            hour.one_more()
            disk.lose_power(rng)
            hour.start()
            hour.check()


@pytest.mark.parametrize("seed", range(20))
def test_a_start_that_is_cut_short_while_it_drops_a_torn_group_can_be_repeated(seed):
    rng = random.Random(seed)
    for call in range(40):
        disk = ForgetfulDisk()
        hour = BusyHour(disk)
        hour.start()
        hour.one_more()
        for _ in range(3):
            hour.records.append(Record(hour.journal.append(2, b"t" * 600), 2, b"t" * 600))
        disk.fuse = 1
        with pytest.raises(PowerLost):
            hour.syncer.settle()
        disk.lose_power(rng)
        disk.fuse = call
        try:
            hour.start()
        except PowerLost:
            disk.lose_power(rng)
            hour.start()
        else:
            break
        hour.check()
    assert call > 2


APPENDING = """
import asyncio, hashlib, sys
from pathlib import Path
from bursar.journal import Journal
from tests.support.journal import MIDDLING

async def main():
    journal = Journal.open(Path(sys.argv[1]), "w", limits=MIDDLING)
    async def one():
        while True:
            lsn = journal.last_lsn + 1
            assert journal.append(1, hashlib.sha256(b"%d" % lsn).digest() * (lsn % 30)) == lsn
            await journal.synced(lsn)
            sys.stdout.write(f"{lsn}\\n")
            sys.stdout.flush()
    print("ready", flush=True)
    await asyncio.gather(*(one() for _ in range(20)))

asyncio.run(main())
"""


def test_whatever_a_killed_process_said_was_synced_is_there_afterwards(tmp_path):
    rng = random.Random(3)
    said = 0
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", APPENDING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.02, 0.15))
        child.send_signal(signal.SIGKILL)
        lines = child.communicate()[0].split("\n")[:-1]  # the last may be cut
        said = max([said, *map(int, lines)])
        found = read(tmp_path)
        assert [record.lsn for record in found] == list(range(1, len(found) + 1))
        assert len(found) >= said
        for record in found:
            assert record.payload == hashlib.sha256(b"%d" % record.lsn).digest() * (record.lsn % 30)
    assert said > 500


def read(folder: Path) -> list[Record]:
    journal = Journal.open(folder, "w", limits=MIDDLING, syncer=HandSyncer())
    try:
        return list(journal.replay(0))
    finally:
        closing(journal)


def closing(journal: Journal) -> None:
    """Nothing is pending, so that closing waits for nothing."""
    with pytest.raises(StopIteration):
        journal.close().send(None)
