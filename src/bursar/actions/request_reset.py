import asyncio

from bursar import audit, identity
from bursar.access import Actor
from bursar.actions._attempts import from_client
from bursar.actions._mails import mail_link
from bursar.identity import LinkPurpose
from bursar.kernel.ids import OwnerId
from bursar.storage import SYSTEM, Database

ANSWER_SECONDS = 0.3  # seconds, not money
"""When the answer comes, whatever there was to do: a mail takes a few milliseconds more to write than none."""


async def request_reset(
    database: Database, *, email: str, public_url: str, address: str | None, next_path: str = ""
) -> None:
    """Mails a link to choose a new password, if the address is somebody's.

    Answers the same and at the same time whether or not it is. Raises `TooMany` when one client asks for too many.
    """
    began = database.clock.monotonic()
    async with database.begin(SYSTEM) as tx:
        await identity.begin_attempt(tx, from_client(address))
        user = await identity.find_by_email(tx, email)
        if user is not None and await identity.take_mail(tx, identity.normalize_email(user.email)):
            await mail_link(tx, user, LinkPurpose.SET_PASSWORD, public_url, detail=next_path or None)
            await audit.record(tx, Actor.person(user.id, address), OwnerId(user.id), "user.reset_asked", user.id)
    await asyncio.sleep(max(0, ANSWER_SECONDS - (database.clock.monotonic() - began)))
