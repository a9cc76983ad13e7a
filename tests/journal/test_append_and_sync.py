"""Records get numbers at once, are on disk when `synced` returns, and come back in order."""

import asyncio
import stat
from dataclasses import replace

import pytest

from bursar.journal import (
    Journal,
    JournalClosed,
    JournalFull,
    JournalInUse,
    JournalLimits,
    JournalOfAnother,
    Record,
    RecordsMissing,
    RecordTooLarge,
)
from tests.support.journal import SMALL, HandSyncer, WatchedDisk

pytestmark = pytest.mark.anyio


async def test_records_come_back_in_order_without_gaps_after_reopening(tmp_path):
    journal = Journal.open(tmp_path, "worker_1")
    written = [Record(journal.append(n % 5, b"x" * n), n % 5, b"x" * n) for n in range(300)]
    assert [record.lsn for record in written] == list(range(1, 301))
    await journal.synced(300)
    await journal.close()
    again = Journal.open(tmp_path, "worker_1")
    assert list(again.replay(0)) == written
    assert list(again.replay(290)) == written[290:]
    assert list(again.replay(300)) == []
    assert (again.last_lsn, again.synced_lsn) == (300, 300)
    assert again.append(1, b"") == 301
    await again.close()


async def test_what_was_appended_and_not_waited_for_is_on_disk_soon(tmp_path):
    journal = Journal.open(tmp_path, "w", limits=JournalLimits(linger_seconds=0.001))
    lsn = journal.append(1, b"progress")
    async with asyncio.timeout(60):
        while journal.synced_lsn < lsn:
            await asyncio.sleep(0.001)
    assert journal.bytes_pending == 0
    await journal.close()


async def test_close_brings_what_is_pending_to_disk_and_tells_who_waits(tmp_path):
    journal = Journal.open(tmp_path, "w", limits=JournalLimits(linger_seconds=60))
    journal.append(1, b"one")
    waiting = asyncio.create_task(journal.synced(journal.append(1, b"two")))
    await journal.close()
    await waiting
    again = Journal.open(tmp_path, "w")
    assert [record.payload for record in again.replay(0)] == [b"one", b"two"]
    await again.close()


async def test_a_closed_journal_takes_nothing_and_closing_twice_is_harmless(tmp_path):
    journal = Journal.open(tmp_path, "w")
    await journal.close()
    await journal.close()
    with pytest.raises(JournalClosed):
        journal.append(1, b"")


async def test_two_hundred_who_wait_at_once_share_few_syncs(tmp_path):
    disk = WatchedDisk()
    journal = Journal.open(tmp_path, "w", disk=disk)
    before = disk.syncs

    async def one() -> None:
        for _ in range(3):
            await journal.synced(journal.append(1, b"x" * 200))

    await asyncio.gather(*(one() for _ in range(200)))
    assert journal.synced_lsn == 600
    assert disk.syncs - before <= 12
    await journal.close()


async def test_where_many_records_come_a_group_waits_a_moment_for_company_and_else_for_nobody(tmp_path):
    disk, syncer = WatchedDisk(), HandSyncer()
    journal = Journal.open(tmp_path, "w", disk=disk, syncer=syncer, limits=JournalLimits(busy_records_per_second=1_000))

    async def appended(seconds_between: float) -> int:
        """Of 200 requests that come one by one: how many syncs they took, if what is to come later comes after ten of them."""
        before, waiting = disk.syncs, []
        for number in range(200):
            syncer.now += seconds_between
            waiting.append(asyncio.create_task(journal.synced(journal.append(1, b"x"))))
            await asyncio.sleep(0)
            if number % 10 == 9:
                syncer.call()
            while syncer.work():
                await asyncio.sleep(0)
        syncer.settle()
        await asyncio.gather(*waiting)
        return disk.syncs - before

    assert await appended(0.01) == 200
    assert await appended(0.0005) < 150, "2,000 in a second: ten share one, once that was noticed"
    assert await appended(0.0005) < 30
    assert await appended(0.01) > 180, "and no longer when it is over"
    await journal.close()


