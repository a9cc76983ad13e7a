"""What the regular check of the books found: kept for pages and metrics, and told to the operators once when it begins to differ."""

from collections.abc import Sequence

from bursar import identity
from bursar.actions._mails import notify
from bursar.kernel.money import format_exact
from bursar.mail import books_differ
from bursar.storage import BOOKS_CHECKED, SYSTEM, Database, Tx, forget, keep, remember

DIFFER = "books_differ"
"""The fact that the operators were told of a difference that still is there."""


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
    operators = await identity.list_operators(tx)
    await notify(tx, [books_differ(each.email, each.name, format_exact(drift), differences) for each in operators])
