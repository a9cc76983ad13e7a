import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from bursar.access import Actor, ActorKind
from bursar.audit import tables
from bursar.kernel.ids import EventId, KeyId, OwnerId, UserId, new_event_id
from bursar.storage import Snapshot, Tx

_events = tables.audit_events


@dataclass(frozen=True)
class AuditEvent:
    owner: OwnerId
    id: EventId
    at: datetime
    action: str
    subject: str
    actor: Actor
    details: Mapping[str, Any]


async def record(
    tx: Tx, actor: Actor, owner: OwnerId, action: str, subject: str, **details: str | int | bool | None
) -> None:
    """`action` is verb and noun ("key.created"), `subject` an id, `details` what changed, never a secret."""
    await tx.execute(
        _events.insert().values(
            owner_id=owner,
            id=new_event_id(tx.now),
            at=tx.now,
            action=action,
            subject=subject,
            actor_kind=actor.kind.value,
            actor_user_id=actor.user,
            actor_key_id=actor.key,
            address=actor.address,
            details=json.dumps(details),
        )
    )


async def list_events(snapshot: Snapshot, owner: OwnerId, limit: int = 100) -> Sequence[AuditEvent]:
    """Newest first."""
    rows = await snapshot.all(
        select(_events).where(_events.c.owner_id == owner).order_by(_events.c.id.desc()).limit(limit)
    )
    return [_event(row) for row in rows]


def _event(row: Any) -> AuditEvent:
    actor = Actor(
        ActorKind(row.actor_kind),
        user=None if row.actor_user_id is None else UserId(row.actor_user_id),
        key=None if row.actor_key_id is None else KeyId(row.actor_key_id),
        address=row.address,
    )
    return AuditEvent(
        OwnerId(row.owner_id), EventId(row.id), row.at, row.action, row.subject, actor, json.loads(row.details)
    )
