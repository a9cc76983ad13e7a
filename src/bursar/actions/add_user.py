"""How the operator lets people in, and back in."""

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._mails import link_url, mail_link
from bursar.identity import LinkPurpose, User
from bursar.kernel.ids import OwnerId, UserId
from bursar.storage import SYSTEM, Database


async def add_user(
    database: Database,
    actor: Actor,
    *,
    email: str,
    name: str,
    public_url: str,
    verified: bool = False,
    is_operator: bool = False,
    mail: bool = True,
) -> tuple[User, str | None]:
    """A user without a password, and the URL of the link to choose one (mailed too). Raises `InvalidField`, `EmailTaken`.

    Opening the link verifies the address; `verified` is for addresses that the operator vouches for. Without `mail` nothing is
    sent and there is no URL.
    """
    async with database.begin(SYSTEM) as tx:
        user = await identity.add_user(
            tx, email=email, name=name, password_hash=None, verified=verified, is_operator=is_operator
        )
        url = await mail_link(tx, user, LinkPurpose.SET_PASSWORD, public_url) if mail else None
        await audit.record(
            tx,
            actor,
            OwnerId(user.id),
            "user.added",
            user.id,
            email=user.email,
            operator=is_operator,
            verified=verified,
        )
        return user, url


async def reset_user(database: Database, actor: Actor, *, email: str, public_url: str) -> tuple[User, str]:
    """A new link to choose a password, mailed and returned: the way back in. Raises `NoSuchUser`."""
    async with database.begin(SYSTEM) as tx:
        user = await identity.get_by_email(tx, email)
        url = await mail_link(tx, user, LinkPurpose.SET_PASSWORD, public_url)
        await audit.record(tx, actor, OwnerId(user.id), "user.reset", user.id)
        return user, url


async def make_sign_in_link(database: Database, user: UserId, *, public_url: str) -> str:
    """The URL of a link that signs in once, for this installation's own terminal to print."""
    async with database.begin(SYSTEM) as tx:
        token = await identity.mint_link(tx, user, LinkPurpose.SIGN_IN)
        await audit.record(tx, Actor.operator(), OwnerId(user), "user.sign_in_link_made", user)
    return link_url(public_url, LinkPurpose.SIGN_IN, token)
