"""A disk that fails or fills up: nothing is ever said to be on disk that is not, and what was admitted can end."""

import asyncio
import errno
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from bursar.journal import Journal, JournalFailed, JournalFull, JournalLimits, JournalUnusable
from tests.support.journal import SMALL, ForgetfulDisk, HandSyncer, WatchedDisk

pytestmark = pytest.mark.anyio


async def outcome(waiting) -> str:
    try:
        await waiting
    except JournalFailed as failed:
        return failed.name
    return "synced"


async def fill(journal: Journal, *, reserve: bool = False) -> int:
    """Appends one by one until that is refused; returns how many fitted, all on disk."""
    count = 0
    while True:
        try:
            lsn = journal.append(1, b"r" * 500, reserve=reserve)
        except JournalFull:
            return count
        await journal.synced(lsn)
        count += 1
        assert count < 1000, "this never gets full"


async def first_that_fits(journal: Journal) -> int:
    async with asyncio.timeout(60):
        while True:
            try:
                lsn = journal.append(1, b"n" * 500)
            except JournalFull:
                await asyncio.sleep(0.01)
            else:
                await journal.synced(lsn)
                return lsn


async def test_a_failed_sync_fails_everything_pending_and_later_and_is_told_once(tmp_path, caplog):
    disk, told = WatchedDisk(), []
    journal = Journal.open(tmp_path, "w", disk=disk, on_failure=lambda: told.append("failed"))
    good = journal.append(1, b"good")
    await journal.synced(good)
    disk.broken = True
    waiting = [asyncio.create_task(outcome(journal.synced(journal.append(1, b"x")))) for _ in range(20)]
    assert set(await asyncio.gather(*waiting)) == {"JournalFailed"}
    disk.broken = False
    syncs = disk.syncs
    with pytest.raises(JournalFailed):
        journal.append(1, b"later", reserve=True)
    with pytest.raises(JournalFailed):
        await journal.synced(journal.last_lsn)
    await journal.synced(good)  # which was on disk before, and stays so
    await asyncio.sleep(0.1)
    assert (told, disk.syncs, journal.synced_lsn) == (["failed"], syncs, good)
    await journal.close()
    assert disk.syncs == syncs
    assert "takes nothing any more" in caplog.text


async def test_those_who_append_while_a_sync_is_failing_fail_with_it(tmp_path):
    disk = WatchedDisk()
    journal = Journal.open(tmp_path, "w", disk=disk)
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()
    proceed = asyncio.run_coroutine_threadsafe
    gate = asyncio.Event()
    disk.before_sync = lambda: (loop.call_soon_threadsafe(entered.set), proceed(gate.wait(), loop).result())
    first = asyncio.create_task(outcome(journal.synced(journal.append(1, b"in flight"))))
    await entered.wait()
    second = asyncio.create_task(outcome(journal.synced(journal.append(1, b"behind it"))))
    await asyncio.sleep(0)
    disk.broken = True
    gate.set()
    assert [await first, await second] == ["JournalFailed", "JournalFailed"]
    await journal.close()


async def test_a_disk_that_fails_while_a_spare_is_made_writes_nothing_after_that(tmp_path):
    class Failing(WatchedDisk):
        def allocate(self, path: Path, size_bytes: int) -> None:
            if self.broken:
                raise OSError(errno.EIO, "Input/output error")
            super().allocate(path, size_bytes)

    disk, syncer, told = Failing(), HandSyncer(), []
    journal = Journal.open(
        tmp_path, "w", limits=SMALL, disk=disk, syncer=syncer, on_failure=lambda: told.append("failed")
    )
    while len(list(tmp_path.glob("spare-*"))) == 2:
        journal.append(1, b"x" * 900)
        syncer.turn()  # writes a group; the next turn makes a spare, if one was used
    synced = journal.synced_lsn
    disk.broken = True
    waiting = asyncio.create_task(outcome(journal.synced(journal.append(1, b"too late"))))
    await asyncio.sleep(0)
    syncer.forget()
    syncer.turn()
    assert await waiting == "JournalFailed"
    journal._hand_over()
    disk.broken = False
    syncer.settle()
    assert (told, journal.synced_lsn) == (["failed"], synced)
    await journal.close()


