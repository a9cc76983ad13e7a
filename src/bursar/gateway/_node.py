"""The workers of a node, and what each has on disk: a folder of its journal, named like the worker.

A worker is named after its node and its seat, so that the next process on that seat finds the journal: `node_…-0` in the folder `0`.
When a journal is lost for good, the operator has the worker forgotten; who sits there next is a new worker, `node_…-0.2`: the old
one's records were counted, and their numbers must not be given out twice.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bursar import ledger
from bursar.gateway._counts import Counts
from bursar.gateway._funds import DatabaseFunds
from bursar.gateway._journaled import JournalFunds
from bursar.gateway._leases import Leases
from bursar.journal import Journal, JournalCorrupt, RecordsMissing, move_journal
from bursar.kernel.errors import BursarError
from bursar.kernel.ids import WorkerId
from bursar.storage import SYSTEM, Database

_log = logging.getLogger("bursar.funds")


@dataclass(frozen=True)
class Seat:
    """Which of a node's workers a process is: 0 to `count` - 1."""

    index: int = 0
    count: int = 1


class Node:
    """The journals below one folder of one data directory."""

    def __init__(self, database: Database, folder: Path, *, host: str, on_failure: Callable[[], None]) -> None:
        """`on_failure` as `Journal.open` takes it."""
        self._database = database
        self._folder = folder
        self._host = host
        self._on_failure = on_failure

    async def funds(
        self, seat: Seat, durability: Literal["journal", "database"], counts: Counts | None = None
    ) -> "JournalFunds | DatabaseFunds":
        """Of the worker on this seat, not recovered yet. Raises what `Journal.open` raises."""
        if durability == "database":
            return DatabaseFunds(self._database, self._worker(str(seat.index)), seat=seat.index, host=self._host)
        return await self._open(seat.index, counts)

    async def recover_left(self, count: int) -> int:
        """Brings into the database what workers left in their journals who have no seat any more, and gives their leases back;
        returns how many requests had been interrupted. What cannot be read is left, and told to the operator."""
        interrupted = 0
        for index in sorted(self._seats_on_disk()):
            if index < count:
                continue
            try:
                funds = await self._open(index)
                try:
                    interrupted += await funds.recover()
                finally:
                    await funds.close()
            except BursarError as error:
                _log.error(
                    "the journal of worker %s, which has no seat any more, was not brought into the database: %s %s",
                    self._worker(self._newest(index)),
                    error.sentence,
                    error.remedy or "",
                )
        return interrupted

    async def _open(self, index: int, counts: Counts | None = None) -> JournalFunds:
        if index == 0:  # before there were several workers, the journal of the only one lay in the folder itself
            move_journal(self._folder, self._folder / "0")
        name = self._newest(index)
        while True:
            worker = self._worker(name)
            async with self._database.snapshot(SYSTEM) as snapshot:
                found = await ledger.find_worker(snapshot, worker)
            try:
                journal = Journal.open(self._folder / name, worker, on_failure=self._on_failure)
                try:
                    journal.replay(0 if found is None else found.watermark)
                except RecordsMissing:
                    await journal.close()
                    raise
            except (JournalCorrupt, RecordsMissing) as error:
                if found is None or found.forgotten_at is None:
                    raise
                _log.warning("worker %s was forgotten and stays so: %s", worker, error.sentence)
                name = _after(name)
                continue
            alone = self._database.dialect == "sqlite"
            leases = Leases(self._database, worker, self._database.clock, alone=alone)
            return JournalFunds(self._database, journal, leases, worker, self._database.clock, counts, host=self._host)

    def _worker(self, name: str) -> WorkerId:
        return WorkerId(f"{self._database.node}-{name}")

    def _seats_on_disk(self) -> dict[int, str]:
        """By seat, the name of the last worker that sat there."""
        newest: dict[int, tuple[int, str]] = {}
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            seat, _, turn = path.name.partition(".")
            if path.is_dir() and seat.isdecimal() and (turn or "1").isdecimal():
                newest[int(seat)] = max(newest.get(int(seat), (0, "")), (int(turn or "1"), path.name))
        return {seat: name for seat, (_, name) in newest.items()}

    def _newest(self, index: int) -> str:
        return self._seats_on_disk().get(index, str(index))


def _after(name: str) -> str:
    seat, _, turn = name.partition(".")
    return f"{seat}.{int(turn or '1') + 1}"
