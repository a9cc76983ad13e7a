"""Copying a database while it is used, and putting a copy back. Everything here waits: run it in a thread.

SQLite is copied from one snapshot by its own backup function; PostgreSQL by its `pg_dump` and `pg_restore`, which have to be of the
server's version or newer.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

from sqlalchemy.engine import URL

from bursar.kernel import errors

BESIDE_SECONDS = 0.1


class CopyFailed(errors.BursarError):
    """The database could not be copied, or the copy not be put back."""


class ProgramMissing(errors.SettingsError):
    """PostgreSQL's own programs are not on this machine."""


def copy_database(url: URL, target: Path, beside: Callable[[], None]) -> None:
    """Writes one consistent snapshot to the file `target`; meanwhile calls `beside` again and again, from another thread.

    Raises `CopyFailed`, `ProgramMissing`.
    """
    done, failed = Event(), []

    def work() -> None:
        try:
            while not done.wait(BESIDE_SECONDS):
                beside()
        except Exception as error:  # noqa: BLE001 - handed on below
            failed.append(error)

    other = Thread(target=work)
    other.start()
    try:
        if url.get_backend_name() == "sqlite":
            _copy_sqlite(Path(url.database or ""), target)
        else:
            _run("pg_dump", url, "--format=custom", "--no-owner", "--enable-row-security", f"--file={target}")
    finally:
        done.set()
        other.join()
    if failed:
        raise failed[0]
    target.chmod(0o600)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def put_back(url: URL, source: Path) -> None:
    """Into an empty PostgreSQL database, all or nothing; the application's role is there already. Raises as `copy_database`."""
    _run(
        "pg_restore", url, "--no-owner", "--single-transaction", "--exit-on-error", "--dbname", _name(url), str(source)
    )


def _copy_sqlite(source: Path, target: Path) -> None:
    # Every page in one step, which is one snapshot: in several, each write in between would begin the copy anew.
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new, pages=-1)
    except sqlite3.Error as error:
        raise CopyFailed(
            f"{source} could not be copied: {error}.", remedy="Look at disk and space, and try again."
        ) from None


def _run(program: str, url: URL, *arguments: str) -> None:
    path = shutil.which(program)
    if path is None:
        raise ProgramMissing(
            f"{program} is not on this machine.",
            remedy="Install PostgreSQL's client programs (Debian: postgresql-client).",
        )
    host = url.query.get("host") or url.host
    environment = {
        "PGHOST": host if isinstance(host, str) else None,
        "PGPORT": str(url.port) if url.port else None,
        "PGUSER": url.username,
        "PGPASSWORD": str(url.password) if url.password else None,  # not an argument: those are seen by everybody
        "PGDATABASE": _name(url),
        "PGOPTIONS": "-c bursar.owner=*",  # row security would hide every row
    }
    done = subprocess.run(  # noqa: S603 - the program is PostgreSQL's, and nothing of the arguments is anybody's text
        [path, *arguments],
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CopyFailed(
            f"{program} failed: {' '.join(done.stderr.split())[-500:]}",
            remedy="It has to be of the server's version or newer, and the user to own the schema.",
        )


def _name(url: URL) -> str:
    return url.database or ""
