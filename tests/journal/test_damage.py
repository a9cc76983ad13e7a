"""What a crash leaves behind is dropped; every other change of the bytes is found. A record comes back as it was, or not at all."""

import random
from pathlib import Path

import pytest

from bursar.journal import Journal, JournalCorrupt, JournalLimits, JournalTooNew, Record, _format
from tests.support.journal import SECTOR, SMALL, ForgetfulDisk, HandSyncer

pytestmark = pytest.mark.anyio

FOLDER = Path("/journal")


def payload(rng: random.Random, size: int) -> bytes:
    return bytes(rng.randint(1, 255) for _ in range(size))


def written(groups: list[int], limits: JournalLimits = SMALL, size: int = 90) -> tuple[ForgetfulDisk, list[Record]]:
    """A closed journal in memory with groups of so many records."""
    rng = random.Random(7)
    disk, syncer, records = ForgetfulDisk(), HandSyncer(), []
    journal = Journal.open(FOLDER, "w", limits=limits, disk=disk, syncer=syncer)
    for count in groups:
        for _ in range(count):
            data = payload(rng, size)
            records.append(Record(journal.append(count, data), count, data))
        while syncer.turn():
            pass
    assert journal.synced_lsn == len(records)
    disk.kill()
    return disk, records


def reopened(disk: ForgetfulDisk, limits: JournalLimits = SMALL) -> list[Record]:
    return list(Journal.open(FOLDER, "w", limits=limits, disk=disk, syncer=HandSyncer()).replay(0))


def damage(disk: ForgetfulDisk) -> JournalCorrupt | None:
    try:
        reopened(disk)
    except JournalCorrupt as found:
        return found
    return None


def last_segment(disk: ForgetfulDisk) -> tuple[Path, bytearray]:
    return [(path, data) for path, data in disk.files().items() if path.suffix == ".journal"][-1]


def groups_of(data: bytearray) -> list[tuple[int, int]]:
    """Start and end of every group of a segment."""
    header = _format.read_header(bytes(data))
    assert header
    found, at = [], _format.HEADER_BYTES
    while head := _format._head_at(bytes(data), at, header.seed):
        found.append((at, at + head.size_bytes))
        at += head.size_bytes
    return found


async def test_a_tail_torn_at_any_byte_is_cut_and_the_journal_goes_on(tmp_path):
    journal = Journal.open(tmp_path, "w", limits=SMALL)
    await journal.synced(journal.append(1, b"settled"))
    await journal.synced(journal.append(2, b"torn, " + bytes(6)))
    await journal.close()
    (path,) = tmp_path.glob("*.journal")
    whole = path.read_bytes()
    start, end = groups_of(bytearray(whole))[-1]
    for cut in range(start, end):
        for torn in (whole[:cut], whole[:cut].ljust(len(whole), b"\0")):
            path.write_bytes(torn)
            again = Journal.open(tmp_path, "w", limits=SMALL)
            assert list(again.replay(0)) == [Record(1, 1, b"settled")], cut
            await again.synced(again.append(3, b"next"))
            await again.close()
            again = Journal.open(tmp_path, "w", limits=SMALL)
            assert list(again.replay(0)) == [Record(1, 1, b"settled"), Record(2, 3, b"next")], cut
            await again.close()
            for other in tmp_path.glob("*.journal"):
                if other != path:
                    other.unlink()


