"""`bursar doctor`: is everything in place?"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bursar.app import look_at_catalog, look_at_schema, make_mailer
from bursar.cli._output import answer
from bursar.cli._serve import check, refuse_free_spending
from bursar.kernel.errors import BursarError, SettingsError
from bursar.settings import Settings, read_settings
from bursar.storage import DataDir, DataDirInUse, head_revision


class CredentialMissing(SettingsError):
    """The catalogue names a variable that is not set: calls to that provider would fail."""


class DataDirCannotBeMade(SettingsError):
    """There is no data directory, and the first start could not make it."""


def run(*, data_dir: Path | None, as_json: bool) -> None:
    """Prints a line per check; exits with 1 when one fails."""
    settings = read_settings(data_dir=data_dir)
    results = [_try(name, lambda work=work: work(settings)) for name, work in CHECKS]  # type: ignore[misc]
    is_well = all(result["ok"] for result in results)
    lines = [f"{'ok  ' if result['ok'] else 'FAIL'}  {result['check']}: {result['message']}" for result in results]
    answer({"ok": is_well, "checks": results}, as_json=as_json, text="\n".join(lines))
    sys.exit(0 if is_well else 1)


def _try(name: str, work: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"check": name, "ok": True, "message": work()}
    except BursarError as error:
        remedy = "" if error.remedy is None or error.remedy in error.sentence else f" {error.remedy}"
        message = error.sentence + remedy
        return {"check": name, "ok": False, "message": message}


def _settings(settings: Settings) -> str:
    check(settings)
    return f"public URL {settings.public_url or f'http://{settings.host}:{settings.port}'}"


def _data_dir(settings: Settings) -> str:
    path = settings.data_dir.absolute()
    if not path.exists():
        above = next(folder for folder in path.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise DataDirCannotBeMade(
                f"The data directory {path} cannot be made: {above} is not a directory that can be written.",
                remedy="Choose another with --data-dir.",
            )
        return f"{settings.data_dir} does not exist yet; the first start makes it"
    directory = DataDir(settings.data_dir)
    try:
        directory.lock()
    except DataDirInUse as error:
        return f"{directory.path} is served now ({error.sentence.rpartition('by ')[2].rstrip('.')})"
    directory.unlock()
    return f"{directory.path} can be written; nobody serves from it"


def _database(settings: Settings) -> str:
    if settings.database_url is None and not (settings.data_dir / "bursar.db").exists():
        return "SQLite; the first start makes it"
    revision = asyncio.run(look_at_schema(settings))
    state = "up to date" if revision == head_revision() else f"the next start migrates it to {head_revision()}"
    return f"{'PostgreSQL' if settings.database_url else 'SQLite'}, schema {revision or 'empty'}, {state}"


def _catalog(settings: Settings) -> str:
    holder = asyncio.run(look_at_catalog(settings))
    refuse_free_spending(settings, holder)
    endpoints = holder().endpoints()
    unpriced = sum(endpoint.pricing is None for endpoint in endpoints)
    missing = [
        provider.credential_env
        for provider in holder().providers_needing_credentials
        if provider.credential_env and settings.credential(provider.credential_env) is None
    ]
    if missing:
        raise CredentialMissing(f"{', '.join(missing)} is not set.", remedy="Set it to the provider's API key.")
    priced = f"{len(endpoints) - unpriced} endpoints with a price"
    return priced + (f", {unpriced} without (refused until they have one)" if unpriced else "")


def _mail(settings: Settings) -> str:
    mailer = make_mailer(settings)
    where = f"by {settings.smtp_host}" if mailer.delivers else "printed on stderr and shown to the operator"
    return f"messages are {'sent ' if mailer.delivers else ''}{where}"


CHECKS: tuple[tuple[str, Callable[[Settings], str]], ...] = (
    ("settings", _settings),
    ("data directory", _data_dir),
    ("database", _database),
    ("catalogue", _catalog),
    ("mail", _mail),
)
