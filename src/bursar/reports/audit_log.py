"""The audit log as people read it: each event with the names of who did it and of what it is about, and in one sentence."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from bursar import audit
from bursar.access import Actor, ActorKind
from bursar.audit import AuditEvent, Change, EventFilter
from bursar.identity import tables as identity_tables
from bursar.kernel.ids import OwnerId, is_id
from bursar.kernel.paging import PAGE_ITEMS_DEFAULT, Cursor, Page
from bursar.keys import tables as key_tables
from bursar.organizations import tables as organization_tables
from bursar.reports.audit_words import field_name, sentence_of, subject_name, text_of
from bursar.storage import Snapshot

_keys = key_tables.keys
_users = identity_tables.users
_organizations = organization_tables.organizations

EXPORT_ROWS_MAX = 100_000
_EXPORT_PAGE = 1_000


@dataclass(frozen=True)
class AuditRow:
    """`actor` in words, `sentence` what they did, `subject` in words, `context` the owner's name.

    `details`: name, value (or what it was before), and what it is after where it changed.
    """

    event: AuditEvent
    actor: str
    sentence: str
    subject: str
    context: str
    details: Sequence[tuple[str, str, str | None]]

    @property
    def at(self) -> datetime:
        return self.event.at


async def audit_log(
    snapshot: Snapshot,
    owner: OwnerId | None,
    wanted: EventFilter,
    cursor: Cursor | None,
    size: int = PAGE_ITEMS_DEFAULT,
) -> Page[AuditRow]:
    """One page, newest first. `owner` None: the installation's own, and what its operator and itself did anywhere."""
    page = await audit.page_events(snapshot, owner, wanted, cursor, size)
    names = await _names(snapshot, page.items)
    return Page([_row(event, names) for event in page.items], page.newer, page.older)


async def audit_export(
    snapshot: Snapshot, owner: OwnerId | None, wanted: EventFilter
) -> AsyncIterator[Sequence[AuditRow]]:
    """The same rows in batches, newest first, at most `EXPORT_ROWS_MAX`."""
    cursor: Cursor | None = None
    for _ in range(EXPORT_ROWS_MAX // _EXPORT_PAGE):
        page = await audit_log(snapshot, owner, wanted, cursor, _EXPORT_PAGE)
        yield page.items
        if page.older is None:
            return
        cursor = Cursor.decode(page.older)


async def audit_actors(snapshot: Snapshot, owner: OwnerId | None) -> Sequence[tuple[str, str]]:
    """Whom one can filter by: what stands for them in an `EventFilter`, and their name; people by name, then keys, then the rest."""
    actors = await audit.list_actors(snapshot, owner)
    people = {str(actor.user): "" for actor in actors if actor.user is not None}
    keys = {str(actor.key): "" for actor in actors if actor.key is not None}
    names = await _named(snapshot, {*people, *keys})
    listed = sorted(((user, names.get(user, "Deleted user")) for user in people), key=lambda each: each[1].lower())
    listed += sorted(((key, f"Key {names.get(key, key)}") for key in keys), key=lambda each: each[1].lower())
    kinds = {actor.kind for actor in actors}
    return [*listed, *((kind.value, name) for kind, name in _KINDS.items() if kind in kinds)]


_KINDS = {ActorKind.OPERATOR: "The operator", ActorKind.SYSTEM: "Bursar"}


async def _names(snapshot: Snapshot, events: Iterable[AuditEvent]) -> dict[str, str]:
    wanted: set[str] = set()
    for event in events:
        wanted |= {event.subject, event.owner}
        wanted |= {text for text in (event.actor.user, event.actor.key) if text is not None}
        for value in event.details.values():
            ends = (value.before, value.after) if isinstance(value, Change) else (value,)
            wanted |= {end for end in ends if isinstance(end, str)}
    return await _named(snapshot, wanted)


async def _named(snapshot: Snapshot, ids: set[str]) -> dict[str, str]:
    """Of people, keys and organizations, by id; deleted ones too."""
    names: dict[str, str] = {}
    for table, prefix in ((_users, "user"), (_keys, "key"), (_organizations, "org")):
        found = [each for each in ids if is_id(each, prefix)]
        if found:
            rows = await snapshot.all(select(table.c.id, table.c.name).where(table.c.id.in_(found)))
            names |= {row.id: row.name for row in rows}
    return names


def _row(event: AuditEvent, names: Mapping[str, str]) -> AuditRow:
    return AuditRow(
        event=event,
        actor=_actor_name(event.actor, names),
        sentence=sentence_of(event, names),
        subject=subject_name(event, names),
        context=names.get(event.owner, event.owner),
        details=[
            (field_name(name), text_of(name, value.before, names), text_of(name, value.after, names))
            if isinstance(value, Change)
            else (field_name(name), text_of(name, value, names), None)
            for name, value in event.details.items()
        ],
    )


def _actor_name(actor: Actor, names: Mapping[str, str]) -> str:
    person = None if actor.user is None else names.get(actor.user, "Deleted user")
    if actor.kind is ActorKind.KEY:
        return f"{person} (key {names.get(str(actor.key), actor.key)})"
    if actor.kind is ActorKind.OPERATOR:
        return "The operator" if person is None else f"{person} (operator)"
    if actor.kind is ActorKind.SYSTEM:
        return "Bursar" if actor.address is None else "Somebody who was not signed in"
    return str(person)
