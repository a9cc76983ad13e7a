"""Another e-mail address, in two steps, and a third to take it back.

1. A link goes to the new address; until it is used nothing is different.
2. Whoever uses it reads that mail: the address is the person's, and verified. The old one gets a notice with a link that undoes it for a
   week; so long nobody else gets the old address.
3. Undoing gives the old address back, ends every session, voids every other link, and leads to a new password: somebody else may have
   been at work.
"""

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._mails import link_url, post
from bursar.audit import Change
from bursar.identity import LINK_LIFETIME, LinkPurpose, Session
from bursar.kernel.errors import InvalidField, TooMany
from bursar.kernel.ids import OwnerId
from bursar.kernel.secrets import hash_secret
from bursar.mail import change_email, email_changed
from bursar.storage import SYSTEM, Database


async def request_email_change(
    database: Database, actor: Actor, session: Session, *, email: str, public_url: str
) -> None:
    """Mails the link. Answers the same where the address is somebody's already: then nothing is mailed.

    Raises `InvalidField`, `TooMany`.
    """
    user, email = session.user, identity.require_email(email)
    normalized = identity.normalize_email(email)
    if normalized == identity.normalize_email(user.email):
        raise InvalidField("email", "That is your address already.")
    async with database.begin(SYSTEM) as tx:
        if not await identity.take_mail(tx, normalized):
            raise TooMany(
                "There were several messages to this address within the hour.",
                retry_after_seconds=720,
                remedy="Look in its mail first.",
            )
        await audit.record(tx, actor, OwnerId(user.id), "user.email_change_asked", user.id, email=email)
        if await identity.find_by_email(tx, email) is not None:
            return
        token = await identity.mint_link(tx, user.id, LinkPurpose.CHANGE_EMAIL, email)
        url = link_url(public_url, LinkPurpose.CHANGE_EMAIL, token)
        await post(
            tx,
            change_email(email, user.name, user.email, url),
            keep=LINK_LIFETIME[LinkPurpose.CHANGE_EMAIL],
            reference=hash_secret(token),
        )


async def confirm_email_change(database: Database, token: str, *, public_url: str, address: str | None) -> str:
    """The new address. Raises `LinkExpired`, and `EmailTaken` where it became somebody else's meanwhile (the link stays good)."""
    async with database.begin(SYSTEM) as tx:
        link = await identity.spend_link(tx, token, LinkPurpose.CHANGE_EMAIL)
        user, email = await identity.get_user(tx, link.user), link.detail or ""
        await identity.change_email(tx, user.id, email)
        await identity.spend_links_of(tx, user.id)
        await audit.record(
            tx,
            Actor.person(user.id, address),
            OwnerId(user.id),
            "user.email_changed",
            user.id,
            email=Change(user.email, email),
        )
        if user.is_verified:  # the old address is theirs too
            undo = await identity.mint_link(tx, user.id, LinkPurpose.UNDO_EMAIL, identity.normalize_email(user.email))
            await post(
                tx,
                email_changed(user.email, user.name, email, link_url(public_url, LinkPurpose.UNDO_EMAIL, undo)),
                keep=LINK_LIFETIME[LinkPurpose.UNDO_EMAIL],
                reference=hash_secret(undo),
            )
        await tx.announce("user", user.id)
        return email


async def undo_email_change(database: Database, token: str, *, address: str | None) -> str:
    """The token of a link to choose a new password. Raises `LinkExpired`, `EmailTaken`."""
    async with database.begin(SYSTEM) as tx:
        link = await identity.spend_link(tx, token, LinkPurpose.UNDO_EMAIL)
        user, email = await identity.get_user(tx, link.user), link.detail or ""
        await identity.change_email(tx, user.id, email)
        await identity.end_sessions_of(tx, user.id)
        await identity.spend_links_of(tx, user.id, undo_too=True)
        await audit.record(
            tx,
            Actor.person(user.id, address),
            OwnerId(user.id),
            "user.email_change_undone",
            user.id,
            email=Change(user.email, email),
        )
        await tx.announce("user", user.id)
        return await identity.mint_link(tx, user.id, LinkPurpose.SET_PASSWORD)
