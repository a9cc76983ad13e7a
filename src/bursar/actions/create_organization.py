from bursar import audit, identity, organizations
from bursar.access import Actor, ActorKind
from bursar.actions._after import Then
from bursar.actions.sign_up import EmailNotVerified
from bursar.kernel.ids import OwnerId, UserId
from bursar.organizations import Organization
from bursar.storage import SYSTEM, Database


async def create_organization(
    database: Database,
    actor: Actor,
    *,
    creator: UserId,
    name: str,
    slug: str,
    then: Then[Organization] | None = None,
) -> Organization:
    """Makes an organization with `creator` as its first admin.

    Raises `EmailNotVerified` when the creator's address is not verified, `InvalidField` for a bad name or a bad or taken slug.
    """
    async with database.begin(SYSTEM) as tx:
        user = await identity.get_user(tx, creator)
        if not user.is_verified and actor.kind is not ActorKind.OPERATOR:
            raise EmailNotVerified(
                "Verify your e-mail address before you create an organization.",
                remedy="Open the link in the message we sent, or have it sent again.",
            )
        organization = await organizations.create(tx, name=name, slug=slug, creator=creator)
        await audit.record(
            tx,
            actor,
            OwnerId(organization.id),
            "organization.created",
            organization.id,
            name=organization.name,
            slug=organization.slug,
            creator=creator,
        )
        if then is not None:
            await then(tx, organization)
        return organization
