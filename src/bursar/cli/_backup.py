"""`bursar backup` and `bursar restore`: the database and the journals together.

A backup is consistent although nothing stops:

1. The journals' files are opened, so that what is behind the database's watermark at the copy stays readable whatever is given back.
2. The database is copied from one snapshot; new files of the journals are opened meanwhile.
3. The journals are copied: they hold everything from before the snapshot's watermark on, and a start applies what is behind it.

`manifest.json` is written last, with every file's SHA-256: without it a folder is no backup. The installation secret is never in it:
it opens what is sealed in the database, and so belongs elsewhere.
"""

import asyncio
import hashlib
import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy.engine import URL

from bursar import __version__, ledger, storage
from bursar.app import look_at_installation, open_copy
from bursar.cli import _ledger
from bursar.cli._output import answer
from bursar.journal import JournalView, journal_folders
from bursar.kernel.errors import BursarError, Conflict, SettingsError
from bursar.settings import Settings, read_settings

MANIFEST = "manifest.json"
JOURNAL = "journal"
DATABASES = {"sqlite": "bursar.db", "postgresql": "bursar.dump"}
KEPT = ("node",)
"""What else of the data directory belongs to a backup; the lock, the socket and the secret do not."""

_ELSEWHERE = (
    "The installation secret ({secret}) is not in the backup: keep it somewhere else. Without it API keys are not recognized, "
    "sessions end and mails that wait cannot be opened."
)


class FolderTaken(Conflict):
    """Something is there already; nothing is overwritten."""


class NoBackup(SettingsError):
    """The folder holds no whole backup."""


class RestoredBooksDiffer(BursarError):
    """What was restored does not add up."""


def backup(folder: Path, *, data_dir: Path | None, as_json: bool) -> None:
    """Raises `FolderTaken`, what `look_at_installation` raises, `storage.CopyFailed`, `JournalCorrupt`."""
    settings = read_settings(data_dir=data_dir)
    made = _backup(folder.absolute(), settings)
    secret = "BURSAR_SECRET" if settings.secret is not None else str(settings.data_dir / "secret")
    hint = _ELSEWHERE.format(secret=secret)
    others = [worker for worker in made["workers"] if worker not in made["journals"]]
    if others:
        hint += f"\nThe journals of {', '.join(others)} are on other machines: back up there as well."
    answer({**made, "folder": str(folder), "hint": hint}, as_json=as_json, text=f"Backed up to {folder}.\n{hint}")


def _backup(folder: Path, settings: Settings) -> dict[str, Any]:
    _require_free(folder, allowed=())
    url, schema, workers, now = asyncio.run(_facts(settings))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    dialect = url.get_backend_name()
    with _Journals(settings.data_dir.absolute() / JOURNAL) as journals:
        storage.copy_database(url, folder / DATABASES[dialect], journals.catch_up)
        journals.catch_up()
        saved = journals.save(folder / JOURNAL)
    for name in KEPT:
        if (settings.data_dir / name).is_file():
            _copy(settings.data_dir / name, folder / name)
    made = {
        "bursar": __version__,
        "schema": schema,
        "database": dialect,
        "created_at": now.isoformat(),
        "workers": workers,
        "journals": saved,
        "files": {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()},
    }
    _write_whole(folder / MANIFEST, json.dumps(made, indent=2) + "\n")
    return made


async def _facts(settings: Settings) -> tuple[URL, str | None, list[str], datetime]:
    """Where the database is, its schema, the workers there ever were, and the time."""
    async with look_at_installation(settings) as database:
        schema = await storage.current_revision(database)
        async with database.snapshot(storage.SYSTEM) as snapshot:
            workers: list[str] = [worker.id for worker in await ledger.list_workers(snapshot)]
            return database.source, schema, workers, await snapshot.database_time()


