"""The second factor: turned on with a code of the app, off by its owner or by the operator. The owner is told by mail."""

from collections.abc import Sequence

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._attempts import begin_attempt, session_subjects
from bursar.actions._mails import post
from bursar.actions.sign_up import EmailNotVerified
from bursar.identity import Session, User
from bursar.kernel.errors import Conflict, InvalidField
from bursar.kernel.ids import OwnerId
from bursar.mail import security_changed
from bursar.storage import SYSTEM, Database, Tx


class NoSecondFactor(Conflict):
    """There is none to change."""


async def prepare_second_factor(database: Database, session: Session) -> str:
    """The secret to give to the app. Raises `SecondFactorOn`, and `EmailNotVerified`: a stranger who signed up with somebody's address
    must leave nothing that would keep its owner out."""
    if not session.user.is_verified:
        raise EmailNotVerified(
            "Verify your e-mail address before you set up a second factor.",
            remedy="Open the link in the message we sent.",
        )
    async with database.begin(SYSTEM) as tx:
        return await identity.prepare_second_factor(tx, session.user.id)


async def turn_on_second_factor(
    database: Database, session: Session, *, code: str, address: str | None
) -> tuple[Sequence[str], str | None]:
    """Its recovery codes, to be shown once, and the session's new token. Whoever is signed in elsewhere, without the factor, is not any
    more. Raises `InvalidField`, `TooMany`."""
    user = session.user
    subjects = session_subjects(session)
    await begin_attempt(database, subjects)
    async with database.begin(SYSTEM) as tx:
        codes = await identity.confirm_second_factor(tx, user.id, code)
        if codes is None:
            raise InvalidField("code", "This code does not fit. Type the one that the app shows now.")
        await identity.clear_attempts(tx, subjects)
        await identity.end_sessions_of(tx, user.id, keep=session.id)
        await audit.record(tx, Actor.person(user.id, address), OwnerId(user.id), "user.second_factor_on", user.id)
        await _tell(tx, user, "Your second factor is on: signing in asks for a code of your app.")
        return codes, await identity.prove_session(tx, session.id)


async def renew_recovery_codes(database: Database, actor: Actor, session: Session) -> Sequence[str]:
    """New ones, to be shown once. Raises `NoSecondFactor`."""
    user = session.user
    async with database.begin(SYSTEM) as tx:
        if await identity.find_second_factor(tx, user.id) is None:
            raise NoSecondFactor("You have no second factor.", remedy="Set one up first.")
        codes = await identity.renew_recovery_codes(tx, user.id)
        await audit.record(tx, actor, OwnerId(user.id), "user.recovery_codes_renewed", user.id)
        await _tell(tx, user, "You have new recovery codes; the earlier ones stopped working.")
        return codes


async def turn_off_second_factor(database: Database, actor: Actor, session: Session) -> None:
    """Raises `NoSecondFactor`."""
    async with database.begin(SYSTEM) as tx:
        await _remove(
            tx, actor, session.user, "user.second_factor_off", "Your second factor is off: your password is enough."
        )


async def reset_second_factor(database: Database, actor: Actor, *, email: str) -> User:
    """By the operator, for somebody who lost the app and the codes; ends every session. Raises `NoSuchUser`, `NoSecondFactor`."""
    async with database.begin(SYSTEM) as tx:
        user = await identity.get_by_email(tx, email)
        said = "The operator of this installation turned your second factor off: your password is enough."
        await _remove(tx, actor, user, "user.second_factor_reset", said)
        await identity.end_sessions_of(tx, user.id)
        return user


async def _remove(tx: Tx, actor: Actor, user: User, action: str, said: str) -> None:
    if not await identity.remove_second_factor(tx, user.id):
        raise NoSecondFactor(f"{user.email} has no second factor.", remedy="There is nothing to turn off.")
    await audit.record(tx, actor, OwnerId(user.id), action, user.id)
    await _tell(tx, user, said)


async def _tell(tx: Tx, user: User, said: str) -> None:
    await post(tx, security_changed(user.email, user.name, said))