async def test_what_comes_while_a_busy_journal_writes_waits_for_company_unless_a_group_is_full(tmp_path):
    disk, syncer = WatchedDisk(), HandSyncer()
    limits = replace(SMALL, busy_records_per_second=1)
    journal = Journal.open(tmp_path, "w", disk=disk, syncer=syncer, limits=limits)
    for _ in range(64):
        syncer.now += 0.001
        journal.append(1, b"x")
        syncer.turn()
    syncer.settle()

    def appended(payload: bytes, times: int) -> asyncio.Task[None]:
        for _ in range(times):
            lsn = journal.append(1, payload)
        return asyncio.create_task(journal.synced(lsn))

    first = appended(b"x", 1)
    await asyncio.sleep(0)
    syncer.call()  # the first is on its way
    second = appended(b"x", 1)
    await asyncio.sleep(0)
    assert syncer.work()
    assert not syncer.work(), "the second waits"
    third = appended(b"x" * 900, 3 * limits.group_bytes_max // 900)
    await asyncio.sleep(0)
    syncer.call()
    assert syncer.work()
    assert syncer.work(), "the first full group is on its way, and the next one does not wait"
    syncer.settle()
    await asyncio.gather(first, second, third)
    await journal.close()


async def test_waiting_for_what_is_on_disk_already_syncs_nothing(tmp_path):
    disk = WatchedDisk()
    journal = Journal.open(tmp_path, "w", disk=disk)
    await journal.synced(0)
    await journal.synced(journal.append(1, b"x"))
    before = disk.syncs
    await journal.synced(1)
    assert disk.syncs == before
    await journal.close()


async def test_nobody_is_told_before_the_sync_that_covers_the_record(tmp_path):
    syncer = HandSyncer()
    journal = Journal.open(tmp_path, "w", syncer=syncer)
    first = asyncio.create_task(journal.synced(journal.append(1, b"first")))
    await asyncio.sleep(0)
    syncer.call()  # the first group is on its way
    second = asyncio.create_task(journal.synced(journal.append(1, b"second")))
    await asyncio.sleep(0)
    syncer.turn()
    await asyncio.sleep(0)
    assert first.done()
    assert not second.done()
    syncer.turn()
    await second
    await journal.close()


async def test_one_who_stops_waiting_takes_nobody_along(tmp_path):
    journal = Journal.open(tmp_path, "w")
    lsn = journal.append(1, b"x")
    one, other = asyncio.create_task(journal.synced(lsn)), asyncio.create_task(journal.synced(lsn))
    await asyncio.sleep(0)
    one.cancel()
    await other
    assert one.cancelled() or one.cancelling()
    await journal.close()


async def test_an_lsn_that_was_not_given_out_is_refused(tmp_path):
    journal = Journal.open(tmp_path, "w")
    with pytest.raises(ValueError, match="no record 1"):
        await journal.synced(1)
    with pytest.raises(ValueError, match="not on disk"):
        journal.truncate(1)
    await journal.close()


async def test_a_record_or_kind_out_of_bounds_is_refused_and_takes_no_number(tmp_path):
    journal = Journal.open(tmp_path, "w", limits=SMALL)
    with pytest.raises(RecordTooLarge, match="1025"):
        journal.append(1, bytes(1025))
    with pytest.raises(ValueError, match="0 to 65535"):
        journal.append(65536, b"")
    assert journal.append(65535, bytes(1024)) == 1
    await journal.synced(1)
    await journal.close()
    again = Journal.open(tmp_path, "w", limits=SMALL)
    assert list(again.replay(0)) == [Record(1, 65535, bytes(1024))]
    await again.close()


async def test_a_folder_has_one_journal_at_a_time(tmp_path):
    journal = Journal.open(tmp_path, "w")
    with pytest.raises(JournalInUse) as refused:
        Journal.open(tmp_path, "w")
    assert str(tmp_path) in refused.value.sentence
    assert refused.value.remedy
    await journal.close()
    await Journal.open(tmp_path, "w").close()


async def test_another_workers_folder_is_refused_and_let_go(tmp_path):
    await Journal.open(tmp_path, "worker_1").close()
    with pytest.raises(JournalOfAnother, match="belongs to worker worker_1, not to worker_2"):
        Journal.open(tmp_path, "worker_2")
    await Journal.open(tmp_path, "worker_1").close()


async def test_a_workers_name_must_fit(tmp_path):
    for name in ("", "w" * 129):
        with pytest.raises(ValueError, match="128 bytes"):
            Journal.open(tmp_path / "folder", name)
    assert not (tmp_path / "folder").exists()


async def test_files_and_folder_are_for_their_owner_only(tmp_path):
    journal = Journal.open(tmp_path / "deep" / "journal", "w")
    assert stat.S_IMODE((tmp_path / "deep" / "journal").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep" / "journal").iterdir()}
    assert modes == {0o600}
    await journal.close()


async def test_more_applied_than_the_journal_holds_is_refused(tmp_path):
    journal = Journal.open(tmp_path, "w")
    with pytest.raises(RecordsMissing, match="is empty and goes on with 1, but what follows record 7") as refused:
        journal.replay(7)
    assert refused.value.remedy
    await journal.close()


async def fill(journal: Journal) -> int:
    """Appends, three at a time, until that is refused; returns how many fitted, all on disk."""
    count = 0
    while True:
        try:
            lsn = journal.append(1, b"r" * 500)
        except JournalFull:
            await journal.synced(journal.last_lsn)
            return count
        count += 1
        assert count < 1000, "this never gets full"
        if count % 3 == 0:
            await journal.synced(lsn)


async def test_truncate_gives_back_whole_segments_and_keeps_what_is_needed(tmp_path):
    journal = Journal.open(tmp_path, "w", limits=SMALL)
    while len(list(tmp_path.glob("*.journal"))) < 3:
        await journal.synced(journal.append(1, b"x" * 900))
    starts = [int(path.stem) for path in sorted(tmp_path.glob("*.journal"))]
    needed = starts[1] + 1
    journal.truncate(needed)
    last = journal.append(1, b"last")
    await journal.synced(last)
    await journal.close()
    assert [int(path.stem) for path in sorted(tmp_path.glob("*.journal"))] == starts[1:]
    again = Journal.open(tmp_path, "w", limits=SMALL)
    assert [record.lsn for record in again.replay(needed)] == list(range(needed + 1, last + 1))
    with pytest.raises(RecordsMissing, match="was asked for"):
        again.replay(starts[1] - 2)
    await again.close()


async def test_numbers_go_on_after_everything_was_truncated(tmp_path):
    journal = Journal.open(tmp_path, "w", limits=SMALL)
    for _ in range(20):
        await journal.synced(journal.append(1, b"x" * 900))
    journal.truncate(20)
    await journal.close()
    again = Journal.open(tmp_path, "w", limits=SMALL)
    assert list(again.replay(20)) == []
    assert again.append(1, b"") == 21
    await again.close()


async def test_the_journal_stays_within_its_limit_and_goes_on_after_truncate(tmp_path):
    journal = Journal.open(tmp_path, "w", limits=SMALL)
    assert await fill(journal) > 20
    assert journal.size_bytes <= SMALL.segments_max * SMALL.segment_bytes
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == journal.size_bytes
    journal.truncate(journal.synced_lsn)
    async with asyncio.timeout(60):
        while True:
            try:
                journal.append(1, b"r" * 500)
                break
            except JournalFull:
                await asyncio.sleep(0.005)
    await journal.close()
