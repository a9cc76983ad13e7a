"""What the regular check of the books found: kept for pages and metrics, and told to the operators once when it begins to differ."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

from bursar import identity
from bursar.actions._mails import MAIL_TOPIC
from bursar.kernel.money import format_exact
from bursar.mail import books_differ
from bursar.storage import BOOKS_CHECKED, SYSTEM, Database, Tx, forget, keep, remember

DIFFER = "books_differ"
"""The fact that the operators were told of a difference that still is there."""
KEPT = timedelta(days=30)


async def note_check(database: Database, found: str, *, drift: int, differences: Sequence[str]) -> bool:
    """`found` is the check as JSON; `differences` name what differs, none when all is right. Whether that is news: it was otherwise at
    the last check, on whatever node."""
    async with database.begin(SYSTEM) as tx:
        await keep(tx, BOOKS_CHECKED, found)
        if not differences:
            return await forget(tx, DIFFER)
        is_news = await remember(tx, DIFFER, tx.now.isoformat())
        if is_news:
            await _tell_operators(tx, drift, differences)
        return is_news


async def _tell_operators(tx: Tx, drift: int, differences: Sequence[str]) -> None:
    for operator in await identity.list_operators(tx):
        message = books_differ(operator.email, operator.name, format_exact(drift), differences)
        await tx.enqueue(
            MAIL_TOPIC,
            dataclasses.asdict(message),
            summary={"to": message.to, "subject": message.subject},
            keep=KEPT,
            reference=None,
        )
