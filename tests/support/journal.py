"""Disks and syncers for tests of the journal: a real disk that counts and fails, one in memory that forgets, and steps by hand."""

import errno
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from bursar.journal import Closeable, File, JournalLimits, RealDisk

SECTOR = 512
SMALL = JournalLimits(
    segment_bytes=8192, group_bytes_max=2048, record_bytes_max=1024, segments_max=6, retry_seconds=0.01
)
"""Limits under which a test sees segments come and go."""
MIDDLING = JournalLimits(segment_bytes=1 << 17, group_bytes_max=1 << 14, record_bytes_max=1024, segments_max=1000)
"""The same for real load: a segment lasts longer than the making of the next one."""


class WatchedDisk(RealDisk):
    """The real disk, counting syncs. `full` refuses allocation, `broken` every sync."""

    def __init__(self) -> None:
        self.syncs = 0
        self.full = False
        self.broken = False
        self.before_sync: Callable[[], object] = lambda: None

    def allocate(self, path: Path, size_bytes: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().allocate(path, size_bytes)

    def open(self, path: Path) -> File:
        return _WatchedFile(self, super().open(path))


class _WatchedFile:
    def __init__(self, disk: WatchedDisk, file: File) -> None:
        self._disk = disk
        self._file = file
        self.pwrite = file.pwrite
        self.close = file.close

    def fdatasync(self) -> None:
        self._disk.syncs += 1
        self._disk.before_sync()
        if self._disk.broken:
            raise OSError(errno.EIO, "Input/output error")
        self._file.fdatasync()


class PowerLost(BaseException):
    """The machine is gone in the middle of a call."""


class _Inode:
    def __init__(self, size: int) -> None:
        self.durable = bytes(size)
        self.current = bytearray(size)


class ForgetfulDisk:
    """A disk in memory. At `lose_power` any sector and any name that was not synced may be as it was before.

    `fuse` is how many more calls that change something will work before the power is lost in the middle of one.
    """

    def __init__(self, capacity_bytes: int = 1 << 30) -> None:
        self.capacity_bytes = capacity_bytes
        self.fuse: int | None = None
        self._names: dict[Path, _Inode] = {}
        self._durable_names: dict[Path, _Inode] = {}
        self._unsynced: list[Callable[[dict[Path, _Inode]], object]] = []
        self._is_locked = False

    def lose_power(self, rng: random.Random) -> None:
        """Of what was not synced any part is there afterwards: sectors, and changes of names."""
        for change in self._unsynced:
            if rng.random() < 0.5:
                with suppress(KeyError):  # it builds on one that is lost
                    change(self._durable_names)
        for inode in self._durable_names.values():
            kept = bytearray(inode.durable)
            for at in range(0, len(kept), SECTOR):
                if rng.random() < 0.5:
                    kept[at : at + SECTOR] = inode.current[at : at + SECTOR]
            inode.durable, inode.current = bytes(kept), kept
        self._names = dict(self._durable_names)
        self._unsynced = []
        self.kill()

    def kill(self) -> None:
        """The process is gone, the machine stays: everything written can be read, synced or not."""
        self._is_locked = False
        self.fuse = None

    def files(self) -> dict[Path, bytearray]:
        return {path: inode.current for path, inode in sorted(self._names.items())}

    def copy(self) -> "ForgetfulDisk":
        made = ForgetfulDisk(self.capacity_bytes)
        for path, inode in self._names.items():
            made._names[path] = made._durable_names[path] = copied = _Inode(0)
            copied.durable, copied.current = bytes(inode.current), bytearray(inode.current)
        return made

    def lock(self, folder: Path) -> Closeable:
        if self._is_locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "Resource temporarily unavailable")
        self._is_locked = True
        return _Lock(self)

    def listdir(self, folder: Path) -> list[str]:
        return [path.name for path in self._names]

    def read(self, path: Path) -> bytes:
        return bytes(self._names[path].current)

    def allocate(self, path: Path, size_bytes: int) -> None:
        self.burn()
        if sum(len(inode.current) for inode in self._names.values()) + size_bytes > self.capacity_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._change(partial(_put, path, _Inode(size_bytes)))

    def open(self, path: Path) -> File:
        return _ForgetfulFile(self, self._names[path])

    def rename(self, old: Path, new: Path) -> None:
        self.burn()
        self._change(partial(_rename, old, new))

    def unlink(self, path: Path) -> None:
        self.burn()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        self._change(partial(_unlink, path))

    def sync_folder(self, folder: Path) -> None:
        self.burn()
        self._durable_names = dict(self._names)
        self._unsynced = []

    def burn(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise PowerLost

    def _change(self, change: Callable[[dict[Path, _Inode]], object]) -> None:
        change(self._names)
        self._unsynced.append(change)


def _put(path: Path, inode: _Inode, names: dict[Path, _Inode]) -> None:
    names[path] = inode


def _rename(old: Path, new: Path, names: dict[Path, _Inode]) -> None:
    names[new] = names.pop(old)


def _unlink(path: Path, names: dict[Path, _Inode]) -> None:
    del names[path]


class _Lock:
    def __init__(self, disk: ForgetfulDisk) -> None:
        self._disk = disk

    def close(self) -> None:
        self._disk._is_locked = False


class _ForgetfulFile:
    def __init__(self, disk: ForgetfulDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    def pwrite(self, data: bytes | bytearray, offset: int) -> None:
        assert offset + len(data) <= len(self._inode.current), "written past what was allocated"
        self._inode.current[offset : offset + len(data)] = data
        self._disk.burn()

    def fdatasync(self) -> None:
        self._disk.burn()
        self._inode.durable = bytes(self._inode.current)

    def close(self) -> None: ...


class HandSyncer:
    """No thread, no time: jobs and callbacks wait until `turn`."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Callable, Callable]] = deque()
        self._callbacks: list[Callable[[], None]] = []
        self._late: list[Callable[[], None]] = []
        self.now = 0.0

    def submit(self, work: Callable, done: Callable) -> None:
        self._jobs.append((work, done))

    def soon(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._late.append(callback)

    def time(self) -> float:
        return self.now

    def call_soon(self) -> None:
        """Calls what was to come soon, and nothing that was to come later."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def call(self) -> None:
        """Calls what is due."""
        self._callbacks, self._late = self._callbacks + self._late, []
        self.call_soon()

    def forget(self) -> None:
        """Nothing that was to be called will be."""
        self._callbacks, self._late = [], []

    def turn(self) -> bool:
        """Calls what is due, then does one job. False if there was none."""
        self.call()
        return self._do_one()

    def work(self) -> bool:
        """The same, but for what was to come later."""
        self.call_soon()
        return self._do_one()

    def _do_one(self) -> bool:
        if not self._jobs:
            return False
        work, done = self._jobs.popleft()
        try:
            outcome = work()
        except Exception as error:  # noqa: BLE001 - as the thread does
            outcome = error
        done(outcome)
        return True

    def settle(self, turns_max: int = 50) -> None:
        """Turns until there is nothing left to write (a full disk is asked again and again, so not without end)."""
        for _ in range(turns_max):
            self.turn()

    async def stop(self) -> None:
        while self._jobs:
            self.turn()
