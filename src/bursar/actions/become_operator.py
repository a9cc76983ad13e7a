"""The first user of an installation becomes its operator, by a link that its own terminal printed."""

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._mails import link_url
from bursar.identity import NOBODY, LinkPurpose, Passwords, User
from bursar.kernel.errors import LinkExpired
from bursar.kernel.ids import SYSTEM_OWNER
from bursar.storage import SYSTEM, Database


async def invite_operator(database: Database, *, public_url: str) -> str | None:
    """The URL to print, or None when there is an operator already. An earlier link stops working."""
    async with database.begin(SYSTEM) as tx:
        if await identity.has_operator(tx):
            return None
        token = await identity.mint_link(tx, NOBODY, LinkPurpose.BECOME_OPERATOR)
    return link_url(public_url, LinkPurpose.BECOME_OPERATOR, token)


async def become_operator(
    database: Database, passwords: Passwords, *, token: str, email: str, name: str, password: str, address: str | None
) -> User:
    """The address counts as verified: whoever reads this installation's terminal may say so.

    Raises `InvalidField` and `EmailTaken` (the link stays good), `LinkExpired`. Does not sign in.
    """
    identity.require_email(email)
    identity.require_name(name)
    hashed = await passwords.hash(identity.require_password(password, name, email))
    async with database.begin(SYSTEM) as tx:
        # Two nodes may each have printed a link: whoever comes second must see the first one's operator.
        await identity.lock_links(tx, NOBODY, LinkPurpose.BECOME_OPERATOR)
        await identity.spend_link(tx, token, LinkPurpose.BECOME_OPERATOR)
        if await identity.has_operator(tx):
            raise LinkExpired("This installation has an operator already.", remedy="Sign in instead.")
        user = await identity.add_user(
            tx, email=email, name=name, password_hash=hashed, verified=True, is_operator=True
        )
        await audit.record(tx, Actor.person(user.id, address), SYSTEM_OWNER, "operator.made", user.id, email=user.email)
        return user
