"""The books are checked by the queries of `bursar ledger verify`: every balance each minute, every single charge as often as that is cheap."""

import logging

from bursar import actions, ledger, reports
from bursar.kernel.errors import BursarError
from bursar.ledger import Findings
from bursar.storage import SYSTEM, Database, Snapshot

CHECK_SECONDS_FIRST = 10
CHECK_SECONDS = 60
SHARE = 20
"""Either part of a check takes at most one part in so many of the time: on large books it runs less often."""
NAMED_MAX = 10

_log = logging.getLogger("bursar.books")


class BooksCheck:
    """`run` once, and it says how many seconds to wait until the next."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._each: Findings | None = None
        self._each_at = database.clock.now()
        self._each_due = 0.0  # monotonic seconds, not money

    async def run(self) -> float:  # seconds, not money
        """Never raises what passes by itself; what it found is kept, told to the operators once, and logged as critical."""
        clock = self._database.clock
        begun = clock.monotonic()
        try:
            async with self._database.snapshot(SYSTEM) as snapshot:
                balances = await ledger.verify(snapshot)
                seconds = clock.monotonic() - begun
                each = await self._look_at_each(snapshot)
            books = reports.together(balances, each)
            named = [each.line for each in books.differences[:NAMED_MAX]]
            found = reports.encode_check(books, clock.now(), self._each_at, clock.monotonic() - begun)
            is_news = await actions.note_check(self._database, found, drift=books.drift, differences=named)
        except BursarError as error:
            _log.warning("the books could not be checked: %s", error.sentence)
            return CHECK_SECONDS
        if is_news and named:
            _log.critical("THE BOOKS DO NOT ADD UP: drift %d nanos; %s", books.drift, "; ".join(named))
        elif is_news:
            _log.warning("the books are right again")
        return max(CHECK_SECONDS, SHARE * seconds)

    async def _look_at_each(self, snapshot: Snapshot) -> Findings:
        """What was found last, where it is not time to look again."""
        clock = self._database.clock
        begun = clock.monotonic()
        if self._each is None or begun >= self._each_due:
            self._each = await reports.verify_each(snapshot)
            self._each_at, ended = clock.now(), clock.monotonic()
            self._each_due = ended + SHARE * (ended - begun)
        return self._each