class _Journals:
    """All journals of this machine, kept open while the database is copied."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._views: dict[Path, JournalView] = {}

    def __enter__(self) -> Self:
        self.catch_up()
        return self

    def __exit__(self, *_: object) -> None:
        for view in self._views.values():
            view.close()

    def catch_up(self) -> None:
        for path in journal_folders(self._root):
            self._views.setdefault(path, JournalView(path))
        for view in self._views.values():
            view.catch_up()

    def save(self, target: Path) -> dict[str, Any]:
        """What was saved, by worker."""
        saved = {}
        target.mkdir(mode=0o700, exist_ok=True)
        for folder, view in self._views.items():
            worker = view.worker
            if worker is not None:
                name = folder.relative_to(self._root)
                first, last = view.save(target / name)
                saved[worker] = {"folder": str(name), "first_lsn": first, "last_lsn": last}
        return saved


def restore(folder: Path, *, data_dir: Path | None, as_json: bool) -> None:
    """Into an empty data directory (a `secret` may be there), and with PostgreSQL an empty database; verified afterwards.

    Raises `NoBackup`, `FolderTaken`, `storage.CopyFailed`, `storage.WrongSecret`, `RestoredBooksDiffer`.
    """
    settings = read_settings(data_dir=data_dir)
    made = _read_manifest(folder)
    target = settings.data_dir.absolute()
    is_postgres = made["database"] == "postgresql"
    if is_postgres != (settings.database_url is not None):
        raise NoBackup(
            f"The backup in {folder} is of {'PostgreSQL' if is_postgres else 'SQLite'}.",
            remedy="Set BURSAR_DATABASE_URL to an empty database." if is_postgres else "Unset BURSAR_DATABASE_URL.",
        )
    _require_free(target, allowed=("secret",))
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(_restore(folder, target, settings, made))
    found = asyncio.run(_ledger.look(settings))
    if not found["ok"]:
        raise RestoredBooksDiffer(
            f"The books in {target} differ by {found['drift']} nanos.",
            remedy="`bursar ledger verify` names what differs. Do not serve from it; restore another backup.",
        )
    has_secret = settings.secret is not None or (target / "secret").is_file()
    hint = (
        ""
        if has_secret
        else f"\nNow put the installation's secret into {target / 'secret'} (mode 0600), or set BURSAR_SECRET."
    )
    answer(
        {"data_dir": str(target), "schema": storage.head_revision(), "verified": found, "hint": hint.strip()},
        as_json=as_json,
        text=f"Restored to {target}; the books are right, drift 0.{hint}",
    )


async def _restore(folder: Path, target: Path, settings: Settings, made: dict[str, Any]) -> None:
    async with open_copy(settings) as (database, secret):
        source = folder / DATABASES[database.dialect]
        if database.dialect == "postgresql":
            if await storage.has_tables(database):
                raise FolderTaken("The database is not empty.", remedy="Set BURSAR_DATABASE_URL to an empty one.")
            await storage.ensure_role(database)
            await asyncio.to_thread(storage.put_back, database.url, source)
        else:
            _copy(source, target / source.name)
        for name in made["files"]:
            if name != source.name:
                _copy(folder / name, target / name)
        await storage.migrate(database)
        if secret is not None:
            await storage.check_secret(database, secret)


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Raises `NoBackup` for what is no whole backup, or changed since."""
    remedy = "Name a folder that `bursar backup` wrote, whole."
    try:
        made: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, str] = made["files"]
        if made["schema"] > storage.head_revision():
            raise NoBackup(
                f"The backup in {folder} is of a later Bursar ({made['bursar']}).",
                remedy="Restore it with that version.",
            )
    except (OSError, ValueError, KeyError, TypeError):
        raise NoBackup(f"There is no whole backup in {folder}.", remedy=remedy) from None
    for name, digest in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file() or _digest(path) != digest:
            raise NoBackup(f"{path} is missing, or not as it was backed up.", remedy=remedy)
    return made


def _require_free(folder: Path, *, allowed: tuple[str, ...]) -> None:
    if folder.exists() and (not folder.is_dir() or any(path.name not in allowed for path in folder.iterdir())):
        raise FolderTaken(f"{folder} is not empty.", remedy="Name a folder that is empty or does not exist.")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with source.open("rb") as old, os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
        shutil.copyfileobj(old, new, 1024 * 1024)
        new.flush()
        os.fsync(new.fileno())


def _write_whole(path: Path, text: str) -> None:
    half = path.with_suffix(".part")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
