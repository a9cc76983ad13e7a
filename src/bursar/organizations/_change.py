"""What becomes of an organization: other names, other seats, its end. Whoever does any of it locks its row first, and whoever adds
something to it that must not outlive it keeps the row as it is meanwhile."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import OrganizationId, UserId
from bursar.organizations import tables
from bursar.organizations._rules import SEATS_MAX, require_organization_name, require_slug
from bursar.organizations._seats import NoSuchOrganization, count_seats
from bursar.organizations._store import Organization, SlugTaken, organization_of
from bursar.storage import Snapshot, Tx

_organizations = tables.organizations
_memberships = tables.memberships
_invitations = tables.invitations


class SeatsTaken(InvalidField):
    """Fewer seats than are in use."""


async def get_locked(tx: Tx, organization: OrganizationId) -> Organization:
    """The organization, which nobody else changes until the transaction ends. Raises `NoSuchOrganization`."""
    return await _locked(tx, organization, shared=False)


async def keep(tx: Tx, organization: OrganizationId) -> Organization:
    """The organization, which is not deleted before the transaction ends; many may keep it at once. Raises `NoSuchOrganization`."""
    return await _locked(tx, organization, shared=True)


async def update_organization(
    tx: Tx,
    found: Organization,
    *,
    name: str | None = None,
    slug: str | None = None,
    billing_email: str | None = None,
    is_catalog_filtered: bool | None = None,
) -> Organization:
    """Changes what is not None, of an organization that is locked; an empty `billing_email` takes it away. The address is the caller's
    to check. Raises `InvalidField`, `SlugTaken`."""
    values: dict[str, Any] = {}
    if name is not None:
        values["name"] = require_organization_name(name)
    if slug is not None:
        values["slug"] = require_slug(slug)
    if billing_email is not None:
        values["billing_email"] = billing_email or None
    if is_catalog_filtered is not None:
        values["is_catalog_filtered"] = is_catalog_filtered
    if values:
        try:
            await tx.execute(update(_organizations).where(_organizations.c.id == found.id).values(**values))
        except IntegrityError:  # the index sees every owner's, which this transaction need not
            raise SlugTaken("slug", f"“{values['slug']}” is taken; please choose another.") from None
        await tx.announce("organization", found.id)
    return await _get(tx, found.id)


async def set_seats_max(tx: Tx, found: Organization, seats: int) -> None:
    """Of an organization that is locked. Raises `SeatsTaken` for less than is in use, `InvalidField`."""
    if not 1 <= seats <= SEATS_MAX:
        raise InvalidField("seats", f"An organization has 1 to {SEATS_MAX:,} seats.")
    used = (await count_seats(tx, found.id)).taken
    if seats < used:
        raise SeatsTaken("seats", f"{used} seats are in use, by members and by invitations that wait for an answer.")
    await tx.execute(update(_organizations).where(_organizations.c.id == found.id).values(seats_max=seats))
    await tx.announce("organization", found.id)


async def delete(tx: Tx, found: Organization) -> None:
    """For good, of an organization that is locked: nobody is a member any more, no invitation can be accepted, the slug is free. Its
    row stays for the books."""
    ended = await tx.returning(
        update(_memberships)
        .where(_memberships.c.organization_id == found.id, _memberships.c.ended_at.is_(None))
        .values(ended_at=tx.now)
        .returning(_memberships.c.user_id)
    )
    await tx.execute(
        update(_invitations)
        .where(_invitations.c.organization_id == found.id, _invitations.c.state == "pending")
        .values(state="revoked", closed_at=tx.now)
    )
    # No slug looks like an id, so that nobody can want this one.
    await tx.execute(
        update(_organizations).where(_organizations.c.id == found.id).values(slug=found.id, deleted_at=tx.now)
    )
    await tx.announce("organization", found.id)
    for user in sorted(UserId(row.user_id) for row in ended):
        await tx.announce("membership", user)


async def get_name(snapshot: Snapshot, organization: OrganizationId) -> str:
    """Also of one that was deleted: for the books. Raises `NoSuchOrganization`."""
    name = (await names_of(snapshot, [organization])).get(organization)
    if name is None:
        raise NoSuchOrganization("There is no such organization.", organization=organization)
    return name


async def names_of(snapshot: Snapshot, wanted: Iterable[OrganizationId]) -> dict[OrganizationId, str]:
    """Also of those that were deleted."""
    rows = await snapshot.all(
        select(_organizations.c.id, _organizations.c.name).where(_organizations.c.id.in_(list(wanted)))
    )
    return {OrganizationId(row.id): row.name for row in rows}


async def _locked(tx: Tx, organization: OrganizationId, *, shared: bool) -> Organization:
    row = await tx.first(
        select(_organizations)
        .where(_organizations.c.id == organization, _organizations.c.deleted_at.is_(None))
        .with_for_update(read=shared)
    )
    if row is None:
        raise NoSuchOrganization("There is no such organization.", organization=organization)
    return organization_of(row)


async def _get(snapshot: Snapshot, organization: OrganizationId) -> Organization:
    row = await snapshot.first(select(_organizations).where(_organizations.c.id == organization))
    assert row is not None, "it is locked"
    return organization_of(row)
