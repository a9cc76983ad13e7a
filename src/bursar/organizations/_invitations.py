"""Invitations: by e-mail address, with a role, for seven days.

The token in the mail is 256 random bits, hashed at rest, good once and until a newer one replaces it. An invitation is pending
until it is accepted, declined or revoked; that it expired is not stored but follows from the time. One address has at most one
that is pending in an organization. Whoever changes one holds the organization's lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select, update

from bursar.access import Role
from bursar.kernel.errors import Conflict, NotFound, TooMany
from bursar.kernel.ids import InvitationId, OrganizationId, UserId, new_invitation_id
from bursar.kernel.secrets import hash_secret, mint_token
from bursar.organizations import tables
from bursar.organizations._seats import count_seats, require_free_seat
from bursar.storage import Snapshot, Tx, strip

INVITATION_LIFETIME = timedelta(days=7)
RESEND_AFTER = timedelta(minutes=5)
"""An invitation is not sent again sooner."""
TO_ONE_ADDRESS_A_DAY_MAX = 5
"""New invitations of one organization to one address in 24 hours: revoking and inviting anew is no way to flood somebody."""
A_DAY_MIN = 100
"""Every organization may send so many new invitations in 24 hours; a large one, twice its seats."""
BY_OPERATOR = UserId("operator")
"""Stands for the inviter where the installation's own command line invited."""

_table = tables.invitations
_DAY = timedelta(days=1)


class InvitationState(StrEnum):
    PENDING = "pending"
    """It waits, and holds a seat."""
    ACCEPTED = "accepted"
    """The person joined."""
    DECLINED = "declined"
    """By whoever it was sent to."""
    REVOKED = "revoked"
    """By an admin."""
    EXPIRED = "expired"
    """It waited too long. Sending it again makes it pending."""

    @property
    def became(self) -> str:
        """What became of one that waits no more, as it goes on after "This invitation"."""
        return {
            InvitationState.ACCEPTED: "was used already",
            InvitationState.DECLINED: "was declined",
            InvitationState.REVOKED: "was revoked",
            InvitationState.EXPIRED: "has expired",
        }[self]


@dataclass(frozen=True)
class Invitation:
    """`email` as it was written, `email_normalized` what it is compared by. `closed_at`: when it was accepted, declined or revoked."""

    organization: OrganizationId
    id: InvitationId
    email: str
    email_normalized: str
    role: Role
    invited_by: UserId
    created_at: datetime
    sent_at: datetime
    expires_at: datetime
    state: InvitationState
    closed_at: datetime | None = None
    accepted_by: UserId | None = None


class NoSuchInvitation(NotFound):
    """There is no such invitation, or it is not the asker's to know."""


class AlreadyInvited(Conflict):
    """An invitation to this address waits already."""


class InvitationClosed(Conflict):
    """It was accepted, declined or revoked, or it expired."""

    def __init__(self, state: InvitationState) -> None:
        said = "was accepted already" if state is InvitationState.ACCEPTED else state.became
        super().__init__(f"This invitation {said}.", remedy="An admin can send a new one.", state=state.value)
        self.state = state


class InvitedTooOften(TooMany):
    """The same address, or too many in all, within too short a time."""


async def invite(
    tx: Tx, organization: OrganizationId, *, email: str, email_normalized: str, role: Role, invited_by: UserId
) -> tuple[Invitation, str]:
    """A new invitation, which takes a seat, and its token. One to the same address that expired is sent anew instead.

    Raises `AlreadyInvited`, `OrganizationFull`, `InvitedTooOften`.
    """
    earlier = await find_pending(tx, organization, email_normalized)
    if earlier is not None and earlier.state is InvitationState.PENDING:
        raise AlreadyInvited(f"{email} is invited already.", remedy="Send the invitation again, or revoke it.")
    await require_free_seat(tx, organization)
    if earlier is not None:
        return await _renew(tx, earlier, role=role, invited_by=invited_by)
    await _require_moderation(tx, organization, email_normalized)
    token = mint_token()
    invitation = Invitation(
        organization=organization,
        id=new_invitation_id(tx.now),
        email=email,
        email_normalized=email_normalized,
        role=role,
        invited_by=invited_by,
        created_at=tx.now,
        sent_at=tx.now,
        expires_at=tx.now + INVITATION_LIFETIME,
        state=InvitationState.PENDING,
    )
    await tx.execute(
        _table.insert().values(
            organization_id=organization,
            id=invitation.id,
            email=email,
            email_normalized=email_normalized,
            role=role.value,
            token_hash=hash_secret(token),
            invited_by=invited_by,
            created_at=invitation.created_at,
            sent_at=invitation.sent_at,
            expires_at=invitation.expires_at,
            state=invitation.state.value,
        )
    )
    return invitation, token


async def resend(tx: Tx, invitation: Invitation, *, invited_by: UserId) -> tuple[Invitation, str]:
    """The invitation, good for its whole time again, and its new token; the old one is dead. Whoever sends it again answers for it.

    Raises `InvitationClosed`, `InvitedTooOften`; `OrganizationFull` for one that expired, whose seat was given back.
    """
    if invitation.state not in (InvitationState.PENDING, InvitationState.EXPIRED):
        raise InvitationClosed(invitation.state)
    wait = invitation.sent_at + RESEND_AFTER - tx.now
    if wait > timedelta(0):
        raise InvitedTooOften(
            "It was sent a moment ago.",
            remedy="Mail can take some minutes; look into the spam folder too.",
            retry_after_seconds=int(wait.total_seconds()) + 1,
        )
    if invitation.state is InvitationState.EXPIRED:
        await require_free_seat(tx, invitation.organization)
    return await _renew(tx, invitation, role=invitation.role, invited_by=invited_by)


