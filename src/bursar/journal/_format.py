"""The bytes of a segment, and how a crash is told from damage. Pure.

    segment   header, groups, zero bytes up to the allocated size
    header    magic 8 | crc 4 | version 4 | first lsn 8 | length of worker 2 | worker 128 | zeros up to 512
    group     magic 4 | crc of the head 4 | crc of the body 4 | bytes of the group 4 | records 4 | first lsn 8 | records | 0xFF
    record    length 4 | kind 2 | payload

Little-endian. A group is what one write brought to disk, and it is written only after the group before it was synced. Hence:

- only the last group can be torn; damage before a later group is never a crash's;
- nothing of a torn group was reported as synced, so it is dropped whole;
- a group's number, kinds, lengths and payloads are under its checksum: a record comes back as it was, or not at all.

The last group is torn if something of it never arrived: a disk writes sectors whole and in any order, so that one (or its
part of one) is still zero, or its last byte is, which is never zero. If every sector arrived and the checksum is wrong, then
bits have changed since. One case stays open: a payload with a whole sector of zeros in it, damaged elsewhere, in the last
group, is taken for torn.

Checksums start from the header's own, so that bytes of another segment, or payloads made to look like a group, do not count.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from zlib import crc32

SUFFIX = ".journal"
"""Of the name of a segment."""
VERSION = 1
HEADER_BYTES = 512
SECTOR_BYTES = 512
WORKER_BYTES_MAX = 128

_SEGMENT_MAGIC = b"bursarJL"
_SEGMENT = struct.Struct("<8sIIQH128s")
_UNDER_CRC = 12
_GROUP_MAGIC = b"\xb5GRP"
_GROUP = struct.Struct("<4sIIIIQ")
_GROUP_FACTS = struct.Struct("<IIIQ")
_RECORD = struct.Struct("<IH")
_END = b"\xff"

GROUP_OVERHEAD_BYTES = _GROUP.size + len(_END)
RECORD_OVERHEAD_BYTES = _RECORD.size
KIND_MAX = 0xFFFF

pack_record_head = _RECORD.pack


class Record(NamedTuple):
    """`lsn` counts from 1 without gaps; `kind` and `payload` are the caller's."""

    lsn: int
    kind: int
    payload: bytes


class Ending(Enum):
    """What follows the last whole group of a segment."""

    CLEAN = "zeros"
    TORN = "a group of which a part never arrived"
    DAMAGED = "bytes that no crash leaves behind"


@dataclass(frozen=True)
class SegmentHeader:
    version: int
    worker: str
    first_lsn: int
    seed: int
    """Where the checksums of this segment start from."""


@dataclass(frozen=True)
class Scan:
    end: int
    """Where the next group goes, in bytes from the start of the segment."""
    next_lsn: int
    last_group: int | None
    """Where the last whole group starts."""
    ending: Ending
    dirty_end: int
    """Everything from here on is zero."""


class _Head(NamedTuple):
    body_crc: int
    size_bytes: int
    records: int
    first_lsn: int


class MisshapenGroup(ValueError):
    """The checksum is right and the records do not add up: written wrongly."""


def pack_header(worker: str, first_lsn: int, version: int = VERSION) -> bytes:
    name = worker.encode()
    if not 0 < len(name) <= WORKER_BYTES_MAX:
        raise ValueError(f"a worker's name has 1 to {WORKER_BYTES_MAX} bytes")
    packed = _SEGMENT.pack(_SEGMENT_MAGIC, 0, version, first_lsn, len(name), name).ljust(HEADER_BYTES, b"\0")
    return packed[:8] + crc32(packed[_UNDER_CRC:]).to_bytes(4, "little") + packed[_UNDER_CRC:]


def read_header(data: bytes) -> SegmentHeader | None:
    """None if it is damaged. Every version keeps magic, checksum and version where they are."""
    if len(data) < HEADER_BYTES:
        return None
    magic, crc, version, first_lsn, length, name = _SEGMENT.unpack_from(data)
    if magic != _SEGMENT_MAGIC or crc != crc32(data[_UNDER_CRC:HEADER_BYTES]):
        return None
    return SegmentHeader(version, name[:length].decode(errors="replace"), first_lsn, crc)


