"""What every worker of a node counted, whichever of them is asked.

Each counts in its own memory and leaves that in a file of its own every few seconds, where the others read it. Nothing is synced: after
a power cut all of them begin at zero anyway. What a worker that is gone left is old soon, and counts no more.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from bursar.gateway._counts import Tally
from bursar.gateway._node import Seat

WRITE_SECONDS = 2
GONE_AFTER = timedelta(seconds=10)
"""A worker that lives has written several times in that."""

_log = logging.getLogger("bursar.tallies")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Tally).decode


class Tallies:
    """`take` counts this worker's now."""

    def __init__(self, folder: Path, seat: Seat, take: Callable[[], Tally]) -> None:
        self._folder = folder
        self._seat = seat
        self._take = take
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._seat.count > 1:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._writing = asyncio.create_task(self._write_forever())

    async def stop(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
            with suppress(OSError):
                self._file(self._seat.index).unlink(missing_ok=True)

    def look(self) -> Mapping[int, Tally]:
        """By the workers' numbers; this one's as it is now, others' at most a few seconds old."""
        found = {self._seat.index: self._take()}
        now = found[self._seat.index].at
        for index in range(self._seat.count):
            if index == self._seat.index:
                continue
            with suppress(OSError, msgspec.MsgspecError):
                tally = _decode(self._file(index).read_bytes())
                if now - tally.at < GONE_AFTER:
                    found[index] = tally
        return found

    def write(self) -> None:
        """For the others: whole, or as it was before."""
        file = self._file(self._seat.index)
        fresh = file.with_suffix(".new")
        fresh.write_bytes(_encode(self._take()))
        fresh.replace(file)

    def _file(self, index: int) -> Path:
        return self._folder / f"{index}.json"

    async def _write_forever(self) -> None:
        while True:
            try:
                self.write()
            except OSError as error:
                _log.warning("what this worker counted was not written for the others: %s", error)
            await asyncio.sleep(WRITE_SECONDS)
