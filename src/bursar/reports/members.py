"""Who is in an organization, who is invited, and what waits for a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bursar import identity, keys, organizations
from bursar.access import Role
from bursar.identity import User
from bursar.kernel.ids import OrganizationId, OwnerId, UserId
from bursar.keys import Key
from bursar.organizations import BY_OPERATOR, Invitation, Seats
from bursar.reports.people import Person
from bursar.storage import Snapshot


@dataclass(frozen=True)
class MemberRow:
    person: Person
    role: Role
    since: datetime


@dataclass(frozen=True)
class InvitationRow:
    """`inviter` as others know them; `counts`: they still may invite, so that the link works."""

    invitation: Invitation
    inviter: str
    counts: bool


@dataclass(frozen=True)
class Members:
    """Members longest first; `invitations`, those that wait and those that expired, for whoever may see them."""

    seats: Seats
    members: Sequence[MemberRow]
    invitations: Sequence[InvitationRow]


@dataclass(frozen=True)
class WaitingInvitation:
    """One that waits for a person's verified address."""

    invitation: Invitation
    organization: str
    inviter: str


async def members_of(snapshot: Snapshot, organization: OrganizationId) -> Members:
    """Raises `NoSuchOrganization`."""
    members = await organizations.list_members(snapshot, organization)
    invitations = await organizations.list_pending(snapshot, organization)
    users = await identity.users_by_id(
        snapshot, {member.user for member in members} | {each.invited_by for each in invitations}
    )
    admins = {member.user for member in members if member.role is Role.ADMIN} | {BY_OPERATOR}
    return Members(
        await organizations.count_seats(snapshot, organization),
        [MemberRow(_person(users[member.user]), member.role, member.since) for member in members],
        [InvitationRow(each, _name(users.get(each.invited_by)), each.invited_by in admins) for each in invitations],
    )


async def member_and_keys(
    snapshot: Snapshot, organization: OrganizationId, user: UserId
) -> tuple[MemberRow, Sequence[Key]]:
    """A member, and the keys they created that are not deleted. Raises `NoSuchMember`."""
    member = await organizations.get_member(snapshot, organization, user)
    made = await keys.list_keys(snapshot, OwnerId(organization), creator=user)
    return MemberRow(_person(await identity.get_user(snapshot, user)), member.role, member.since), made


async def waiting_invitations(snapshot: Snapshot, user: User) -> Sequence[WaitingInvitation]:
    """In system scope. Nothing for an address that is not verified; newest first."""
    if not user.is_verified:
        return []
    found = await organizations.list_waiting_for(snapshot, identity.normalize_email(user.email))
    inviters = await identity.users_by_id(snapshot, {each.invited_by for each in found})
    return [
        WaitingInvitation(
            each,
            (await organizations.get_organization(snapshot, each.organization)).name,
            _name(inviters.get(each.invited_by)),
        )
        for each in found
    ]


@dataclass(frozen=True)
class OpenInvitation:
    """What the link of an invitation shows. `account`: the user of the invited address, verified or not."""

    invitation: Invitation
    organization: str
    inviter: str
    account: User | None


async def open_invitation(snapshot: Snapshot, invitation: Invitation) -> OpenInvitation:
    """In system scope."""
    return OpenInvitation(
        invitation,
        (await organizations.get_organization(snapshot, invitation.organization)).name,
        _name(await identity.find_user(snapshot, invitation.invited_by)),
        await identity.find_by_email(snapshot, invitation.email),
    )


def _person(user: User) -> Person:
    return Person(user.id, user.name, user.email)


def _name(user: User | None) -> str:
    return "The operator of this installation" if user is None else user.name
