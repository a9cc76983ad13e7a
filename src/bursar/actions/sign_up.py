"""Signing up and proving the address."""

from urllib.parse import urlencode

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._attempts import begin_attempt, from_client, sign_in_subjects
from bursar.actions._mails import enqueue, mail_link, require_mail
from bursar.identity import LinkPurpose, Passwords, User
from bursar.kernel.errors import Forbidden, InvalidField
from bursar.kernel.ids import OwnerId, UserId
from bursar.mail import already_there
from bursar.storage import SYSTEM, Database, Tx


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
    next_path: str = "",
) -> None:
    """Adds a user and mails a link that verifies the address and leads to `next_path`.

    Answers the same, after the same work, whether or not the address has a user already: then that user is told by mail instead, and
    what was typed is dropped. Raises `SignUpClosed`, `InvalidField`, `TooMany`.
    """
    if not is_open:
        raise SignUpClosed("Sign-up is by invitation here.", remedy="Ask the operator of this installation to add you.")
    email, name = identity.require_email(email), identity.require_name(name)
    identity.require_password(password, name, email)
    await begin_attempt(database, from_client(address))
    hashed = await passwords.hash(password)
    async with database.begin(SYSTEM) as tx:
        try:
            user = await identity.add_user(tx, email=email, name=name, password_hash=hashed)
        except identity.EmailTaken:
            await _tell_who_has_it(tx, email, public_url, next_path)
            return
        await audit.record(tx, Actor.person(user.id, address), OwnerId(user.id), "user.signed_up", user.id)
        if await identity.take_mail(tx, identity.normalize_email(email)):
            await mail_link(tx, user, LinkPurpose.VERIFY_EMAIL, public_url, detail=next_path)


async def resend_verification(database: Database, user: User, *, public_url: str) -> None:
    """A new link; the earlier one stops working. Nothing happens when the address is verified. Raises `TooMany`."""
    if user.is_verified:
        return
    async with database.begin(SYSTEM) as tx:
        await require_mail(tx, user)
        await mail_link(tx, user, LinkPurpose.VERIFY_EMAIL, public_url)


async def verify_email(
    database: Database,
    passwords: Passwords,
    token: str,
    *,
    password: str | None,
    signed_in: UserId | None,
    address: str | None,
) -> tuple[User, str]:
    """The user, and where they wanted to go. Does not sign in.

    Reading the mail is not enough: a stranger may have signed up with the address, and would keep the password they chose. So the
    password is asked for, unless who opens the link is `signed_in` as that user in the same browser, and knew it then. Who does not know
    it chooses another (`choose_password_instead`). Raises `LinkExpired`; `InvalidField` and `TooMany`, which leave the link good.
    """
    async with database.snapshot(SYSTEM) as snapshot:
        link = await identity.peek_link(snapshot, token, LinkPurpose.VERIFY_EMAIL)
        user = await identity.get_user(snapshot, link.user)
        hashed = await identity.find_password_hash(snapshot, link.user)
    subjects = sign_in_subjects(user.email, None, address)
    if hashed is not None and signed_in != link.user:
        await begin_attempt(database, subjects)
        if not await passwords.verify(password or "", hashed):
            raise InvalidField("password", "That is not the password that was chosen when this address was signed up.")
    async with database.begin(SYSTEM) as tx:
        await identity.spend_link(tx, token, LinkPurpose.VERIFY_EMAIL)
        await identity.clear_attempts(tx, subjects)
        if await identity.mark_verified(tx, link.user):
            await audit.record(tx, Actor.person(link.user, address), OwnerId(link.user), "user.verified", link.user)
            await tx.announce("user", link.user)
        return await identity.get_user(tx, link.user), link.detail or ""


async def choose_password_instead(database: Database, token: str) -> str:
    """For who reads the mail but does not know the password: the link that verifies becomes one that sets a password. Raises `LinkExpired`."""
    async with database.begin(SYSTEM) as tx:
        link = await identity.spend_link(tx, token, LinkPurpose.VERIFY_EMAIL)
        return await identity.mint_link(tx, link.user, LinkPurpose.SET_PASSWORD, link.detail)


async def _tell_who_has_it(tx: Tx, email: str, public_url: str, next_path: str) -> None:
    """Nothing is mailed beyond what one address gets in an hour, and nothing of what a stranger typed."""
    existing = await identity.find_by_email(tx, email)
    if existing is None:  # somebody gave it up lately, and may have it back
        return
    if not await identity.take_mail(tx, identity.normalize_email(email)):
        return
    if existing.is_verified:
        query = f"?{urlencode({'next': next_path})}" if next_path else ""
        message = already_there(existing.email, existing.name, f"{public_url}/sign-in{query}")
        await enqueue(tx, message, LinkPurpose.VERIFY_EMAIL, None)
        return
    has_password = await identity.find_password_hash(tx, existing.id) is not None
    purpose = LinkPurpose.VERIFY_EMAIL if has_password else LinkPurpose.SET_PASSWORD
    await mail_link(tx, existing, purpose, public_url, detail=next_path or None)
