from bursar import audit, identity, organizations
from bursar.access import Actor, Permission
from bursar.actions._standing import enter
from bursar.audit import Change
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import OrganizationId, OwnerId
from bursar.organizations import Organization
from bursar.storage import Database, Scope


async def update_organization(
    database: Database,
    actor: Actor,
    *,
    organization: OrganizationId,
    name: str | None = None,
    slug: str | None = None,
    billing_email: str | None = None,
    is_catalog_filtered: bool | None = None,
) -> Organization:
    """Changes what is not None; an empty `billing_email` takes it away, and then all admins are written to. Returns the organization
    as it is then. With another slug its pages are elsewhere, and the old addresses are nobody's.

    Raises `PermissionDenied`, `InvalidField`, `SlugTaken`, `NoSuchOwner`.
    """
    owner = OwnerId(organization)
    async with database.begin(Scope(owner)) as tx:
        await enter(tx, actor, owner, Permission.MANAGE_ORGANIZATION)
        before = await organizations.get_locked(tx, organization)
        after = await organizations.update_organization(
            tx,
            before,
            name=name,
            slug=slug,
            billing_email=None if billing_email is None else _address(billing_email),
            is_catalog_filtered=is_catalog_filtered,
        )
        fields = ("name", "slug", "billing_email", "is_catalog_filtered")
        changes = {field: Change(getattr(before, field), getattr(after, field)) for field in fields}
        changed = {field: change for field, change in changes.items() if change.is_one}
        if changed:
            await audit.record(tx, actor, owner, "organization.changed", organization, **changed)
        return after


def _address(text: str) -> str:
    """Empty for none."""
    if not text.strip():
        return ""
    try:
        return identity.require_email(text)
    except InvalidField as wrong:
        raise InvalidField("billing_email", wrong.sentence) from None
