"""The books are checked every minute, by the queries of `bursar ledger verify`."""

import logging

from bursar import actions, reports
from bursar.kernel.errors import BursarError
from bursar.storage import SYSTEM, Database

CHECK_SECONDS_FIRST = 10
CHECK_SECONDS = 60
SHARE = 20
"""A check takes at most one part in so many of the time: on large books it runs less often."""
NAMED_MAX = 10

_log = logging.getLogger("bursar.books")


class BooksCheck:
    """`run` once, and it says how many seconds to wait until the next."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> float:  # seconds, not money
        """Never raises what passes by itself; what it found is kept, told to the operators once, and logged as critical."""
        clock = self._database.clock
        begun = clock.monotonic()
        try:
            async with self._database.snapshot(SYSTEM) as snapshot:
                books = await reports.verify_all(snapshot)
            seconds = clock.monotonic() - begun
            named = [each.line for each in books.differences[:NAMED_MAX]]
            found = reports.encode_check(books, clock.now(), seconds)
            is_news = await actions.note_check(self._database, found, drift=books.drift, differences=named)
        except BursarError as error:
            _log.warning("the books could not be checked: %s", error.sentence)
            return CHECK_SECONDS
        if is_news and named:
            _log.critical("THE BOOKS DO NOT ADD UP: drift %d nanos; %s", books.drift, "; ".join(named))
        elif is_news:
            _log.warning("the books are right again")
        return max(CHECK_SECONDS, SHARE * seconds)
