"""Putting a message into the outbox, sealed, with its one-time link."""

import dataclasses
from collections.abc import Iterable
from datetime import timedelta

from bursar.identity import LINK_LIFETIME, AttemptKind, LinkPurpose, User, mint_link, normalize_email, take_mail
from bursar.kernel.errors import TooMany
from bursar.kernel.secrets import hash_secret
from bursar.mail import Message, confirm_identity, set_password, verify_email
from bursar.storage import Tx

MAIL_TOPIC = "mail"
KEPT = timedelta(days=7)
"""How long a message without a link is kept for the operator where it could not be sent."""

_PAGES = {
    LinkPurpose.VERIFY_EMAIL: "verify",
    LinkPurpose.SET_PASSWORD: "set-password",
    LinkPurpose.SIGN_IN: "link",
    LinkPurpose.BECOME_OPERATOR: "become-operator",
    LinkPurpose.PROVE: "confirm/link",
    LinkPurpose.CHANGE_EMAIL: "change-email",
    LinkPurpose.UNDO_EMAIL: "undo-email-change",
}
_MESSAGES = {
    LinkPurpose.VERIFY_EMAIL: verify_email,
    LinkPurpose.SET_PASSWORD: set_password,
    LinkPurpose.PROVE: confirm_identity,
}


def link_url(public_url: str, purpose: LinkPurpose, token: str) -> str:
    return f"{public_url}/{_PAGES[purpose]}?token={token}"


async def mail_link(tx: Tx, user: User, purpose: LinkPurpose, public_url: str, *, detail: str | None = None) -> str:
    """Mints a link and mails it; returns its URL for callers whose terminal may show it."""
    token = await mint_link(tx, user.id, purpose, detail)
    url = link_url(public_url, purpose, token)
    await enqueue(tx, _MESSAGES[purpose](user.email, user.name, url), purpose, hash_secret(token))
    return url


async def notify(tx: Tx, messages: Iterable[Message]) -> None:
    """Mails that only tell, and hold no secret."""
    for message in messages:
        await post(tx, message)


async def require_mail(tx: Tx, user: User) -> None:
    """For somebody signed in who asks for a message to themselves. Raises `TooMany` beyond what one address gets in an hour."""
    if not await take_mail(tx, normalize_email(user.email)):
        raise TooMany(
            "There were several messages within the hour.",
            retry_after_seconds=AttemptKind.MAIL.value.forget_each.seconds,
            remedy="Look in your mail first.",
        )


async def enqueue(tx: Tx, message: Message, purpose: LinkPurpose, reference: str | None) -> None:
    await post(tx, message, keep=LINK_LIFETIME[purpose], reference=reference)


async def post(tx: Tx, message: Message, *, keep: timedelta = KEPT, reference: str | None = None) -> None:
    """A message leaves after the commit. Where it cannot, the operator finds it for `keep`; `reference` names the link it brings."""
    await tx.enqueue(
        MAIL_TOPIC,
        dataclasses.asdict(message),
        summary={"to": message.to, "subject": message.subject},
        keep=keep,
        reference=reference,
    )
