"""Who belongs to an organization, in which role, and since when. Whoever changes it holds the organization's lock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Update, select, update

from bursar.access import Role
from bursar.kernel.errors import Conflict, InvalidField, NotFound
from bursar.kernel.ids import OrganizationId, UserId
from bursar.organizations import tables
from bursar.organizations._seats import NoSuchOrganization, lock, require_free_seat, require_held_seat
from bursar.storage import Snapshot, Tx

_memberships = tables.memberships
_current = _memberships.c.ended_at.is_(None)


@dataclass(frozen=True)
class Member:
    user: UserId
    role: Role
    since: datetime


class AlreadyMember(Conflict):
    """The user is a member already."""


class NoSuchMember(NotFound):
    """Nobody of this id belongs to the organization."""


class LastAdminStays(Conflict):
    """An organization always has an admin."""


def require_role(role: str) -> Role:
    """One that an organization has. Raises `InvalidField`."""
    if role not in (Role.ADMIN, Role.MEMBER):
        raise InvalidField("role", "A role is admin or member.")
    return Role(role)


async def add_member(tx: Tx, organization: OrganizationId, user: UserId, role: Role, *, has_seat: bool = False) -> None:
    """Takes a seat, or (`has_seat`) the one that the person's invitation held until just now.

    Raises `OrganizationFull`, `AlreadyMember`, `NoSuchOrganization`; two at once for the last seat: one joins.
    """
    if not await lock(tx, organization):
        raise NoSuchOrganization("There is no such organization.", organization=organization)
    if await find_role(tx, organization, user) is not None:
        raise AlreadyMember("This person is already a member.", user=user)
    await (require_held_seat if has_seat else require_free_seat)(tx, organization)
    await tx.execute(
        _memberships.insert().values(organization_id=organization, user_id=user, role=role.value, since=tx.now)
    )
    await tx.announce("membership", user)


async def change_role(tx: Tx, organization: OrganizationId, user: UserId, role: Role) -> Role:
    """The role the person had. Raises `NoSuchMember`; `LastAdminStays` for the only admin."""
    member = await get_member(tx, organization, user)
    if member.role is role:
        return role
    if member.role is Role.ADMIN:
        await _require_another_admin(tx, organization, user)
    await tx.execute(_row_of(organization, user).values(role=role.value))
    await tx.announce("membership", user)
    return member.role


async def end_membership(tx: Tx, organization: OrganizationId, user: UserId) -> Member:
    """What they were. The row stays, with its end. Raises `NoSuchMember`; `LastAdminStays` for the only admin."""
    member = await get_member(tx, organization, user)
    if member.role is Role.ADMIN:
        await _require_another_admin(tx, organization, user)
    await tx.execute(_row_of(organization, user).values(ended_at=tx.now))
    await tx.announce("membership", user)
    return member


async def find_role(snapshot: Snapshot, organization: OrganizationId, user: UserId) -> Role | None:
    """The person's present role there, or None for somebody who is not (or no longer) a member."""
    role = await snapshot.scalar(
        select(_memberships.c.role).where(
            _memberships.c.organization_id == organization, _memberships.c.user_id == user, _current
        )
    )
    return None if role is None else Role(role)


async def get_member(snapshot: Snapshot, organization: OrganizationId, user: UserId) -> Member:
    """Raises `NoSuchMember`."""
    row = await snapshot.first(
        select(_memberships).where(
            _memberships.c.organization_id == organization, _memberships.c.user_id == user, _current
        )
    )
    if row is None:
        raise NoSuchMember("There is no such member here.", remedy="Go back to the list of members.")
    return Member(UserId(row.user_id), Role(row.role), row.since)


async def list_members(snapshot: Snapshot, organization: OrganizationId) -> Sequence[Member]:
    """Every current member, longest first. A cap on seats is never a limit of this query."""
    rows = await snapshot.all(
        select(_memberships)
        .where(_memberships.c.organization_id == organization, _current)
        .order_by(_memberships.c.since, _memberships.c.user_id)
    )
    return [Member(UserId(row.user_id), Role(row.role), row.since) for row in rows]


async def _require_another_admin(snapshot: Snapshot, organization: OrganizationId, user: UserId) -> None:
    others = [member for member in await list_members(snapshot, organization) if member.user != user]
    if any(member.role is Role.ADMIN for member in others):
        return
    if not others:
        raise LastAdminStays(
            "This is the organization's last member, so it would have nobody.",
            remedy="Delete the organization instead.",
        )
    raise LastAdminStays(
        "This is the organization's only admin, and an organization always has one.",
        remedy="Make another member an admin first.",
    )


def _row_of(organization: OrganizationId, user: UserId) -> Update:
    return update(_memberships).where(
        _memberships.c.organization_id == organization, _memberships.c.user_id == user, _current
    )
