"""One-time links: 256 random bits, hashed at rest, spent once, replaced by a newer one of the same purpose."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, select, update

from bursar.identity import tables
from bursar.kernel.errors import LinkExpired
from bursar.kernel.ids import UserId
from bursar.kernel.secrets import hash_secret, mint_token
from bursar.storage import Snapshot, Tx, strip

NOBODY = UserId("nobody")
"""Stands in a link for somebody who has no user yet."""

_links = tables.links


class LinkPurpose(StrEnum):
    VERIFY_EMAIL = "verify_email"
    """Proves that the address is read by its owner."""
    SIGN_IN = "sign_in"
    """Signs in once; only the installation's own terminal prints these."""
    BECOME_OPERATOR = "become_operator"
    """Makes the first user, who is the operator; printed by `bursar serve` while there is none."""
    SET_PASSWORD = "set_password"  # noqa: S105 - a purpose, not a password
    """Lets its bearer set a password and verifies the address it was sent to; does not sign in."""
    PROVE = "prove"
    """Proves, in the session that asked, who is signed in there (step-up): for people who have no password."""
    CHANGE_EMAIL = "change_email"
    """Makes the address that it was sent to, its detail, the person's."""
    UNDO_EMAIL = "undo_email"
    """Gives the person back the address that it was sent to, its detail."""


LINK_LIFETIME = {
    LinkPurpose.VERIFY_EMAIL: timedelta(days=2),
    LinkPurpose.SIGN_IN: timedelta(days=1),
    LinkPurpose.BECOME_OPERATOR: timedelta(days=7),
    LinkPurpose.SET_PASSWORD: timedelta(days=2),
    LinkPurpose.PROVE: timedelta(minutes=30),
    LinkPurpose.CHANGE_EMAIL: timedelta(days=1),
    LinkPurpose.UNDO_EMAIL: timedelta(days=7),
}


@dataclass(frozen=True)
class OneTimeLink:
    """`detail`: what it is about, such as where the person wanted to go."""

    user: UserId
    purpose: LinkPurpose
    detail: str | None = None


async def mint_link(tx: Tx, user: UserId, purpose: LinkPurpose, detail: str | None = None) -> str:
    """The plain token, never stored; earlier links of the same purpose stop working. Without a `detail` it keeps theirs.

    Only those that undo stand beside each other: a thief who changes an address twice must not void the way back.
    """
    token = mint_token()
    undoes = purpose is LinkPurpose.UNDO_EMAIL
    older = [] if undoes else await _spend(tx, _links.c.user_id == user, _links.c.purpose == purpose)
    if detail is None:
        detail = max(older, key=lambda row: row.created_at).detail if older else None
    await tx.execute(
        _links.insert().values(
            token_hash=hash_secret(token),
            user_id=user,
            purpose=purpose.value,
            created_at=tx.now,
            expires_at=tx.now + LINK_LIFETIME[purpose],
            detail=detail,
        )
    )
    return token


async def peek_link(snapshot: Snapshot, token: str, purpose: LinkPurpose) -> OneTimeLink:
    """What the link would do, without spending it: pages ask first, because mail scanners open links. Raises `LinkExpired`."""
    row = await snapshot.first(
        select(_links.c.user_id, _links.c.detail).where(
            _links.c.token_hash == hash_secret(token),
            _links.c.purpose == purpose,
            _links.c.spent_at.is_(None),
            _links.c.expires_at > snapshot.now,
        )
    )
    if row is None:
        raise _expired()
    return OneTimeLink(UserId(row.user_id), purpose, row.detail)


async def spend_link(tx: Tx, token: str, purpose: LinkPurpose) -> OneTimeLink:
    """Spends it; exactly one caller succeeds. Raises `LinkExpired`."""
    hashed = hash_secret(token)
    rows = await tx.returning(
        update(_links)
        .where(
            _links.c.token_hash == hashed,
            _links.c.purpose == purpose,
            _links.c.spent_at.is_(None),
            _links.c.expires_at > tx.now,
        )
        .values(spent_at=tx.now)
        .returning(_links.c.user_id, _links.c.detail)
    )
    if len(rows) != 1:
        raise _expired()
    await strip(tx, hashed)
    return OneTimeLink(UserId(rows[0].user_id), purpose, rows[0].detail)


async def spend_links_of(tx: Tx, user: UserId, *, undo_too: bool = False) -> None:
    """None of what was mailed to this person before works any more, but for what undoes a change of the address."""
    those = _links.c.user_id == user
    await _spend(tx, those if undo_too else and_(those, _links.c.purpose != LinkPurpose.UNDO_EMAIL))


async def is_kept(snapshot: Snapshot, email_normalized: str, *, besides: UserId = NOBODY) -> bool:
    """Whether somebody (not `besides`) gave up this address so lately that they may have it back: until then it is nobody else's."""
    found = await snapshot.first(
        select(_links.c.user_id).where(
            _links.c.purpose == LinkPurpose.UNDO_EMAIL,
            _links.c.detail == email_normalized,
            _links.c.user_id != besides,
            _links.c.spent_at.is_(None),
            _links.c.expires_at > snapshot.now,
        )
    )
    return found is not None


async def lock_links(tx: Tx, user: UserId, purpose: LinkPurpose) -> None:
    """Waits for whoever else is about to act on a link of this person and purpose, spent or not, and keeps others waiting."""
    links = select(_links.c.token_hash).where(_links.c.user_id == user, _links.c.purpose == purpose)
    await tx.all(links.order_by(_links.c.token_hash).with_for_update())


async def _spend(tx: Tx, *those: ColumnElement[bool]) -> Sequence[Any]:
    older = await tx.returning(
        update(_links).where(_links.c.spent_at.is_(None), *those).values(spent_at=tx.now).returning(*_links.c)
    )
    for row in older:
        await strip(tx, row.token_hash)
    return older


def _expired() -> LinkExpired:
    return LinkExpired(
        "This link was already used, replaced by a newer one, or is too old.", remedy="Ask for a new one."
    )
