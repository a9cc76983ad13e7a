"""What one worker tells the database beside its requests, never in front of one: that it has heard of changes, as soon as somebody
asks, and every few seconds from where keys were used."""

import asyncio
import logging
from datetime import datetime

from bursar.gateway._apply import note_heard, note_uses
from bursar.gateway._uses import Uses
from bursar.kernel.errors import BursarError
from bursar.kernel.ids import WorkerId
from bursar.storage import ASKED, Change, Database, from_microseconds

USES_SECONDS = 5

_log = logging.getLogger("bursar.attendant")


class Attendant:
    def __init__(self, database: Database, worker: WorkerId, uses: Uses) -> None:
        self._database = database
        self._worker = worker
        self._uses = uses
        self._up_to: datetime | None = None
        """What was asked for and is not answered yet."""
        self._asked = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        database.changes.subscribe(ASKED, self._on_asked)

    def start(self) -> None:
        self._loops = [asyncio.create_task(self._answer_forever()), asyncio.create_task(self._write_forever())]

    async def stop(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.write_uses()

    async def write_uses(self) -> None:
        """Those since the last time."""
        if not (taken := self._uses.take()):
            return
        try:
            await note_uses(self._database, taken)
        except BursarError as error:
            self._uses.give_back(taken)
            _log.warning("from where keys were used was not written: %s", error.sentence)

    def _on_asked(self, change: Change) -> None:
        # What was committed before it was asked stands in front of the question, and was heard already.
        asked = from_microseconds(int(change.subject))
        self._up_to = asked if self._up_to is None else max(asked, self._up_to)
        self._asked.set()

    async def _answer_forever(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            up_to, self._up_to = self._up_to, None
            assert up_to is not None
            try:
                await note_heard(self._database, self._worker, up_to)
            except BursarError as error:
                _log.warning("who asked was not told that changes were heard: %s", error.sentence)
            except Exception:  # noqa: BLE001 - a loop that ends would have every later revocation unconfirmed
                _log.exception("who asked was not told that changes were heard")

    async def _write_forever(self) -> None:
        while True:
            await asyncio.sleep(USES_SECONDS)
            try:
                await self.write_uses()
            except Exception:  # noqa: BLE001 - as above, for addresses
                _log.exception("from where keys were used was not written")
