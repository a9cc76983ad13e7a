"""Inviting people by their addresses, several at once from a pasted list."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bursar import audit, identity, organizations
from bursar.access import Actor, Permission, Role
from bursar.actions._after import Then
from bursar.actions._invitations import mail_invitation
from bursar.actions._standing import enter_locked
from bursar.kernel.errors import BursarError, InvalidField
from bursar.kernel.ids import OrganizationId, OwnerId
from bursar.organizations import AlreadyInvited, Invitation, InvitedTooOften, OrganizationFull
from bursar.storage import Database, Scope, Tx

ADDRESSES_MAX = 200
"""Invited at once."""

_PART = re.compile(r'\s*((?:"[^"\n]*"|[^,;\n"])*)([,;\n]|$)')
_ANGLED = re.compile(r"[^<>]*<([^<>]*)>\s*")


class InviteOutcome(StrEnum):
    INVITED = "invited"
    """The invitation is on its way."""
    ALREADY_MEMBER = "already_member"
    """Whose address it is belongs to the organization."""
    ALREADY_INVITED = "already_invited"
    """An invitation to it waits."""
    BAD_ADDRESS = "bad_address"
    """It is no e-mail address."""
    NO_SEAT = "no_seat"
    """The seats ended before it."""
    TOO_OFTEN = "too_often"
    """It was invited, or too many were, too often within a day."""


@dataclass(frozen=True)
class Invited:
    """What became of one address, as it was written. `text` is the refusal in a sentence, empty for one that is invited."""

    address: str
    outcome: InviteOutcome
    text: str = ""
    invitation: Invitation | None = None


_OUTCOMES: dict[type[BursarError], InviteOutcome] = {
    InvalidField: InviteOutcome.BAD_ADDRESS,
    AlreadyInvited: InviteOutcome.ALREADY_INVITED,
    OrganizationFull: InviteOutcome.NO_SEAT,
    InvitedTooOften: InviteOutcome.TOO_OFTEN,
}


def addresses_in(text: str) -> Sequence[str]:
    """The addresses of a pasted list, in its order, each once: separated by commas, semicolons, line ends or (bare ones) spaces,
    bare or as `Ana Ruiz <ana@example.com>`, with quotes around the name or without, also `Ruiz, Ana <ana@example.com>`.

    What is no address stays in the list as it was written, so that it can be named.
    """
    found: list[str] = []
    name = ""
    for part, separator in _parts(text):
        angled = _ANGLED.fullmatch(part)
        if angled is not None:
            found.append(angled.group(1).strip())
            name = ""
        elif separator == "," and "@" not in part:
            name = f"{name}{part}, "  # the family name of "Ruiz, Ana <ana@example.com>", unless nothing in brackets follows
        else:
            found += [*_lost(name), *(part.split() if "@" in part else [part])]
            name = ""
    found += _lost(name)
    return list({identity.normalize_email(address): address for address in reversed(found) if address}.values())[::-1]


def _parts(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None or match.end() == position:  # a quote that never ends
            yield text[position:].strip(), ""
            return
        position = match.end()
        if match.group(1).strip():
            yield match.group(1).strip(), match.group(2)


def _lost(name: str) -> list[str]:
    return [part.strip() for part in name.split(",") if part.strip()]


async def invite_members(
    database: Database,
    actor: Actor,
    *,
    organization: OrganizationId,
    addresses: Sequence[str],
    role: Role,
    public_url: str,
    then: Then[Sequence[Invited]] | None = None,
) -> Sequence[Invited]:
    """Invites whom it can, in the order given, in one transaction; says of each address what became of it, in the same order.

    One bad line does not keep the others waiting, and when seats run out the first ones have them: that is what people expect of
    a pasted list. Raises `PermissionDenied`, `NoSuchOwner`, `PersonalAccount`; `InvalidField` for no address or too many.
    """
    role = organizations.require_role(role)
    if not addresses:
        raise InvalidField("addresses", "Enter at least one e-mail address.")
    if len(addresses) > ADDRESSES_MAX:
        raise InvalidField("addresses", f"Invite at most {ADDRESSES_MAX} people at once.")
    async with database.begin(Scope(OwnerId(organization))) as tx:
        await enter_locked(tx, actor, organization, Permission.MANAGE_MEMBERS)
        answers = [await _invite(tx, actor, organization, address, role, public_url) for address in addresses]
        if then is not None:
            await then(tx, answers)
        return answers


async def _invite(
    tx: Tx, actor: Actor, organization: OrganizationId, address: str, role: Role, public_url: str
) -> Invited:
    try:
        email = identity.require_email(address)
        user = await identity.find_by_email(tx, email)
        if user is not None and await organizations.find_role(tx, organization, user.id) is not None:
            return Invited(address, InviteOutcome.ALREADY_MEMBER, f"{user.name} is a member already.")
        invitation, token = await organizations.invite(
            tx,
            organization,
            email=email,
            email_normalized=identity.normalize_email(email),
            role=role,
            invited_by=actor.user or organizations.BY_OPERATOR,
        )
    except (InvalidField, AlreadyInvited, OrganizationFull, InvitedTooOften) as refusal:
        return Invited(address, _OUTCOMES[type(refusal)], refusal.sentence)
    await mail_invitation(tx, invitation, token, public_url)
    await audit.record(
        tx, actor, OwnerId(organization), "invitation.created", invitation.id, email=email, role=role.value
    )
    return Invited(address, InviteOutcome.INVITED, invitation=invitation)
