"""Step-up: somebody who is signed in shows again who they are, before something dangerous."""

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._attempts import begin_attempt, session_subjects
from bursar.actions._mails import mail_link, require_mail
from bursar.identity import LinkPurpose, Passwords, Session
from bursar.kernel.errors import InvalidField, LinkExpired
from bursar.kernel.ids import OwnerId, SessionId
from bursar.storage import SYSTEM, Database, Tx


async def confirm_identity(
    database: Database, passwords: Passwords, session: Session, *, password: str, code: str, address: str | None
) -> str:
    """By a code of the second factor if one is given, else by the password. The token under which the session goes on.

    Raises `InvalidField` (`password` or `code`) when it does not fit, `TooMany`, and `LinkExpired` when the session ended meanwhile.
    """
    user = session.user.id
    subjects = session_subjects(session)
    await begin_attempt(database, subjects)
    if not code:
        async with database.snapshot(SYSTEM) as snapshot:
            hashed = await identity.find_password_hash(snapshot, user)
        if not await passwords.verify(password, hashed):
            raise InvalidField("password", "That is not your password.")
    async with database.begin(SYSTEM) as tx:
        kind = await identity.take_code(tx, user, code) if code else None
        if code and kind is None:
            raise InvalidField("code", "This code does not fit, or was used already.")
        await identity.clear_attempts(tx, subjects)
        return await _proved(tx, session.id, session, "password" if kind is None else f"{kind} code", address)


async def mail_proof(database: Database, session: Session, *, public_url: str, next_path: str) -> None:
    """For those without a password: a link that proves this one session. Raises `TooMany`."""
    async with database.begin(SYSTEM) as tx:
        await require_mail(tx, session.user)
        await mail_link(tx, session.user, LinkPurpose.PROVE, public_url, detail=f"{session.id} {next_path}")


async def confirm_by_link(database: Database, session: Session, token: str, *, address: str | None) -> tuple[str, str]:
    """The session's new token, and where the person was. Raises `LinkExpired`, also in another session than the one that asked."""
    async with database.begin(SYSTEM) as tx:
        link = await identity.spend_link(tx, token, LinkPurpose.PROVE)
        asked_in, _, next_path = (link.detail or "").partition(" ")
        return await _proved(tx, SessionId(asked_in), session, "link", address), next_path


async def _proved(tx: Tx, asked_in: SessionId, session: Session, proof: str, address: str | None) -> str:
    token = await identity.prove_session(tx, session.id) if asked_in == session.id else None
    if token is None:
        raise LinkExpired("That was for a session that has ended, or is in another browser.", remedy="Sign in again.")
    user = session.user.id
    await audit.record(tx, Actor.person(user, address), OwnerId(user), "user.proved", user, proof=proof)
    return token
