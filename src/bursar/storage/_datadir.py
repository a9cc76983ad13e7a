"""The data directory: the SQLite file, the installation secret, the lock that keeps a second server out, the operator's socket."""

import fcntl
import os
import secrets as random_source
from collections.abc import Callable
from pathlib import Path

from bursar.kernel import errors

SECRET_BYTES_MIN = 32


class DataDirUnusable(errors.SettingsError):
    """The data directory cannot be made, read or written."""


class DataDirInUse(errors.BursarError):
    """A server holds this data directory."""

    status = 409


class DataDir:
    """Made if missing, for its owner only (mode 0700)."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock_fd: int | None = None
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_mode & 0o077 and self.path.stat().st_uid == os.getuid():
                self.path.chmod(0o700)  # it holds the secret, everybody's activity, and the operator's socket
            if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise DataDirUnusable(
                f"The data directory {self.path} cannot be used: {(error.strerror or 'unknown').lower()}.",
                remedy="Choose another with --data-dir, or give the user that runs Bursar the right to read and write it.",
            ) from None

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.path / 'bursar.db'}"

    @property
    def socket(self) -> Path:
        return self.path / "bursar.sock"

    def lock(self) -> None:
        """Takes the directory for this process until it ends. Raises `DataDirInUse`, naming the process that has it."""
        path = self.path / "bursar.lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(fd, 20).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise DataDirInUse(
                f"The data directory {self.path} is in use by process {holder}.",
                remedy="Stop that process, or choose another directory with --data-dir.",
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._lock_fd = fd

    def unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def secret(self, configured: str | None) -> bytes:
        """The installation secret: the configured one, else the file `secret`, written at the first start (mode 0600)."""
        if configured is not None:
            if len(configured.encode()) < SECRET_BYTES_MIN:
                raise errors.SettingsError(
                    f"BURSAR_SECRET is shorter than {SECRET_BYTES_MIN} bytes.",
                    remedy="Make one with: openssl rand -hex 32",
                )
            return configured.encode()
        return self._kept("secret", lambda: random_source.token_hex(32)).encode()

    def node(self) -> str:
        """A stable name for whoever serves from this directory, among several nodes on one database."""
        return self._kept("node", lambda: f"node_{random_source.token_hex(8)}")

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.path / name
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _read(path)
        except OSError as error:
            raise _unusable(path, error) from None
        text = make()
        with os.fdopen(fd, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        return text


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from None
    if not text:
        raise DataDirUnusable(
            f"The file {path} is empty.", remedy="Restore it from a backup; without it sealed data cannot be read."
        )
    return text


def _unusable(path: Path, error: OSError | ValueError) -> DataDirUnusable:
    why = (error.strerror if isinstance(error, OSError) else None) or "it is not text"
    return DataDirUnusable(
        f"The file {path} cannot be used: {why[0].lower()}{why[1:]}.",
        remedy="Give the user that runs Bursar the right to read and write it.",
    )