async def test_a_new_start_after_a_failed_sync_writes_the_last_group_again(tmp_path):
    disk = WatchedDisk()
    journal = Journal.open(tmp_path, "w", disk=disk)
    disk.broken = True
    assert await outcome(journal.synced(journal.append(1, b"in doubt"))) == "JournalFailed"
    await journal.close()
    # The page cache still has it, so it is read; it may be replayed only if it is on disk by then.
    with pytest.raises(JournalUnusable):
        Journal.open(tmp_path, "w", disk=disk)
    disk.broken = False
    before = disk.syncs
    again = Journal.open(tmp_path, "w", disk=disk)
    assert disk.syncs > before
    assert [record.payload for record in again.replay(0)] == [b"in doubt"]
    await again.close()


async def test_a_full_disk_refuses_the_new_lets_the_admitted_end_and_recovers(tmp_path):
    disk = WatchedDisk()
    journal = Journal.open(tmp_path, "w", limits=SMALL, disk=disk)
    disk.full = True
    assert await fill(journal) > 5
    with pytest.raises(JournalFull) as refused:
        journal.append(1, b"n" * 500)
    assert refused.value.status == 503
    assert "Free space" in str(refused.value.remedy)
    kept = (SMALL.segment_bytes - SMALL.group_bytes_max - 512) // 600
    assert await fill(journal, reserve=True) >= kept
    last = journal.last_lsn
    assert last == journal.synced_lsn, "a refusal takes no number"
    disk.full = False
    last = await first_that_fits(journal)
    await journal.close()
    again = Journal.open(tmp_path, "w", limits=SMALL)
    assert [record.lsn for record in again.replay(0)] == list(range(1, last + 1))
    await again.close()


def test_on_a_full_disk_a_journal_that_is_all_applied_goes_on_in_the_space_it_has():
    disk, syncer = ForgetfulDisk(capacity_bytes=2 * SMALL.segment_bytes), HandSyncer()
    journal = Journal.open(Path("/journal"), "w", limits=SMALL, disk=disk, syncer=syncer)
    for _ in range(5):
        with suppress(JournalFull):
            while True:
                journal.append(1, b"r" * 500)
        syncer.settle()
        assert journal.synced_lsn == journal.last_lsn
        journal.truncate(journal.synced_lsn)
        syncer.settle()
    assert journal.append(1, b"r" * 500) > 40


async def test_a_journal_opens_on_a_full_disk_and_what_was_admitted_ends(tmp_path):
    await Journal.open(tmp_path, "w", limits=SMALL).close()
    for spare in tmp_path.glob("spare-*"):
        spare.unlink()
    disk = WatchedDisk()
    disk.full = True
    journal = Journal.open(tmp_path, "w", limits=SMALL, disk=disk)
    with pytest.raises(JournalFull):
        journal.append(1, b"new")
    await journal.synced(journal.append(1, b"the end of an old one", reserve=True))
    await journal.close()


async def test_no_room_for_a_first_segment_is_said_at_once(tmp_path):
    disk = WatchedDisk()
    disk.full = True
    with pytest.raises(JournalUnusable, match="no space left") as refused:
        Journal.open(tmp_path, "w", disk=disk)
    assert "free some space" in str(refused.value.remedy)


async def test_a_folder_that_cannot_be_made_is_said_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalUnusable):
        Journal.open(tmp_path / "file" / "journal", "w")


@pytest.fixture
def small_tmpfs(tmp_path: Path):
    """A file system of 256 KiB, real."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not allowed here: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


async def test_a_real_file_system_that_is_full_refuses_the_new_and_lets_the_admitted_end(small_tmpfs):
    folder, hog = small_tmpfs / "journal", small_tmpfs / "hog"
    limits = JournalLimits(segment_bytes=1 << 16, group_bytes_max=1 << 13, record_bytes_max=1 << 12, retry_seconds=0.01)
    journal = Journal.open(folder, "w", limits=limits)
    with hog.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    count = await fill(journal)
    assert count > 100
    more = await fill(journal, reserve=True)
    assert more > 80
    await journal.close()
    journal = Journal.open(folder, "w", limits=limits)
    assert [record.lsn for record in journal.replay(0)] == list(range(1, count + more + 1))
    with pytest.raises(JournalFull):
        journal.append(1, b"n" * 500)
    journal.truncate(journal.last_lsn)
    assert await first_that_fits(journal) == count + more + 1
    await journal.close()
