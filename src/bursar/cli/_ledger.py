"""`bursar ledger verify` and `export`: read-only, beside a running server or without one."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeGuard, get_args

from bursar import reports
from bursar.app import look_at_installation
from bursar.cli._output import InvalidOption, answer, say
from bursar.gateway import JournalState, look_at_journal
from bursar.journal import JournalView, journal_folders
from bursar.kernel.errors import BursarError
from bursar.kernel.ids import OwnerId, WorkerId
from bursar.kernel.money import format_exact
from bursar.ledger import Verification
from bursar.reports import ExportFormat, ExportRange
from bursar.settings import Settings, read_settings
from bursar.storage import SYSTEM

FORMATS = get_args(ExportFormat)

EXIT_DRIFT = 1
EXIT_BLIND = 2
"""It could not look: whether the books are right is not known."""


def run(*, data_dir: Path | None, as_json: bool) -> NoReturn:
    """Exits with 0, `EXIT_DRIFT` or `EXIT_BLIND`."""
    try:
        settings = read_settings(data_dir=data_dir)
        found = asyncio.run(look(settings))
    except BursarError as error:
        say(error, as_json=as_json)
        sys.exit(EXIT_BLIND)
    answer(found, as_json=as_json, text=_text(found))
    sys.exit(0 if found["ok"] else EXIT_DRIFT)


async def look(settings: Settings) -> dict[str, Any]:
    """What `--json` prints. First the database, then the journals: what is journaled in between is lag, never drift."""
    async with look_at_installation(settings) as database, database.snapshot(SYSTEM) as snapshot:
        books = await reports.verify_all(snapshot, _progress)
        now = await snapshot.database_time()
    watermarks = {worker.id: worker.watermark for worker in books.workers}
    journals = await asyncio.to_thread(_journals, settings.data_dir / "journal", watermarks)
    return described(books, journals, now)


def described(books: Verification, journals: Mapping[str, JournalState], now: datetime) -> dict[str, Any]:
    """Plain JSON; money in nanos, exactly. `lag_records` is None for a worker whose journal is not on this machine."""
    opened = [state.oldest_open_at for state in journals.values()] + [books.oldest_hold_at]
    found = reports.told(books)
    found["holds"] = {
        "open": books.open_holds + sum(state.open for state in journals.values()),
        "held": books.held + sum(state.held or 0 for state in journals.values()),
        "oldest_seconds": _seconds(min((at for at in opened if at is not None), default=None), now),
    }
    for each in found["workers"]:
        state = journals.get(each["worker"])
        each["lag_records"] = None if state is None else state.lag
        each["lag_seconds"] = None if state is None else _seconds(state.lag_since, now) or 0
    return found


def _seconds(since: datetime | None, now: datetime) -> int | None:
    return None if since is None else max(0, int((now - since).total_seconds()))


def _journals(root: Path, watermarks: Mapping[WorkerId, int]) -> dict[str, JournalState]:
    found = {}
    for folder in journal_folders(root):
        with JournalView.open(folder) as view:
            worker = view.worker
            if worker is not None:
                found[worker] = look_at_journal(view, watermarks.get(WorkerId(worker), 0))
    return found


def _progress(what: str, done: int, of: int) -> None:
    if sys.stderr.isatty():
        end = "\r" if done < of else "\r\033[K"
        print(f"{what}: {done:,} of {of:,}", end=end, file=sys.stderr, flush=True)


def _text(found: dict[str, Any]) -> str:
    usd, holds = found["sums"]["USD"], found["holds"]
    lines = [f"The books are right: drift 0 over {found['transfers']:,} transfers in {found['accounts']:,} accounts."]
    if not found["ok"]:
        lines = [f"DRIFT: {found['drift']} nanos, {found['difference_count']} differences."]
        lines += [f"  {each['law']}: {each['subject']}: {each['message']}" for each in found["differences"]]
    lines += [f"  USD {account}: {format_exact(amount)}" for account, amount in usd.items()]
    lines.append(f"  the house's loss: {format_exact(found['house_loss'])}")
    oldest = "" if holds["oldest_seconds"] is None else f", the oldest since {holds['oldest_seconds']} s"
    lines.append(f"  {holds['open']} open holds of {format_exact(holds['held'])}{oldest}; {found['leases']} leases")
    for each in found["workers"]:
        lag = "its journal is on another machine"
        if each["lag_records"] is not None:
            lag = f"{each['lag_records']} settlements behind ({each['lag_seconds']} s)"
        lines.append(f"  {each['worker']}: applied to record {each['watermark']}, {lag}; chain {each['chain']}")
    return "\n".join(lines)


def export(
    *, data_dir: Path | None, format_: str, owner: str | None, since: str | None, until: str | None, output: Path | None
) -> None:
    """Raises `InvalidOption` and what `look_at_installation` raises. An output file is written beside, and then put in its place."""
    if not _is_format(format_):
        raise InvalidOption(f"There is no format {format_}.", remedy=f"Use {' or '.join(FORMATS)}.")
    wanted = ExportRange(
        None if owner is None else OwnerId(owner), _midnight(since, "--from"), _midnight(until, "--to")
    )
    settings = read_settings(data_dir=data_dir)
    if output is None:
        asyncio.run(_export(settings, wanted, format_, sys.stdout))
        return
    half = output.with_name(f".{output.name}.part")
    try:
        with half.open("w", encoding="utf-8") as file:
            asyncio.run(_export(settings, wanted, format_, file))
        half.replace(output)
    except OSError as error:
        raise InvalidOption(
            f"{output} cannot be written: {(error.strerror or 'unknown').lower()}.", remedy="Name another file."
        ) from None
    finally:
        half.unlink(missing_ok=True)


async def _export(settings: Settings, wanted: ExportRange, format_: ExportFormat, file: TextIO) -> None:
    async with look_at_installation(settings) as database, database.snapshot(SYSTEM) as snapshot:
        if wanted.owner is not None:
            wanted = replace(wanted, owner=await reports.find_owner(snapshot, wanted.owner))
        async for piece in reports.export_journal(snapshot, wanted, format_):
            file.write(piece)


def _is_format(text: str) -> TypeGuard[ExportFormat]:
    return text in FORMATS


def _midnight(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidOption(f"{option} {text} is not a day.", remedy="Write it like 2026-11-24 (UTC).") from None
