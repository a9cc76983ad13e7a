"""The files of one journal. Everything here waits for the disk, and runs in one thread at a time.

- `00000000000000000001.journal`: a segment, named after its first lsn; the last one is written to.
- `spare-1`: preallocated zeros, to become a segment; the last of them are the reserve.
- `spare-1.new`: being allocated; deleted at the next start.
"""

import errno
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bursar.journal import _format
from bursar.journal._disk import Closeable, Disk, File, RealDisk
from bursar.journal._errors import JournalCorrupt, JournalInUse, JournalOfAnother, JournalTooNew, JournalUnusable
from bursar.journal._format import Ending, Record, Scan, SegmentHeader
from bursar.journal._limits import JournalLimits

SPARE = "spare-"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Space:
    """How much room there is, as of the job that says so."""

    free_bytes: int
    """What can certainly be written, in groups of any size, the reserve included."""
    reserve_bytes: int
    size_bytes: int
    """What all files take on disk."""
    is_short: bool
    """Whether a spare segment is missing."""


@dataclass(frozen=True)
class Segment:
    path: Path
    header: SegmentHeader
    size_bytes: int
    end: int
    """Where its groups end, as found at the start."""

    @property
    def first_lsn(self) -> int:
        return self.header.first_lsn


class Segments:
    """`open` first; then `write`, `grow` and `truncate`, each of which returns the room there is. `OSError` is final."""

    def __init__(self, folder: Path, worker: str, limits: JournalLimits, disk: Disk) -> None:
        self.folder = folder
        self.next_lsn = 1
        self.segments: list[Segment] = []
        self._worker = worker
        self._limits = limits
        self._disk = disk
        self._spares: list[Path] = []
        self._spares_made = 0
        self._used = 0
        self._lock: Closeable | None = None
        self._file: File | None = None

    def open(self) -> Space:
        """Takes the lock, checks every segment, drops a torn group at the very end, and prepares what is missing.

        Raises `JournalInUse`, `JournalUnusable`, `JournalTooNew`, `JournalOfAnother`, `JournalCorrupt`.
        """
        _format.pack_header(self._worker, 1)  # a name that does not fit is refused before anything is touched
        try:
            self._lock = self._disk.lock(self.folder)
        except BlockingIOError:
            raise JournalInUse(self.folder) from None
        except OSError as error:
            raise JournalUnusable(self.folder, error) from error
        try:
            self._find()
            space = self.grow()
            if not self.segments:
                self._start(1)
                space = self.grow()
        except OSError as error:
            self.close()
            raise JournalUnusable(self.folder, error) from error
        except BaseException:
            self.close()
            raise
        return space

    def write(self, group: bytearray, first_lsn: int, count: int) -> Space:
        """Brings one group to disk, in a new segment if this one is used up."""
        if self._free_here() == 0:
            self._start(first_lsn)
        assert self._file is not None
        _format.seal(group, first_lsn=first_lsn, count=count, seed=self.segments[-1].header.seed)
        self._file.pwrite(group, self._used)
        self._file.fdatasync()
        self._used += len(group)
        self.next_lsn = first_lsn + count
        return self.space()

    def grow(self) -> Space:
        """Allocates spare segments, as far as limits and disk allow."""
        made = False
        while self._is_short() and len(self.segments) + len(self._spares) < self._limits.segments_max:
            self._spares_made += 1
            spare = self.folder / f"{SPARE}{self._spares_made}"
            new = spare.with_suffix(".new")
            try:
                self._disk.allocate(new, self._limits.segment_bytes)
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                with suppress(FileNotFoundError):
                    self._disk.unlink(new)
                break
            self._disk.rename(new, spare)
            self._spares.append(spare)
            made = True
        if made:
            self._disk.sync_folder(self.folder)
        return self.space()

    def truncate(self, through: int) -> Space:
        """Deletes segments that hold only records up to `through`. The one in use stays, unless space is short."""
        if (
            through >= self.next_lsn - 1
            and self._is_short()
            and self._spares
            and self.segments[-1].first_lsn <= through
        ):
            self._start(self.next_lsn)
        while len(self.segments) > 1 and self.segments[1].first_lsn - 1 <= through:
            # One by one from the oldest, each for good: a crash must not leave a gap between those that stay.
            self._disk.unlink(self.segments[0].path)
            self._disk.sync_folder(self.folder)
            del self.segments[0]
        return self.space()

    def read(self, segments: list[Segment], after: int) -> Iterator[Record]:
        """The records with a greater lsn than `after`, as they were when `segments` were checked."""
        for number, segment in enumerate(segments):
            if number + 1 < len(segments) and segments[number + 1].first_lsn - 1 <= after:
                continue
            data = self._disk.read(segment.path)
            try:
                for record in _format.read_records(data, segment.header, segment.end):
                    if record.lsn > after:
                        yield record
            except _format.MisshapenGroup as group:
                raise JournalCorrupt(segment.path, group.args[0], "a group does not hold what it says") from None

    def space(self) -> Space:
        spare_bytes = self._limits.segment_bytes - self._limits.group_bytes_max - _format.HEADER_BYTES
        return Space(
            free_bytes=self._free_here() + len(self._spares) * spare_bytes,
            reserve_bytes=self._limits.reserve_segments * spare_bytes,
            size_bytes=sum(s.size_bytes for s in self.segments) + len(self._spares) * self._limits.segment_bytes,
            is_short=self._is_short(),
        )

    def close(self) -> None:
        for held in (self._file, self._lock):
            if held is not None:
                held.close()
        self._file = self._lock = None

    def _is_short(self) -> bool:
        return len(self._spares) <= self._limits.reserve_segments

    def _free_here(self) -> int:
        # A group may start anywhere before this mark and still fits: what was admitted never has to be refused.
        return max(0, self.segments[-1].size_bytes - self._limits.group_bytes_max - self._used) if self.segments else 0

    def _start(self, first_lsn: int) -> None:
        """Turns a spare into the segment that is written to."""
        if not self._spares:
            raise OSError(errno.ENOSPC, "No space left for a segment of the journal")
        spare = self._spares.pop(0)
        path = self.folder / f"{first_lsn:020}{_format.SUFFIX}"
        packed = _format.pack_header(self._worker, first_lsn)
        header = _format.read_header(packed)
        assert header is not None
        file = self._disk.open(spare)
        try:
            file.pwrite(packed, 0)
            file.fdatasync()
            self._disk.rename(spare, path)
            self._disk.sync_folder(self.folder)
        except BaseException:
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file = file
        self._used = _format.HEADER_BYTES
        self.segments.append(Segment(path, header, self._limits.segment_bytes, _format.HEADER_BYTES))

    def _find(self) -> None:
        """Finds segments and spares, deletes what was left half made, and checks every segment."""
        self._disk.sync_folder(self.folder)  # names that a killed process left unsynced must not vanish later
        found = []
        for name in self._disk.listdir(self.folder):
            stem, _, suffix = name.partition(".")
            if suffix == "new":
                self._disk.unlink(self.folder / name)
            elif f".{suffix}" == _format.SUFFIX and stem.isdecimal():
                found.append((int(stem), self.folder / name))
            elif name.startswith(SPARE):
                self._keep_spare(self.folder / name)
        found.sort()
        for number, (first_lsn, path) in enumerate(found):
            self._check(path, first_lsn, is_last=number + 1 == len(found))

    def _keep_spare(self, path: Path) -> None:
        """A spare that was about to become a segment has a header already, which will be written over."""
        number = path.name.removeprefix(SPARE)
        data = self._disk.read(path)[_format.HEADER_BYTES :]
        whole = len(data) == self._limits.segment_bytes - _format.HEADER_BYTES
        if number.isdecimal() and whole and _format.is_zero(data):
            self._spares.append(path)
            self._spares_made = max(self._spares_made, int(number))
        else:
            self._disk.unlink(path)

    def _check(self, path: Path, first_lsn: int, *, is_last: bool) -> None:
        data = self._disk.read(path)
        header = self._checked_header(path, data)
        if header.first_lsn != first_lsn:
            raise JournalCorrupt(path, 0, f"it starts with record {header.first_lsn}, not with the one in its name")
        if self.segments and first_lsn != self.next_lsn:
            raise JournalCorrupt(
                path, 0, f"it starts with record {first_lsn}, but the file before ends before {self.next_lsn}"
            )
        found = _format.scan(data, header)
        if found.ending is Ending.DAMAGED or (found.ending is Ending.TORN and not is_last):
            raise JournalCorrupt(path, found.end, f"record {found.next_lsn} or the group it is in has changed")
        self.segments.append(Segment(path, header, len(data), found.end))
        self.next_lsn = found.next_lsn
        if is_last:
            self._go_on(path, data, found)

    def _checked_header(self, path: Path, data: bytes) -> SegmentHeader:
        header = _format.read_header(data)
        if header is None:
            raise JournalCorrupt(path, 0, "its header does not match its checksum")
        if header.version > _format.VERSION:
            raise JournalTooNew(path, header.version, _format.VERSION)
        if header.worker != self._worker:
            raise JournalOfAnother(path, header.worker, self._worker)
        return header

    def _go_on(self, path: Path, data: bytes, found: Scan) -> None:
        """Prepares the last segment for writing.

        Its last group is written again: after `kill -9`, or a failed sync, it can be read and yet not be on disk. What is
        there of a torn group becomes zero; whichever sectors a crash leaves of that, the group is torn again.
        """
        self._file = self._disk.open(path)
        self._used = found.end
        if found.last_group is not None:
            self._file.pwrite(data[found.last_group : found.end], found.last_group)
            self._file.fdatasync()
        if found.ending is Ending.TORN:
            self._file.pwrite(bytes(found.dirty_end - found.end), found.end)
            self._file.fdatasync()


def move_journal(old: Path, new: Path) -> None:
    """Moves the files of a journal that nobody has open, one by one; what a crash left behind is moved the next time."""
    files = [*old.glob(f"*{_format.SUFFIX}"), *old.glob(f"{SPARE}*")]
    if files:
        disk = RealDisk()
        new.mkdir(mode=0o700, exist_ok=True)
        for path in files:
            disk.rename(path, new / path.name)
        disk.sync_folder(new)
        disk.sync_folder(old)
