"""The switcher: personal, and every organization with role and balance."""

from collections.abc import Sequence
from dataclasses import dataclass

from bursar import ledger, organizations
from bursar.access import Context, Role
from bursar.identity import User
from bursar.kernel.errors import NotFound
from bursar.kernel.ids import OrganizationId, OwnerId
from bursar.ledger import Balance
from bursar.storage import Snapshot


class NoSuchContext(NotFound):
    """No organization has this slug, or the person is not in it: the two answer alike."""


@dataclass(frozen=True)
class ContextEntry:
    """`slug` is None for the personal context."""

    context: Context
    name: str
    slug: str | None
    balance: Balance

    @property
    def organization(self) -> OrganizationId | None:
        return None if self.context.is_personal else OrganizationId(self.context.owner)


async def contexts_of(snapshot: Snapshot, user: User) -> Sequence[ContextEntry]:
    """Personal first, then organizations by name."""
    mine = await organizations.list_of_user(snapshot, user.id)
    owners = [OwnerId(user.id), *(OwnerId(organization.id) for organization, _ in mine)]
    balances = await ledger.balances(snapshot, owners)
    personal = ContextEntry(Context(owners[0], Role.PERSONAL), "Personal account", None, balances[owners[0]])
    return [
        personal,
        *(
            ContextEntry(Context(OwnerId(found.id), role), found.name, found.slug, balances[OwnerId(found.id)])
            for found, role in mine
        ),
    ]


def resolve_context(entries: Sequence[ContextEntry], slug: str | None) -> ContextEntry:
    """The one that the URL names. Raises `NoSuchContext`; never falls back to another."""
    for entry in entries:
        if entry.slug == slug:
            return entry
    raise NoSuchContext(
        "There is no such organization, or you are not a member of it.", remedy="Go to your personal account."
    )
