from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from bursar.access import Role
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import OrganizationId, UserId, new_organization_id
from bursar.organizations import tables
from bursar.organizations._memberships import add_member
from bursar.organizations._rules import SEATS_DEFAULT, require_organization_name, require_slug
from bursar.organizations._seats import NoSuchOrganization
from bursar.storage import Snapshot, Tx

_organizations = tables.organizations
_memberships = tables.memberships
_current = _memberships.c.ended_at.is_(None)
_alive = _organizations.c.deleted_at.is_(None)


@dataclass(frozen=True)
class Organization:
    """`billing_email` is whom to write to about money; None: all admins. `is_catalog_filtered`: its API keys list only those models that
    they may use."""

    id: OrganizationId
    slug: str
    name: str
    seats_max: int
    created_at: datetime
    billing_email: str | None = None
    is_catalog_filtered: bool = False


class SlugTaken(InvalidField):
    """Another organization has this slug."""


async def create(tx: Tx, *, name: str, slug: str, creator: UserId) -> Organization:
    """An organization with its creator as the first admin. Raises `InvalidField` for a bad name or slug, or one that is taken."""
    organization = Organization(
        new_organization_id(tx.now), require_slug(slug), require_organization_name(name), SEATS_DEFAULT, tx.now
    )
    added = await tx.execute(
        tx.insert(_organizations)
        .values(
            id=organization.id,
            slug=organization.slug,
            name=organization.name,
            seats_max=organization.seats_max,
            created_by=creator,
            created_at=organization.created_at,
        )
        .on_conflict_do_nothing(index_elements=["slug"])
    )
    if added != 1:
        raise SlugTaken("slug", f"“{organization.slug}” is taken; please choose another.")
    await add_member(tx, organization.id, creator, Role.ADMIN)
    return organization


async def find_by_slug(snapshot: Snapshot, slug: str) -> Organization | None:
    row = await snapshot.first(select(_organizations).where(_organizations.c.slug == slug, _alive))
    return None if row is None else organization_of(row)


async def get_by_slug(snapshot: Snapshot, slug: str) -> Organization:
    """Raises `NoSuchOrganization`."""
    found = await find_by_slug(snapshot, slug)
    if found is None:
        raise NoSuchOrganization(
            f"There is no organization {slug[:60]}.", remedy="`bursar organizations list` shows what there is."
        )
    return found


async def list_organizations(snapshot: Snapshot) -> Sequence[Organization]:
    """All of the installation's, oldest first."""
    rows = await snapshot.all(select(_organizations).where(_alive).order_by(_organizations.c.id))
    return [organization_of(row) for row in rows]


async def get_organization(snapshot: Snapshot, organization: OrganizationId) -> Organization:
    """Raises `NoSuchOrganization`, also for one that was deleted."""
    row = await snapshot.first(select(_organizations).where(_organizations.c.id == organization, _alive))
    if row is None:
        raise NoSuchOrganization("There is no such organization.", organization=organization)
    return organization_of(row)


async def list_of_user(snapshot: Snapshot, user: UserId) -> Sequence[tuple[Organization, Role]]:
    """Every organization the person is in, by name."""
    rows = await snapshot.all(
        select(_organizations, _memberships.c.role)
        .join(_memberships, _memberships.c.organization_id == _organizations.c.id)
        .where(_memberships.c.user_id == user, _current, _alive)
        .order_by(func.lower(_organizations.c.name), _organizations.c.id)
    )
    return [(organization_of(row), Role(row.role)) for row in rows]


def organization_of(row: Any) -> Organization:
    return Organization(
        OrganizationId(row.id),
        row.slug,
        row.name,
        row.seats_max,
        row.created_at,
        row.billing_email,
        row.is_catalog_filtered,
    )
