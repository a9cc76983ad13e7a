"""Signing in and out. Whoever proves who signs in opens the session; other proofs join here."""

from collections.abc import Mapping

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._attempts import begin_attempt, sign_in_subjects
from bursar.identity import LinkPurpose, Passwords, User
from bursar.kernel.errors import NotAuthenticated
from bursar.kernel.ids import OwnerId
from bursar.storage import SYSTEM, Database, Tx


class InvalidSignIn(NotAuthenticated):
    """The address and password do not belong together; which of the two is wrong is not said."""


async def sign_in(
    database: Database,
    passwords: Passwords,
    *,
    email: str,
    password: str,
    address: str | None,
    user_agent: str | None,
    known: Mapping[str, str] | None = None,
) -> str:
    """The session's token for the cookie. `known`: users who signed in in this browser before, and its name for each.

    Raises `InvalidSignIn`, after the same time whether or not the user exists, and `TooMany` when too many attempts failed.
    """
    async with database.snapshot(SYSTEM) as snapshot:
        user = await identity.find_by_email(snapshot, email)
        hashed = None if user is None else await identity.find_password_hash(snapshot, user.id)
    subjects = sign_in_subjects(email, user, address, known)
    await begin_attempt(database, subjects)
    if not await passwords.verify(password, hashed) or user is None:
        raise InvalidSignIn("The e-mail address or the password is wrong.", remedy="Try again.")
    async with database.begin(SYSTEM) as tx:
        await identity.clear_attempts(tx, subjects)
        return await _open(tx, user, "password", address, user_agent)


async def sign_in_by_link(database: Database, token: str, *, address: str | None, user_agent: str | None) -> str:
    """By a link that this installation's own terminal printed. Raises `LinkExpired`."""
    async with database.begin(SYSTEM) as tx:
        link = await identity.spend_link(tx, token, LinkPurpose.SIGN_IN)
        return await _open(tx, await identity.get_user(tx, link.user), "link", address, user_agent)


async def sign_out(database: Database, token: str) -> None:
    async with database.begin(SYSTEM) as tx:
        await identity.end_session(tx, token)


async def _open(tx: Tx, user: User, proof: str, address: str | None, user_agent: str | None) -> str:
    token = await identity.open_session(tx, user.id, address=address, user_agent=user_agent)
    await audit.record(
        tx, Actor.person(user.id, address), OwnerId(user.id), "user.signed_in", user.id, proof=proof, agent=user_agent
    )
    return token
