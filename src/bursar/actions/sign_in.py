"""Signing in and out. Whoever proves who signs in opens the session; other proofs join here."""

from collections.abc import Mapping

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._attempts import begin_attempt, code_subjects, sign_in_subjects
from bursar.identity import LinkPurpose, Passwords, User
from bursar.kernel.errors import InvalidField, LinkExpired, NotAuthenticated
from bursar.kernel.ids import OwnerId, UserId
from bursar.kernel.secrets import hash_secret
from bursar.storage import SYSTEM, Database, Tx


class InvalidSignIn(NotAuthenticated):
    """The address and password do not belong together; which of the two is wrong is not said."""


class SecondFactorNeeded(NotAuthenticated):
    """The password fitted; a code of the second factor is to follow. `mark` ties that step to this password."""

    def __init__(self, user: UserId, mark: str) -> None:
        super().__init__("A code of the second factor is needed.", remedy="Type the code that your app shows.")
        self.user = user
        self.mark = mark


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

    Raises `InvalidSignIn`, after the same time whether or not the user exists, `TooMany` when too many attempts failed, and
    `SecondFactorNeeded` where `sign_in_second` is to follow.
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
        if await identity.find_second_factor(tx, user.id) is None:
            return await _open(tx, user, "password", address, user_agent)
    raise SecondFactorNeeded(user.id, _mark(hashed))


async def sign_in_second(
    database: Database,
    *,
    user: UserId,
    mark: str,
    code: str,
    address: str | None,
    user_agent: str | None,
    known: Mapping[str, str] | None = None,
) -> tuple[str, int | None]:
    """The session's token, and how many recovery codes are left where one was used.

    `user` and `mark` are of `SecondFactorNeeded`; the caller vouches that it was raised a moment ago. Raises `InvalidField`, `TooMany`, and
    `LinkExpired` when the password or the factor changed meanwhile.
    """
    subjects = code_subjects(user, address, known or {})
    await begin_attempt(database, subjects)
    async with database.begin(SYSTEM) as tx:
        found = await identity.find_user(tx, user)
        factor = await identity.find_second_factor(tx, user)
        if found is None or factor is None or _mark(await identity.find_password_hash(tx, user)) != mark:
            raise LinkExpired("Your password or second factor was changed meanwhile.", remedy="Sign in again.")
        kind = await identity.take_code(tx, user, code)
        if kind is None:
            raise InvalidField("code", "This code does not fit, or was used already.")
        await identity.clear_attempts(tx, subjects)
        token = await _open(tx, found, f"password, {kind} code", address, user_agent)
        return token, factor.recovery_left - 1 if kind == "recovery" else None


async def sign_in_by_link(database: Database, token: str, *, address: str | None, user_agent: str | None) -> str:
    """By a link that this installation's own terminal printed. Raises `LinkExpired`."""
    async with database.begin(SYSTEM) as tx:
        link = await identity.spend_link(tx, token, LinkPurpose.SIGN_IN)
        return await _open(tx, await identity.get_user(tx, link.user), "link", address, user_agent)


async def sign_out(database: Database, token: str) -> None:
    async with database.begin(SYSTEM) as tx:
        await identity.end_session(tx, token)


def _mark(hashed: str | None) -> str:
    return hash_secret(hashed or "")[:16]


async def _open(tx: Tx, user: User, proof: str, address: str | None, user_agent: str | None) -> str:
    token = await identity.open_session(tx, user.id, address=address, user_agent=user_agent)
    await audit.record(
        tx, Actor.person(user.id, address), OwnerId(user.id), "user.signed_in", user.id, proof=proof, agent=user_agent
    )
    return token
