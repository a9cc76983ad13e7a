import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, Select, and_, or_, select

from bursar.access import Actor, ActorKind
from bursar.audit import tables
from bursar.kernel.ids import (
    SYSTEM_OWNER,
    EventId,
    KeyId,
    OwnerId,
    UserId,
    event_floor,
    event_id_after,
    is_id,
    new_event_id,
)
from bursar.kernel.paging import PAGE_ITEMS_DEFAULT, Cursor, Page, page_of
from bursar.storage import Snapshot, Tx

_events = tables.audit_events

_last: WeakKeyDictionary[Tx, EventId] = WeakKeyDictionary()
"""The last event of each transaction that is open: those of one transaction sort as they were recorded."""

Detail = str | int | bool | None
ACTORS_MAX = 200
REDACTED = "[redacted]"

_LOOKS_SECRET = re.compile(r"(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*[0-9])[\w-]{43,}", re.ASCII)
"""256 random bits as our keys and links write them; ids have neither the length nor the capitals."""


@dataclass(frozen=True)
class Change:
    """One detail, before and after."""

    before: Detail
    after: Detail

    @property
    def is_one(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True)
class AuditEvent:
    """`owner` is the context: a person's account, an organization, or the installation. `details` may hold `Change`s."""

    owner: OwnerId
    id: EventId
    at: datetime
    action: str
    subject: str
    actor: Actor
    details: Mapping[str, Detail | Change]


class Kind(StrEnum):
    """What an event is about. An action's first word says to which kind it belongs."""

    KEYS = "keys"
    LIMITS = "limits"
    MEMBERS = "members"
    ORGANIZATION = "organization"
    CREDITS = "credits"
    ACCOUNT = "account"


WORDS: Mapping[Kind, Sequence[str]] = {
    Kind.KEYS: ("key",),
    Kind.LIMITS: ("limit",),
    Kind.MEMBERS: ("member", "invitation"),
    Kind.ORGANIZATION: ("organization",),
    Kind.CREDITS: ("purchase", "credits", "correction", "node"),
    Kind.ACCOUNT: ("user", "session", "operator"),
}


@dataclass(frozen=True)
class EventFilter:
    """None: whatever. `actor` is a person's or a key's id, `"operator"` or `"system"`; `since` ≤ time < `until`."""

    kind: Kind | None = None
    action: str | None = None
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def record(tx: Tx, actor: Actor, owner: OwnerId, action: str, subject: str, **details: Detail | Change) -> None:
    """In the transaction that changes something. `action` is noun and verb ("key.created"), `subject` an id, `details` what it was
    about, with a `Change` where something was different before. What looks like one of our secrets is left out."""
    last = _last.get(tx)
    event = _last[tx] = new_event_id(tx.now) if last is None else event_id_after(last, tx.now)
    await tx.execute(
        _events.insert().values(
            owner_id=owner,
            id=event,
            at=tx.now,
            action=action,
            subject=subject,
            actor_kind=actor.kind.value,
            actor_user_id=actor.user,
            actor_key_id=actor.key,
            address=actor.address,
            details=json.dumps({name: _written(value) for name, value in details.items()}),
        )
    )


async def list_events(snapshot: Snapshot, owner: OwnerId, limit: int = 100) -> Sequence[AuditEvent]:
    """Newest first."""
    return (await page_events(snapshot, owner, EventFilter(), None, limit)).items


async def page_events(
    snapshot: Snapshot,
    owner: OwnerId | None,
    wanted: EventFilter,
    cursor: Cursor | None,
    size: int = PAGE_ITEMS_DEFAULT,
) -> Page[AuditEvent]:
    """One page, newest first. `owner` None: the installation's own, and what its operator and itself did anywhere."""
    query = _matching(select(_events), owner, wanted)
    if cursor is not None and cursor.direction == "newer":
        query = query.where(_events.c.id > cursor.id).order_by(_events.c.id)
    else:
        if cursor is not None:
            query = query.where(_events.c.id < cursor.id)
        query = query.order_by(_events.c.id.desc())
    rows = [_event(row) for row in await snapshot.all(query.limit(size + 1))]
    return page_of(rows, size, cursor, lambda row: row.id)


