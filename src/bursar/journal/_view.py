"""A journal as others see it: read-only, beside the worker that writes it. Needs no lock and changes nothing.

Files are kept open, so that what the worker gives back meanwhile can still be read. Everything here waits for the disk.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from bursar.journal import _format
from bursar.journal._errors import JournalCorrupt, JournalTooNew
from bursar.journal._format import Ending, Record, Scan, SegmentHeader

_LOOKS = 5
"""A group that is being written may look damaged; this often it is looked at again."""


class JournalView:
    """The segments of one folder since `open`. Close it, or use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[int, int] = {}
        """File descriptors by first lsn."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises `OSError`."""
        view = cls(folder)
        view.catch_up()
        return view

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def catch_up(self) -> None:
        """Opens the segments that are new. What was there stays readable, though the worker deletes it."""
        for path in sorted(self.folder.glob(f"*{_format.SUFFIX}")):
            if path.stem.isdecimal() and int(path.stem) not in self._files:
                try:
                    self._files[int(path.stem)] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:  # given back a moment ago, and so were those before it
                    self._forget_before(int(path.stem))

    def records(self) -> Iterator[Record]:
        """Everything that is whole, in order. Raises `JournalCorrupt`, `JournalTooNew`."""
        for header, data, found, path in self._segments():
            try:
                yield from _format.read_records(data, header, found.end)
            except _format.MisshapenGroup as group:
                raise JournalCorrupt(path, group.args[0], "a group does not hold what it says") from None

    @property
    def worker(self) -> str | None:
        """Whose it is; None for a folder without segments."""
        return next((header.worker for header, *_ in self._segments()), None)

    def save(self, target: Path) -> tuple[int, int]:
        """Writes all that is whole to a new folder, as a journal that the same worker can open; returns its first and last lsn."""
        target.mkdir(mode=0o700, parents=True)
        first, last = 1, 0
        for number, (header, data, found, path) in enumerate(self._segments()):
            first, last = header.first_lsn if number == 0 else first, found.next_lsn - 1
            fd = os.open(target / path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(data[: found.end])
                file.truncate(len(data))
                file.flush()
                os.fsync(file.fileno())
        return first, last

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files = {}

    def _forget_before(self, lsn: int) -> None:
        for old in [first for first in self._files if first < lsn]:
            os.close(self._files.pop(old))

    def _segments(self) -> Iterator[tuple[SegmentHeader, bytes, Scan, Path]]:
        """One at a time: a journal may be larger than memory."""
        next_lsn = None
        order = sorted(self._files)
        for number, first_lsn in enumerate(order):
            path = self.folder / f"{first_lsn:020}{_format.SUFFIX}"
            if next_lsn is not None and next_lsn != first_lsn:
                raise JournalCorrupt(
                    path, 0, f"it starts with record {first_lsn}, but the file before ends before {next_lsn}"
                )
            header, data, found = self._look(first_lsn, path, is_last=number + 1 == len(order))
            next_lsn = found.next_lsn
            yield header, data, found, path

    def _look(self, first_lsn: int, path: Path, *, is_last: bool) -> tuple[SegmentHeader, bytes, Scan]:
        for _ in range(_LOOKS):
            data = _read(self._files[first_lsn])
            header = _format.read_header(data)
            if header is None:
                raise JournalCorrupt(path, 0, "its header does not match its checksum")
            if header.version > _format.VERSION:
                raise JournalTooNew(path, header.version, _format.VERSION)
            found = _format.scan(data, header)
            if found.ending is Ending.CLEAN or (is_last and found.ending is Ending.TORN):
                return header, data, found
        raise JournalCorrupt(path, found.end, f"record {found.next_lsn} or the group it is in has changed")


def journal_folders(root: Path) -> list[Path]:
    """The folders at or below `root` that hold a journal, in order."""
    return sorted({path.parent for path in root.rglob(f"*{_format.SUFFIX}")})


def _read(fd: int) -> bytes:
    size, parts, at = os.fstat(fd).st_size, [], 0
    while at < size and (part := os.pread(fd, size - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
