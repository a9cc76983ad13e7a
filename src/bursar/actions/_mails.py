"""Putting a message into the outbox, sealed, with its one-time link."""

import dataclasses

from bursar.identity import LINK_LIFETIME, LinkPurpose, User, mint_link
from bursar.kernel.secrets import hash_secret
from bursar.mail import Message, confirm_identity, set_password, verify_email
from bursar.storage import Tx

MAIL_TOPIC = "mail"

_PAGES = {
    LinkPurpose.VERIFY_EMAIL: "verify",
    LinkPurpose.SET_PASSWORD: "set-password",
    LinkPurpose.SIGN_IN: "link",
    LinkPurpose.BECOME_OPERATOR: "become-operator",
    LinkPurpose.PROVE: "confirm/link",
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


async def enqueue(tx: Tx, message: Message, purpose: LinkPurpose, reference: str | None) -> None:
    await tx.enqueue(
        MAIL_TOPIC,
        dataclasses.asdict(message),
        summary={"to": message.to, "subject": message.subject},
        keep=LINK_LIFETIME[purpose],
        reference=reference,
    )
