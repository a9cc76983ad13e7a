"""The outbox loop and the timetable, run by one process at a time of all on a database: whoever holds the name `jobs` there.

Should two think for a moment that they do, no harm is done: the outbox hands each message to one of them, the others only delete
what is old.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from bursar.actions import forget_ended
from bursar.jobs._books import CHECK_SECONDS, CHECK_SECONDS_FIRST, BooksCheck
from bursar.kernel.clock import wait_at_most
from bursar.kernel.errors import BursarError
from bursar.mail import Mailer, Message
from bursar.storage import (
    ENQUEUED,
    Database,
    OutboxMessage,
    follow,
    forget_old_changes,
    forget_old_repeats,
    hold,
    let_go,
    mark_delivered,
    mark_failed,
    mark_kept,
    strip_expired,
    take,
)

OUTBOX_SECONDS = 5
"""How long the outbox loop sleeps unless something was put in."""
TIDY_SECONDS = 300
HOLDER = "jobs"
HOLD_SECONDS = 5
"""How often whoever runs the jobs says so, and the others ask whether they should."""
HOLD_KEPT = timedelta(seconds=15)
"""A holder not heard of for so long is replaced."""

_log = logging.getLogger("bursar.jobs")


class Jobs:
    def __init__(self, database: Database, mailer: Mailer) -> None:
        self._database = database
        self._mailer = mailer
        self._books = BooksCheck(database)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_holder = asyncio.Event()
        database.changes.subscribe(ENQUEUED, lambda _change: self._wake.set())

    def start(self) -> None:
        self._tasks = [asyncio.create_task(work()) for work in (self._hold, self._outbox, self._tidy, self._check)]
        if self._database.dialect == "postgresql":
            self._tasks.append(asyncio.create_task(follow(self._database)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._is_holder.is_set():
            with suppress(BursarError):  # the database is away: the others take over when the time is up
                await let_go(self._database, HOLDER)

    @property
    def is_holder(self) -> bool:
        return self._is_holder.is_set()

    async def send_due(self) -> int:
        """Sends what is due now; returns how many messages were taken."""
        messages = await take(self._database)
        for message in messages:
            await self._send(message)
        return len(messages)

    async def _send(self, message: OutboxMessage) -> None:
        if not message.payload:  # stripped while it waited: its link was spent or replaced
            await mark_delivered(self._database, message.id)
            return
        try:
            await self._mailer.send(Message(**message.payload))
        except BursarError as error:
            _log.warning("mail %s was not sent: %s", message.id, error.sentence)
            await mark_failed(self._database, message, error.sentence)
            return
        except Exception as error:  # noqa: BLE001 - one message must not keep the others; its text may quote the mail
            _log.error("mail %s was not sent: %s", message.id, type(error).__name__)
            await mark_failed(self._database, message, f"It could not be sent: {type(error).__name__}.")
            return
        if self._mailer.delivers:
            await mark_delivered(self._database, message.id)
        else:
            await mark_kept(self._database, message.id)

    async def _hold(self) -> None:
        while True:
            try:
                holds = await hold(self._database, HOLDER, keep=HOLD_KEPT)
            except BursarError as error:
                _log.warning("it is not known who runs the jobs: %s", error.sentence)
                holds = False
            except Exception:  # noqa: BLE001 - a loop that ends would stop every job without a word
                _log.exception("it is not known who runs the jobs")
                holds = False
            if holds:
                self._is_holder.set()
            else:
                self._is_holder.clear()
            await asyncio.sleep(HOLD_SECONDS)

    async def _outbox(self) -> None:
        while True:
            await self._is_holder.wait()
            self._wake.clear()
            try:
                if await self.send_due():
                    continue
            except BursarError as error:
                _log.warning("the outbox waits: %s", error.sentence)
            except Exception:  # noqa: BLE001 - a loop that ends would stop all mail without a word
                _log.exception("the outbox failed")
            await wait_at_most(self._wake, OUTBOX_SECONDS)

    async def _check(self) -> None:
        wait: float = CHECK_SECONDS_FIRST  # seconds, not money
        while True:
            await asyncio.sleep(wait)
            await self._is_holder.wait()
            try:
                wait = await self._books.run()
            except Exception:  # noqa: BLE001 - as above
                _log.exception("checking the books failed")
                wait = CHECK_SECONDS

    async def _tidy(self) -> None:
        while True:
            await self._is_holder.wait()
            try:
                await strip_expired(self._database)
                await forget_old_changes(self._database)
                await forget_old_repeats(self._database)
                await forget_ended(self._database)
            except BursarError as error:
                _log.warning("tidying waits: %s", error.sentence)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("tidying failed")
            await asyncio.sleep(TIDY_SECONDS)