async def close(tx: Tx, invitation: Invitation, state: InvitationState, *, accepted_by: UserId | None = None) -> None:
    """To accepted, declined or revoked; exactly one caller succeeds. Raises `InvitationClosed`."""
    open_still = [_table.c.state == InvitationState.PENDING]
    if state is not InvitationState.REVOKED:  # an admin may tidy away what expired
        open_still.append(_table.c.expires_at > tx.now)
    rows = await tx.returning(
        update(_table)
        .where(_table.c.organization_id == invitation.organization, _table.c.id == invitation.id, *open_still)
        .values(state=state.value, closed_at=tx.now, accepted_by=accepted_by)
        .returning(_table.c.token_hash)
    )
    if not rows:
        raise InvitationClosed((await get_invitation(tx, invitation.organization, invitation.id)).state)
    await strip(tx, rows[0].token_hash)


async def get_invitation(snapshot: Snapshot, organization: OrganizationId, invitation: InvitationId) -> Invitation:
    """Raises `NoSuchInvitation`."""
    row = await snapshot.first(
        select(_table).where(_table.c.organization_id == organization, _table.c.id == invitation)
    )
    if row is None:
        raise NoSuchInvitation("There is no such invitation here.", remedy="Go back to the list of members.")
    return _invitation(row, snapshot.now)


async def find_by_token(snapshot: Snapshot, token: str) -> Invitation | None:
    """The invitation whose newest token this is, whatever became of it."""
    row = await snapshot.first(select(_table).where(_table.c.token_hash == hash_secret(token)))
    return None if row is None else _invitation(row, snapshot.now)


async def find_pending(snapshot: Snapshot, organization: OrganizationId, email_normalized: str) -> Invitation | None:
    """The one that waits for this address, or waited until it expired."""
    row = await snapshot.first(
        select(_table).where(
            _table.c.organization_id == organization,
            _table.c.email_normalized == email_normalized,
            _table.c.state == InvitationState.PENDING,
        )
    )
    return None if row is None else _invitation(row, snapshot.now)


async def list_pending(snapshot: Snapshot, organization: OrganizationId) -> Sequence[Invitation]:
    """What waits, and what waited until it expired; oldest first."""
    rows = await snapshot.all(
        select(_table)
        .where(_table.c.organization_id == organization, _table.c.state == InvitationState.PENDING)
        .order_by(_table.c.id)
    )
    return [_invitation(row, snapshot.now) for row in rows]


async def list_waiting_for(snapshot: Snapshot, email_normalized: str) -> Sequence[Invitation]:
    """What waits for an address, in every organization, and has not expired; newest first. Ask with a verified address only."""
    rows = await snapshot.all(
        select(_table)
        .where(
            _table.c.email_normalized == email_normalized,
            _table.c.state == InvitationState.PENDING,
            _table.c.expires_at > snapshot.now,
        )
        .order_by(_table.c.id.desc())
    )
    return [_invitation(row, snapshot.now) for row in rows]


async def _renew(tx: Tx, invitation: Invitation, *, role: Role, invited_by: UserId) -> tuple[Invitation, str]:
    token = mint_token()
    mine = (_table.c.organization_id == invitation.organization, _table.c.id == invitation.id)
    await strip(tx, str(await tx.scalar(select(_table.c.token_hash).where(*mine))))
    changed = {"role": role, "invited_by": invited_by, "sent_at": tx.now, "expires_at": tx.now + INVITATION_LIFETIME}
    await tx.execute(update(_table).where(*mine).values(token_hash=hash_secret(token), **changed))
    return await get_invitation(tx, invitation.organization, invitation.id), token


async def _require_moderation(snapshot: Snapshot, organization: OrganizationId, email_normalized: str) -> None:
    """Raises `InvitedTooOften`: mail to strangers is not for an organization's admins to send without end."""
    lately = (_table.c.organization_id == organization, _table.c.created_at > snapshot.now - _DAY)
    count = select(func.count()).select_from(_table).where(*lately)
    to_address = int(await snapshot.scalar(count.where(_table.c.email_normalized == email_normalized)))
    seats = await count_seats(snapshot, organization)
    if to_address >= TO_ONE_ADDRESS_A_DAY_MAX:
        raise InvitedTooOften(
            f"This address was invited {to_address} times within a day.",
            remedy="Try again tomorrow.",
            retry_after_seconds=int(_DAY.total_seconds()),
        )
    if int(await snapshot.scalar(count)) >= max(A_DAY_MIN, 2 * seats.maximum):
        raise InvitedTooOften(
            "The organization sent as many invitations as it may in a day.",
            remedy="Try again tomorrow.",
            retry_after_seconds=int(_DAY.total_seconds()),
        )


def _invitation(row: Any, now: datetime) -> Invitation:
    state = InvitationState(row.state)
    if state is InvitationState.PENDING and row.expires_at <= now:
        state = InvitationState.EXPIRED
    return Invitation(
        organization=OrganizationId(row.organization_id),
        id=InvitationId(row.id),
        email=row.email,
        email_normalized=row.email_normalized,
        role=Role(row.role),
        invited_by=UserId(row.invited_by),
        created_at=row.created_at,
        sent_at=row.sent_at,
        expires_at=row.expires_at,
        state=state,
        closed_at=row.closed_at,
        accepted_by=None if row.accepted_by is None else UserId(row.accepted_by),
    )