def new_group() -> bytearray:
    """A group without records: append `pack_record_head(length, kind)` and the payload for each, then `seal` it."""
    return bytearray(_GROUP.size)


def seal(group: bytearray, *, first_lsn: int, count: int, seed: int) -> None:
    """Makes `group` ready to be written, in place."""
    group += _END
    with memoryview(group) as view:
        body_crc = crc32(view[_GROUP.size :], seed)
    facts = (body_crc, len(group), count, first_lsn)
    _GROUP.pack_into(group, 0, _GROUP_MAGIC, crc32(_GROUP_FACTS.pack(*facts), seed), *facts)


def scan(data: bytes, header: SegmentHeader) -> Scan:
    """Walks the groups of a whole segment up to the first that is not whole, and judges what is there."""
    at, lsn, last = HEADER_BYTES, header.first_lsn, None
    while (
        (head := _head_at(data, at, header.seed)) and head.first_lsn == lsn and _is_whole(data, at, head, header.seed)
    ):
        last = at
        at += head.size_bytes
        lsn += head.records
    if is_zero(data[at:]):
        return Scan(at, lsn, last, Ending.CLEAN, at)
    dirty_end = len(data.rstrip(b"\0"))
    if _has_later_group(data, at, lsn, header.seed) or not _is_torn(data, at, dirty_end, header.seed):
        ending = Ending.DAMAGED
    else:
        ending = Ending.TORN
    return Scan(at, lsn, last, ending, dirty_end)


def read_records(data: bytes, header: SegmentHeader, end: int) -> Iterator[Record]:
    """The records of the groups before `end`, which `scan` found whole. Raises `MisshapenGroup`."""
    at = HEADER_BYTES
    while at < end and (head := _head_at(data, at, header.seed)):
        place, stop = at + _GROUP.size, at + head.size_bytes - len(_END)
        for lsn in range(head.first_lsn, head.first_lsn + head.records):
            if place + _RECORD.size > stop:
                raise MisshapenGroup(at)
            length, kind = _RECORD.unpack_from(data, place)
            place += _RECORD.size + length
            if place > stop:
                raise MisshapenGroup(at)
            yield Record(lsn, kind, data[place - length : place])
        if place != stop:
            raise MisshapenGroup(at)
        at += head.size_bytes


def is_zero(data: bytes) -> bool:
    return data == bytes(len(data))


def _head_at(data: bytes, at: int, seed: int) -> _Head | None:
    if at + GROUP_OVERHEAD_BYTES > len(data):
        return None
    magic, crc, *facts = _GROUP.unpack_from(data, at)
    if magic != _GROUP_MAGIC or crc != crc32(_GROUP_FACTS.pack(*facts), seed):
        return None
    return _Head(*facts)


def _is_whole(data: bytes, at: int, head: _Head, seed: int) -> bool:
    end = at + head.size_bytes
    if end > len(data):
        return False
    with memoryview(data) as view:
        return crc32(view[at + _GROUP.size : end], seed) == head.body_crc


def _has_later_group(data: bytes, at: int, lsn: int, seed: int) -> bool:
    """Whether a group was written after the one at `at`, which then had been synced."""
    at = data.find(_GROUP_MAGIC, at + 1)
    while at >= 0:
        head = _head_at(data, at, seed)
        if head and head.first_lsn > lsn:
            return True
        at = data.find(_GROUP_MAGIC, at + 1)
    return False


def _is_torn(data: bytes, at: int, dirty_end: int, seed: int) -> bool:
    head = _head_at(data, at, seed)
    if head is None:
        return dirty_end - at < _GROUP.size or _lost_a_sector(data, at, dirty_end)
    end = at + head.size_bytes
    if dirty_end > end:
        return False
    return dirty_end < end or _lost_a_sector(data, at, end)


def _lost_a_sector(data: bytes, start: int, end: int) -> bool:
    """Whether the part of any sector between `start` and `end` is all zero."""
    while start < end:
        stop = min(end, start - start % SECTOR_BYTES + SECTOR_BYTES)
        if is_zero(data[start:stop]):
            return True
        start = stop
    return False
