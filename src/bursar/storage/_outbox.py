"""The outbox: side effects that were committed with their cause and leave afterwards, at least once."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from bursar.kernel.ids import MessageId
from bursar.storage import tables
from bursar.storage._database import SYSTEM, Database, Tx
from bursar.storage._sealing import CannotUnseal

ATTEMPTS_MAX = 12
RETRY_FIRST = timedelta(seconds=10)
RETRY_LONGEST = timedelta(hours=1)
SENDING_LONGEST = timedelta(minutes=2)
"""A message taken and never reported on (the process died) is offered again after this."""

_table = tables.outbox
_log = logging.getLogger("bursar.outbox")


@dataclass(frozen=True)
class OutboxMessage:
    """`payload` is empty once the message was stripped. States: waiting, sending, kept (shown to the operator), done, failed."""

    id: MessageId
    topic: str
    payload: dict[str, Any]
    summary: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    attempts: int


async def take(database: Database, limit: int = 20) -> Sequence[OutboxMessage]:
    """Takes messages that are due, for this caller alone."""
    now = database.clock.now()
    async with database.begin(SYSTEM) as tx:
        due = (
            select(_table.c.id)
            .where(_table.c.state.in_(("waiting", "sending")), _table.c.next_attempt_at <= now)
            .order_by(_table.c.next_attempt_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = [row.id for row in await tx.all(due)]
        if not found:
            return []
        rows = await tx.returning(
            update(_table)
            .where(_table.c.id.in_(found))
            .values(state="sending", attempts=_table.c.attempts + 1, next_attempt_at=now + SENDING_LONGEST)
            .returning(*_table.c)
        )
    return _opened(database, rows)


async def list_kept(database: Database, limit: int = 100) -> Sequence[OutboxMessage]:
    """What only exists on the operator's page because no mailer could deliver it; newest first."""
    async with database.snapshot(SYSTEM) as snapshot:
        rows = await snapshot.all(
            select(_table)
            .where(_table.c.state == "kept", _table.c.sealed.is_not(None), _table.c.expires_at > database.clock.now())
            .order_by(_table.c.id.desc())
            .limit(limit)
        )
    return _opened(database, rows)


async def mark_delivered(database: Database, message: MessageId) -> None:
    """It left: only the summary stays."""
    await _set(database, message, state="done", sealed=None, done_at=database.clock.now(), last_error=None)


async def mark_kept(database: Database, message: MessageId) -> None:
    """It could only be printed: it stays sealed for the operator's page until its link is used or too old."""
    await _set(database, message, state="kept", done_at=database.clock.now(), last_error=None)


async def mark_failed(database: Database, message: OutboxMessage, error: str) -> None:
    """Tries again later, at doubling distances; after `ATTEMPTS_MAX` it is kept for the operator instead."""
    if message.attempts >= ATTEMPTS_MAX:
        await _set(database, message.id, state="kept", last_error=error)
        return
    wait = min(RETRY_FIRST * 2 ** (message.attempts - 1), RETRY_LONGEST)
    await _set(database, message.id, state="waiting", next_attempt_at=database.clock.now() + wait, last_error=error)


async def strip(tx: Tx, reference: str) -> None:
    """Empties every message that depends on `reference`: its link was used or replaced."""
    await tx.execute(
        update(_table)
        .where(_table.c.reference == reference, _table.c.sealed.is_not(None))
        .values(state="done", sealed=None, done_at=tx.now)
    )


async def strip_expired(database: Database) -> int:
    """Empties what nobody fetched in time; returns how many."""
    now = database.clock.now()
    async with database.begin(SYSTEM) as tx:
        return await tx.execute(
            update(_table)
            .where(_table.c.expires_at <= now, _table.c.sealed.is_not(None))
            .values(state="done", sealed=None, done_at=now)
        )


async def _set(database: Database, message: MessageId, **values: Any) -> None:
    async with database.begin(SYSTEM) as tx:
        await tx.execute(update(_table).where(_table.c.id == message).values(**values))


def _opened(database: Database, rows: Iterable[Any]) -> Sequence[OutboxMessage]:
    """Those that open: one altered row must not keep the others."""
    opened = []
    for row in rows:
        try:
            payload = json.loads(database.sealer.unseal(row.id, row.sealed)) if row.sealed is not None else {}
        except CannotUnseal as error:
            _log.error("the outbox: %s", error.sentence)
            continue
        summary = json.loads(row.summary)
        opened.append(
            OutboxMessage(MessageId(row.id), row.topic, payload, summary, row.created_at, row.expires_at, row.attempts)
        )
    return opened
