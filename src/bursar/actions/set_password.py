from bursar import audit, identity
from bursar.access import Actor
from bursar.identity import LinkPurpose, Passwords
from bursar.kernel.ids import OwnerId
from bursar.storage import SYSTEM, Database


async def set_password(
    database: Database, passwords: Passwords, *, token: str, password: str, address: str | None
) -> None:
    """By the link mailed or printed for it; also verifies the address, ends every session, and does not sign in.

    Raises `InvalidField` (the link stays good) and `LinkExpired`.
    """
    hashed = await passwords.hash(identity.require_password(password))
    async with database.begin(SYSTEM) as tx:
        link = await identity.spend_link(tx, token, LinkPurpose.SET_PASSWORD)
        await identity.set_password(tx, link.user, hashed)
        await identity.mark_verified(tx, link.user)
        await identity.end_sessions_of(tx, link.user)
        await audit.record(tx, Actor.person(link.user, address), OwnerId(link.user), "user.password_set", link.user)
        await tx.announce("user", link.user)
