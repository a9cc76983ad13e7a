from bursar import audit, identity
from bursar.access import Actor
from bursar.identity import Session, User
from bursar.kernel.errors import NotFound
from bursar.kernel.ids import OwnerId, SessionId
from bursar.storage import SYSTEM, Database


class NoSuchSession(NotFound):
    """It ended already, or is somebody else's: the two answer alike."""


async def end_session_of(database: Database, actor: Actor, session: Session, ended: SessionId) -> None:
    """Signs the person out in one other place. Raises `NoSuchSession`."""
    user = session.user.id
    async with database.begin(SYSTEM) as tx:
        found = await identity.end_session_of(tx, user, ended)
        if found is None:
            raise NoSuchSession("There is no such session any more.", remedy="Look at the list again.")
        await audit.record(
            tx, actor, OwnerId(user), "session.ended", ended, agent=found.user_agent, signed_in_from=found.address
        )


async def end_other_sessions(database: Database, actor: Actor, session: Session) -> int:
    """Signs the person out everywhere but here; in how many places."""
    user = session.user.id
    async with database.begin(SYSTEM) as tx:
        count = await identity.end_sessions_of(tx, user, keep=session.id)
        await audit.record(tx, actor, OwnerId(user), "session.others_ended", user, count=count)
        return count


async def sign_out_user(database: Database, actor: Actor, *, email: str) -> tuple[User, int]:
    """By the operator: everywhere; in how many places. Raises `NoSuchUser`."""
    async with database.begin(SYSTEM) as tx:
        user = await identity.get_by_email(tx, email)
        count = await identity.end_sessions_of(tx, user.id)
        await audit.record(tx, actor, OwnerId(user.id), "session.all_ended", user.id, count=count)
        return user, count
