from bursar import audit, identity, keys
from bursar.access import Actor
from bursar.actions._attempts import sign_in_subjects
from bursar.actions._departure import disable_keys
from bursar.identity import LinkPurpose, Passwords, User
from bursar.kernel.ids import OwnerId
from bursar.storage import SYSTEM, Database


async def set_password(
    database: Database, passwords: Passwords, *, token: str, password: str, address: str | None
) -> tuple[User, str]:
    """By the link mailed or printed for it; also verifies the address, ends every session, and does not sign in.

    Where the address was not verified before, whoever signed up with it may be a stranger: of what that person set up nothing keeps
    working. The user, and where they wanted to go. Raises `InvalidField` (the link stays good) and `LinkExpired`.
    """
    async with database.snapshot(SYSTEM) as snapshot:
        link = await identity.peek_link(snapshot, token, LinkPurpose.SET_PASSWORD)
        user = await identity.get_user(snapshot, link.user)
        had_password = await identity.find_password_hash(snapshot, link.user) is not None
    hashed = await passwords.hash(identity.require_password(password, user.name, user.email))
    async with database.begin(SYSTEM) as tx:
        link = await identity.spend_link(tx, token, LinkPurpose.SET_PASSWORD)
        actor = Actor.person(link.user, address)
        if await identity.mark_verified(tx, link.user) and had_password:
            await disable_keys(tx, actor, await keys.list_keys(tx, OwnerId(link.user)))
        await identity.set_password(tx, link.user, hashed)
        await identity.end_sessions_of(tx, link.user)
        await identity.spend_links_of(tx, link.user)
        await identity.clear_attempts(tx, sign_in_subjects(user.email, None, None))
        await audit.record(tx, actor, OwnerId(link.user), "user.password_set", link.user)
        await tx.announce("user", link.user)
    return user, link.detail or ""