def test_a_group_of_which_any_sectors_never_arrived_is_dropped_whole():
    limits = JournalLimits(segment_bytes=1 << 16, group_bytes_max=1 << 14, record_bytes_max=1024)
    disk, records = written([3, 90], limits)
    _, data = last_segment(disk)
    (_, start), (_, end) = groups_of(data)
    sectors = range(start // SECTOR, (end - 1) // SECTOR + 1)
    assert len(sectors) > 15
    rng = random.Random(1)
    for lost in [[sector] for sector in sectors] + [rng.sample(sectors, rng.randint(2, 15)) for _ in range(200)]:
        torn = disk.copy()
        _, data = last_segment(torn)
        for sector in lost:
            lo, hi = max(start, sector * SECTOR), min(end, (sector + 1) * SECTOR)
            data[lo:hi] = bytes(hi - lo)
        assert reopened(torn, limits) == records[:3]
        torn.kill()
        assert reopened(torn, limits) == records[:3]
        assert not any(last_segment(torn)[1][start:])


def test_of_a_thousand_flipped_bits_none_changes_a_record_and_none_in_a_group_goes_unseen():
    disk, records = written([3, 1, 12, 5, 9, 14, 2, 8, 20, 6, 4, 7, 11, 3, 9])
    segments = [(path, groups_of(data)) for path, data in disk.files().items() if path.suffix == ".journal"]
    assert len(segments) >= 2
    rng = random.Random(2)
    refused = 0
    for _ in range(1000):
        flipped = disk.copy()
        path, groups = rng.choice(segments)
        data = flipped.files()[path]
        used = groups[-1][1]
        bit = rng.randrange((used if rng.random() < 0.9 else len(data)) * 8)
        data[bit // 8] ^= 1 << bit % 8
        found = damage(flipped)
        if found is None:
            assert bit // 8 >= used, "a flipped bit in what was written was not seen"
            flipped.kill()
            assert reopened(flipped) == records
        else:
            refused += 1
            assert (found.path, found.offset <= bit // 8) == (path, True)
            assert found.remedy
    assert refused > 850


def test_damage_before_a_later_group_is_refused_even_where_it_looks_torn():
    disk, _ = written([3, 12, 2])
    path, data = last_segment(disk)
    start, end = groups_of(data)[1]
    sector = (start // SECTOR + 1) * SECTOR
    assert sector + SECTOR <= end
    for lo, hi in ((sector, sector + SECTOR), (start, sector), (start, end)):
        lost = disk.copy()
        last_segment(lost)[1][lo:hi] = bytes(hi - lo)
        with pytest.raises(JournalCorrupt, match=f"{path} is damaged at byte {start}: record 4 "):
            reopened(lost)


def test_a_segment_that_is_missing_or_ends_early_is_refused():
    disk, _ = written([14] * 12)
    paths = [path for path in disk.files() if path.suffix == ".journal"]
    assert len(paths) >= 3
    missing = disk.copy()
    missing.unlink(paths[1])
    with pytest.raises(JournalCorrupt, match="the file before ends before"):
        reopened(missing)
    data = disk.files()[paths[0]]
    start = groups_of(data)[-1][0]
    data[start:] = bytes(len(data) - start)
    with pytest.raises(JournalCorrupt, match="the file before ends before"):
        reopened(disk)


def test_a_payload_that_looks_like_a_group_does_not_count_as_one():
    disk, syncer = ForgetfulDisk(), HandSyncer()
    journal = Journal.open(FOLDER, "w", limits=SMALL, disk=disk, syncer=syncer)
    forged = _format.new_group()
    _format.seal(forged, first_lsn=99, count=1, seed=0)
    journal.append(1, bytes(forged) * 20)
    while syncer.turn():
        pass
    _, data = last_segment(disk)
    ((_, end),) = groups_of(data)
    data[end - 1] = 0
    disk.kill()
    assert reopened(disk) == []


@pytest.mark.parametrize("version", [2, 70000])
def test_a_journal_of_a_later_format_is_refused_with_a_remedy_and_left_as_it_is(version):
    disk, _ = written([2])
    _, data = last_segment(disk)
    data[: _format.HEADER_BYTES] = _format.pack_header("w", 1, version)
    before = {name: bytes(kept) for name, kept in disk.files().items()}
    with pytest.raises(JournalTooNew, match=f"format {version}; this Bursar knows formats up to 1") as refused:
        reopened(disk)
    assert "later version" in str(refused.value.remedy)
    assert {name: bytes(kept) for name, kept in disk.files().items()} == before
