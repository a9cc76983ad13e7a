from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._attempts import begin_attempt, session_subjects
from bursar.actions._mails import post
from bursar.identity import Passwords, Session
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import OwnerId
from bursar.mail import security_changed
from bursar.storage import SYSTEM, Database


async def change_password(
    database: Database, passwords: Passwords, session: Session, *, current: str, password: str, address: str | None
) -> str | None:
    """By somebody signed in who knows the present one, or has none yet. Ends every other session, and voids what was mailed before.

    The session's new token. Raises `InvalidField` (`current_password` or `password`), `TooMany`.
    """
    user = session.user
    async with database.snapshot(SYSTEM) as snapshot:
        present = await identity.find_password_hash(snapshot, user.id)
    identity.require_password(password, user.name, user.email)
    subjects = session_subjects(session)
    await begin_attempt(database, subjects)
    if present is not None and not await passwords.verify(current, present):
        raise InvalidField("current_password", "That is not your present password.")
    hashed = await passwords.hash(password)
    async with database.begin(SYSTEM) as tx:
        await identity.clear_attempts(tx, subjects)
        await identity.set_password(tx, user.id, hashed)
        await identity.end_sessions_of(tx, user.id, keep=session.id)
        await identity.spend_links_of(tx, user.id)
        await audit.record(tx, Actor.person(user.id, address), OwnerId(user.id), "user.password_changed", user.id)
        await post(tx, security_changed(user.email, user.name, "Your password was changed."))
        return await identity.prove_session(tx, session.id)
