from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from bursar.access import Role
from bursar.identity import tables as identity_tables
from bursar.kernel.ids import OrganizationId, UserId
from bursar.organizations import tables as organization_tables
from bursar.storage import Snapshot

_users = identity_tables.users
_memberships = organization_tables.memberships


@dataclass(frozen=True)
class Person:
    id: UserId
    name: str
    email: str


async def admins_of(snapshot: Snapshot, organization: OrganizationId) -> Sequence[Person]:
    """Whom a member asks; longest-serving first."""
    rows = await snapshot.all(
        select(_users.c.id, _users.c.name, _users.c.email)
        .join(_memberships, _memberships.c.user_id == _users.c.id)
        .where(
            _memberships.c.organization_id == organization,
            _memberships.c.role == Role.ADMIN.value,
            _memberships.c.ended_at.is_(None),
        )
        .order_by(_memberships.c.since)
    )
    return [Person(UserId(row.id), row.name, row.email) for row in rows]
