"""Seats: one rule for everybody who takes one.

A member holds a seat, and so does an invitation that waits (pending and not expired). Who joins by an invitation takes over the
seat it holds; everybody else needs a free one. Whoever changes members or invitations locks the organization first, so that of
many at once for the last seat exactly one gets it.
"""

from dataclasses import dataclass

from sqlalchemy import func, select

from bursar.kernel.errors import Conflict, NotFound
from bursar.kernel.ids import OrganizationId
from bursar.organizations import tables
from bursar.storage import Snapshot, Tx

_organizations = tables.organizations
_memberships = tables.memberships
_invitations = tables.invitations


class NoSuchOrganization(NotFound):
    """No organization has this id or slug, or it is not yours to know."""


class OrganizationFull(Conflict):
    """Every seat is taken."""


@dataclass(frozen=True)
class Seats:
    """`members` and `pending` (invitations that wait) of at most `maximum`; the operator may have lowered that below what is taken."""

    members: int
    pending: int
    maximum: int

    @property
    def taken(self) -> int:
        return self.members + self.pending

    @property
    def free(self) -> int:
        return max(0, self.maximum - self.taken)


async def lock(tx: Tx, organization: OrganizationId) -> bool:
    """Keeps everybody else from changing its members and invitations until this transaction ends; whether there is such an organization.

    What is to be decided on must be read after this, not before.
    """
    found = await tx.scalar(
        select(_organizations.c.id)
        .where(_organizations.c.id == organization, _organizations.c.deleted_at.is_(None))
        .with_for_update()
    )
    return found is not None


async def count_seats(snapshot: Snapshot, organization: OrganizationId) -> Seats:
    """Raises `NoSuchOrganization`."""
    maximum = await snapshot.scalar(select(_organizations.c.seats_max).where(_organizations.c.id == organization))
    if maximum is None:
        raise NoSuchOrganization("There is no such organization.", organization=organization)
    members = await snapshot.scalar(
        select(func.count())
        .select_from(_memberships)
        .where(_memberships.c.organization_id == organization, _memberships.c.ended_at.is_(None))
    )
    pending = await snapshot.scalar(
        select(func.count())
        .select_from(_invitations)
        .where(
            _invitations.c.organization_id == organization,
            _invitations.c.state == "pending",
            _invitations.c.expires_at > snapshot.now,
        )
    )
    return Seats(int(members), int(pending), int(maximum))


async def require_free_seat(snapshot: Snapshot, organization: OrganizationId) -> None:
    """For an invitation, and for a member who has none. Raises `OrganizationFull`."""
    seats = await count_seats(snapshot, organization)
    if not seats.free:
        raise _full(seats)


async def require_held_seat(snapshot: Snapshot, organization: OrganizationId) -> None:
    """For who joins by an invitation: others that wait do not keep them out. Raises `OrganizationFull` where the cap was lowered
    meanwhile: then the first who accept get what is left."""
    seats = await count_seats(snapshot, organization)
    if seats.members >= seats.maximum:
        raise _full(seats)


def _full(seats: Seats) -> OrganizationFull:
    waiting = f", {seats.pending} of them by invitations that wait" if seats.pending else ""
    return OrganizationFull(
        f"All {seats.maximum} seats are taken{waiting}.",
        remedy="The operator can raise the cap, or an admin can remove a member or revoke an invitation.",
    )
