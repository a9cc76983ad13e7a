"""Organizations and memberships. (Invitations come with the issue on organization management.)"""

from bursar.organizations._rules import SEATS_DEFAULT, require_organization_name, require_slug, slug_from
from bursar.organizations._store import (
    Member,
    Organization,
    add_member,
    create,
    find_by_slug,
    find_role,
    get_by_slug,
    get_organization,
    list_members,
    list_of_user,
    list_organizations,
)

__all__ = [
    "SEATS_DEFAULT",
    "Member",
    "Organization",
    "add_member",
    "create",
    "find_by_slug",
    "find_role",
    "get_by_slug",
    "get_organization",
    "list_members",
    "list_of_user",
    "list_organizations",
    "require_organization_name",
    "require_slug",
    "slug_from",
]