async def find_event(snapshot: Snapshot, owner: OwnerId, event: str) -> AuditEvent | None:
    """None also for another owner's."""
    row = await snapshot.first(select(_events).where(_events.c.owner_id == owner, _events.c.id == event))
    return None if row is None else _event(row)


async def list_actors(snapshot: Snapshot, owner: OwnerId | None) -> Sequence[Actor]:
    """Everybody who ever did something there, at most `ACTORS_MAX`, without their addresses."""
    columns = (_events.c.actor_kind, _events.c.actor_user_id, _events.c.actor_key_id)
    query = _matching(select(*columns), owner, EventFilter()).distinct().order_by(*columns).limit(ACTORS_MAX)
    return [_actor(row, None) for row in await snapshot.all(query)]


def _matching(query: Select[Any], owner: OwnerId | None, wanted: EventFilter) -> Select[Any]:
    if owner is not None:
        query = query.where(_events.c.owner_id == owner)
    else:
        installations = (ActorKind.OPERATOR.value, ActorKind.SYSTEM.value)
        query = query.where(or_(_events.c.owner_id == SYSTEM_OWNER, _events.c.actor_kind.in_(installations)))
    if wanted.kind is not None:
        query = query.where(or_(*(_begins(word) for word in WORDS[wanted.kind])))
    if wanted.action is not None:
        query = query.where(_events.c.action == wanted.action)
    if wanted.actor is not None:
        query = query.where(_by(wanted.actor))
    if wanted.since is not None:
        query = query.where(_events.c.id >= event_floor(wanted.since))
    if wanted.until is not None:
        query = query.where(_events.c.id < event_floor(wanted.until))
    return query


def _begins(word: str) -> ColumnElement[bool]:
    return and_(_events.c.action >= f"{word}.", _events.c.action < f"{word}/")  # "/" is what follows "."


def _by(actor: str) -> ColumnElement[bool]:
    if is_id(actor, "key"):
        return _events.c.actor_key_id == actor
    if actor in set(ActorKind):
        return _events.c.actor_kind == actor
    return _events.c.actor_user_id == actor


def _written(value: Detail | Change) -> Any:
    if isinstance(value, Change):
        return {"before": _written(value.before), "after": _written(value.after)}
    return _LOOKS_SECRET.sub(REDACTED, value) if isinstance(value, str) else value


def _read(value: Any) -> Detail | Change:
    if isinstance(value, dict):
        return Change(value["before"], value["after"])
    assert value is None or isinstance(value, str | int)
    return value


async def addresses_of(snapshot: Snapshot, user: UserId, owners: Collection[OwnerId], since: datetime) -> set[str]:
    """From where a person acted since then, as far as the events of these owners tell."""
    rows = await snapshot.all(
        select(_events.c.address)
        .where(
            _events.c.owner_id.in_(owners),
            _events.c.id >= event_floor(since),
            _events.c.actor_user_id == user,
            _events.c.actor_kind == ActorKind.USER.value,
            _events.c.address.is_not(None),
        )
        .distinct()
    )
    return {row.address for row in rows}


def _event(row: Any) -> AuditEvent:
    details = {name: _read(value) for name, value in json.loads(row.details).items()}
    return AuditEvent(
        OwnerId(row.owner_id),
        EventId(row.id),
        row.at,
        row.action,
        row.subject,
        _actor(row, row.address),
        details,
    )


def _actor(row: Any, address: str | None) -> Actor:
    return Actor(
        ActorKind(row.actor_kind),
        user=None if row.actor_user_id is None else UserId(row.actor_user_id),
        key=None if row.actor_key_id is None else KeyId(row.actor_key_id),
        address=address,
    )
