"""A membership ends: leaving and being removed are one function, only who may differs.

1. The membership ends, unless it is the only admin's.
2. The keys that the person created are disabled, because they know the secrets; or, if an admin says so, handed over to that admin,
   who should rotate them soon.
3. Audit events, in the organization and with the person.
4. The admins are told: whose keys stopped (and what used them lately), and, as a hint, other keys that were last used from where
   this person works. Each has a link to its rotation.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bursar import activity, audit, identity, keys, organizations
from bursar.access import Actor
from bursar.actions._mails import notify
from bursar.actions._standing import admins_of
from bursar.audit import Change
from bursar.identity import User
from bursar.kernel.ids import OrganizationId, OwnerId, UserId
from bursar.kernel.money import format_credits
from bursar.keys import Key
from bursar.mail import KeyNote, member_gone, you_were_removed
from bursar.organizations import Member, Organization
from bursar.storage import Snapshot, Tx

RECENT = timedelta(days=30)
"""How far back it is looked what used a key, and from where the person worked."""
NOTES_MAX = 50
"""Keys named in one message, of each sort."""


@dataclass(frozen=True)
class Departure:
    """Who is gone, and what became of their keys: `disabled` now, `handed_over` (also disabled ones) to the admin who acted.

    `suspects`: other keys of the organization that were last used from that person's addresses. A hint, no more.
    """

    user: User
    was: Member
    organization: Organization
    disabled: Sequence[Key]
    handed_over: Sequence[Key]
    suspects: Sequence[Key]


async def depart(
    tx: Tx, actor: Actor, organization: OrganizationId, member: UserId, *, hand_over_to: UserId | None, public_url: str
) -> Departure:
    """In system scope, with the organization locked and the permission checked. Raises `NoSuchMember`, `LastAdminStays`."""
    owner = OwnerId(organization)
    was = await organizations.end_membership(tx, organization, member)
    made = await keys.list_keys(tx, owner, creator=member)
    gone = Departure(
        user=await identity.get_user(tx, member),
        was=was,
        organization=await organizations.get_organization(tx, organization),
        disabled=[] if hand_over_to else await disable_keys(tx, actor, made),
        handed_over=await _hand_over(tx, actor, made, hand_over_to) if hand_over_to else [],
        suspects=[key for key in await _used_where(tx, owner, member) if key.id not in {each.id for each in made}],
    )
    action = "member.left" if actor.user == member else "member.removed"
    for side in (owner, OwnerId(member)):
        await audit.record(
            tx,
            actor,
            side,
            action,
            member,
            organization=organization,
            role=was.role.value,
            keys_disabled=len(gone.disabled),
            keys_handed_over=len(gone.handed_over),
        )
    await _tell(tx, actor, gone, public_url)
    return gone


async def disable_keys(tx: Tx, actor: Actor, made: Iterable[Key]) -> list[Key]:
    """Those that worked until now; with an audit event each."""
    working = [key for key in made if key.disabled_at is None]
    for key in working:
        await keys.set_disabled(tx, key, disabled=True)
        await audit.record(tx, actor, key.owner, "key.disabled", key.id, name=key.name, creator=key.creator)
    return working


async def _hand_over(tx: Tx, actor: Actor, made: Sequence[Key], to: UserId) -> Sequence[Key]:
    for key in made:
        await keys.hand_over(tx, key, to)
        await audit.record(
            tx, actor, key.owner, "key.handed_over", key.id, name=key.name, creator=Change(key.creator, to)
        )
    return made


async def _used_where(snapshot: Snapshot, owner: OwnerId, member: UserId) -> Sequence[Key]:
    addresses = await identity.addresses_of(snapshot, member)
    addresses |= await audit.addresses_of(snapshot, member, [owner, OwnerId(member)], snapshot.now - RECENT)
    return await keys.list_used_from(snapshot, owner, addresses)


async def _tell(tx: Tx, actor: Actor, gone: Departure, public_url: str) -> None:
    organization = gone.organization
    base = f"{public_url}/orgs/{organization.slug}/keys"
    by = None if actor.user is None else await identity.get_user(tx, actor.user)
    left = by is not None and by.id == gone.user.id

    def rotation(key: Key) -> str:
        return f"{base}/{key.id}/rotate"

    disabled, handed_over, suspects = [
        await to_notes(tx, some[:NOTES_MAX], link)
        for some, link in ((gone.disabled, None), (gone.handed_over, rotation), (gone.suspects, rotation))
    ]
    messages = [
        member_gone(
            admin.email,
            admin.name,
            organization=organization.name,
            who=f"{gone.user.name} ({gone.user.email})",
            removed_by=None if left else _name(by),
            disabled=disabled,
            handed_over=handed_over,
            suspects=suspects,
            keys_page=base,
        )
        for admin in await admins_of(tx, organization.id)
    ]
    if not left:
        messages.append(you_were_removed(gone.user.email, gone.user.name, organization.name, _name(by)))
    await notify(tx, messages)


def _name(by: User | None) -> str:
    return "The operator of this installation" if by is None else f"{by.name} ({by.email})"


async def to_notes(snapshot: Snapshot, some: Sequence[Key], link: Callable[[Key], str] | None) -> Sequence[KeyNote]:
    """What a mail says of keys: what they are called, who made them, and what used them lately."""
    creators = await identity.users_by_id(snapshot, {key.creator for key in some})
    notes = []
    for key in some:
        since = (snapshot.now - RECENT).replace(minute=0, second=0, microsecond=0)
        use = await activity.recent_use(snapshot, key.owner, key.id, since)
        said = "not used in the last 30 days"
        if use.requests:
            many = "1 request" if use.requests == 1 else f"{use.requests:,} requests"
            said = f"{many} for {format_credits(use.cost)} in the last 30 days"
        creator = creators.get(key.creator)
        notes.append(
            KeyNote(
                name=key.name,
                label=key.label,
                creator="a deleted user" if creator is None else creator.name,
                last_used=None if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M} UTC",
                use=said,
                clients=use.clients[:3] if use.requests else [],
                link=None if link is None else link(key),
            )
        )
    return notes
