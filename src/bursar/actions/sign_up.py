"""Signing up and proving the address."""

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._mails import enqueue, mail_link
from bursar.identity import LinkPurpose, Passwords, User
from bursar.kernel.errors import Forbidden
from bursar.kernel.ids import OwnerId
from bursar.mail import Message
from bursar.storage import SYSTEM, Database


class SignUpClosed(Forbidden):
    """This installation takes new users by invitation only."""


class EmailNotVerified(Forbidden):
    """What was asked needs a verified e-mail address."""


async def sign_up(
    database: Database,
    passwords: Passwords,
    *,
    email: str,
    name: str,
    password: str,
    public_url: str,
    address: str | None,
    is_open: bool,
) -> None:
    """Adds a user and mails a link that verifies the address.

    Answers the same whether or not the address has a user already; then that user is told by mail instead. Raises
    `SignUpClosed`, `InvalidField`.
    """
    if not is_open:
        raise SignUpClosed("Sign-up is by invitation here.", remedy="Ask the operator of this installation to add you.")
    email = identity.require_email(email)
    identity.require_name(name)
    hashed = await passwords.hash(identity.require_password(password))
    async with database.begin(SYSTEM) as tx:
        try:
            user = await identity.add_user(tx, email=email, name=name, password_hash=hashed)
        except identity.EmailTaken:
            existing = await identity.get_by_email(tx, email)
            await enqueue(tx, _already(existing, public_url), LinkPurpose.VERIFY_EMAIL, None)
            return
        await audit.record(tx, Actor.person(user.id, address), OwnerId(user.id), "user.signed_up", user.id)
        await mail_link(tx, user, LinkPurpose.VERIFY_EMAIL, public_url)


async def resend_verification(database: Database, user: User, *, public_url: str) -> None:
    """A new link; the earlier one stops working. Nothing happens when the address is verified."""
    if user.is_verified:
        return
    async with database.begin(SYSTEM) as tx:
        await mail_link(tx, user, LinkPurpose.VERIFY_EMAIL, public_url)


async def verify_email(database: Database, token: str, *, address: str | None) -> User:
    """Raises `LinkExpired`. Does not sign in."""
    async with database.begin(SYSTEM) as tx:
        link = await identity.spend_link(tx, token, LinkPurpose.VERIFY_EMAIL)
        if await identity.mark_verified(tx, link.user):
            await audit.record(tx, Actor.person(link.user, address), OwnerId(link.user), "user.verified", link.user)
            await tx.announce("user", link.user)
        return await identity.get_user(tx, link.user)


def _already(user: User, public_url: str) -> Message:
    return Message(
        user.email,
        "You already have a Bursar account",
        f"Hello {user.name},\n\nsomebody, perhaps you, tried to sign up with this address, which has an account already.\n"
        f"Sign in here: {public_url}/sign-in\n\nIf it was not you, nothing needs to be done.\n",
    )
