"""The seam to the disk: small enough that a simulation replaces it with one that loses what was not synced."""

import fcntl
import os
from pathlib import Path
from typing import Protocol


class Closeable(Protocol):
    def close(self) -> None: ...


class File(Closeable, Protocol):
    """An open file. Errors are `OSError`, as the system gives them."""

    def pwrite(self, data: bytes | bytearray, offset: int) -> None:
        """Writes all of `data` at `offset` (bytes); not on disk before `fdatasync`."""
        ...

    def fdatasync(self) -> None:
        """Returns when everything written is on disk. After an error nothing is known."""
        ...


class Disk(Protocol):
    """Errors are `OSError`, as the system gives them; `ENOSPC` and `EDQUOT` say that the disk is full."""

    def lock(self, folder: Path) -> Closeable:
        """Makes the folder if it is missing and holds it until closed. Raises `BlockingIOError` if somebody else does."""
        ...

    def listdir(self, folder: Path) -> list[str]: ...

    def read(self, path: Path) -> bytes:
        """The whole file."""
        ...

    def allocate(self, path: Path, size_bytes: int) -> None:
        """Makes a file of zeros, with its space taken; its content is on disk afterwards, its name not yet."""
        ...

    def open(self, path: Path) -> File:
        """An existing file, for writing."""
        ...

    def rename(self, old: Path, new: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def sync_folder(self, folder: Path) -> None:
        """Returns when every name made, changed or removed in `folder` is on disk."""
        ...


class _Fd:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def pwrite(self, data: bytes | bytearray, offset: int) -> None:
        written = os.pwrite(self._fd, data, offset)
        while written < len(data):
            with memoryview(data) as view:
                written += os.pwrite(self._fd, view[written:], offset + written)

    def fdatasync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class RealDisk:
    """Local disks. Files are the user's alone (0600), and so is the folder (0700)."""

    def lock(self, folder: Path) -> Closeable:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.sync_folder(folder.parent)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return _Fd(fd)

    def listdir(self, folder: Path) -> list[str]:
        return [path.name for path in folder.iterdir()]

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def allocate(self, path: Path, size_bytes: int) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)

    def open(self, path: Path) -> File:
        return _Fd(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def sync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
