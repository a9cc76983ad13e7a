"""Inviting, joining, roles, and what happens when a membership ends."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text

from bursar import actions, activity, audit, identity, keys, organizations, storage
from bursar.access import Actor, PermissionDenied, Role
from bursar.actions import (
    EmailNotVerified,
    InvitationGone,
    Invited,
    InvitedSomebodyElse,
    InviteOutcome,
    InviterMayNot,
    Joined,
    NobodyToHandOverTo,
    NoSuchOwner,
    PersonalAccount,
    ThatIsYou,
    addresses_in,
)
from bursar.activity import Generation, GenerationStatus
from bursar.audit import Change
from bursar.identity import EmailTaken, Passwords, User
from bursar.kernel.errors import BursarError, Forbidden, InvalidField, NotFound
from bursar.kernel.ids import InvitationId, OrganizationId, OwnerId, UserId, new_generation_id
from bursar.kernel.money import Nanos
from bursar.keys import Key, KeyChecker, KeyKind
from bursar.organizations import InvitationClosed, InvitedTooOften, LastAdminStays, NoSuchInvitation, NoSuchMember
from bursar.storage import SYSTEM, Database, Scope
from tests.conftest import Cast
from tests.support.scale import scaled

pytestmark = pytest.mark.anyio

URL = "https://bursar.example"
PASSWORD = "a long enough password"


async def invite(
    database: Database, cast: Cast, *addresses: str, role: Role = Role.MEMBER, by: User | None = None
) -> Sequence[Invited]:
    return await actions.invite_members(
        database,
        cast.actor(by or cast.admin),
        organization=cast.acme.id,
        addresses=addresses,
        role=role,
        public_url=URL,
    )


async def mails(database: Database) -> list[dict[str, Any]]:
    """What leaves now; each once."""
    found = []
    while taken := await storage.take(database):
        found += [message.payload for message in taken]
    return found


async def token_for(database: Database, cast: Cast, email: str, role: Role = Role.MEMBER) -> str:
    """Of a new invitation, as it stands in the mail."""
    [invited] = await invite(database, cast, email, role=role)
    assert invited.outcome is InviteOutcome.INVITED
    [mail] = [mail for mail in await mails(database) if mail and mail["to"] == email]
    return str(mail["link"]).partition("token=")[2]


async def add_user(database: Database, email: str, *, verified: bool = True, password: str | None = None) -> User:
    async with database.begin(SYSTEM) as tx:
        return await identity.add_user(tx, email=email, name="New Person", password_hash=password, verified=verified)


async def accept(database: Database, cast: Cast, user: User, token: str) -> Joined:
    return await actions.accept_invitation(database, cast.actor(user), token=token)


async def leave(database: Database, cast: Cast, user: User) -> actions.Departure:
    return await actions.leave_organization(database, cast.actor(user), organization=cast.acme.id, public_url=URL)


async def remove(
    database: Database, cast: Cast, user: User, *, by: User | None = None, hand_over: bool = False
) -> actions.Departure:
    return await actions.remove_member(
        database,
        cast.actor(by or cast.admin),
        organization=cast.acme.id,
        member=user.id,
        hand_over_keys=hand_over,
        public_url=URL,
    )


async def change_role(database: Database, cast: Cast, user: User, role: Role, *, by: User | None = None) -> None:
    await actions.change_role(
        database,
        cast.actor(by or cast.admin),
        organization=cast.acme.id,
        member=user.id,
        role=role,
        public_url=URL,
    )


async def roles(database: Database, cast: Cast) -> dict[UserId, Role]:
    async with database.snapshot(SYSTEM) as snapshot:
        return {each.user: each.role for each in await organizations.list_members(snapshot, cast.acme.id)}


async def recorded(database: Database, owner: OwnerId) -> list[audit.AuditEvent]:
    async with database.snapshot(Scope(owner)) as snapshot:
        return list(await audit.list_events(snapshot, owner))


async def set_cap(database: Database, maximum: int) -> None:
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text(f"UPDATE organizations SET seats_max = {maximum}"))


# A pasted list.


@pytest.mark.parametrize(
    ("pasted", "expected"),
    [
        ("a@x.example", ["a@x.example"]),
        ("a@x.example, b@x.example;c@x.example\nd@x.example", [f"{c}@x.example" for c in "abcd"]),
        ("a@x.example b@x.example\r\n\r\n  c@x.example  ", [f"{c}@x.example" for c in "abc"]),
        ("Ana Ruiz <a@x.example>, b@x.example", ["a@x.example", "b@x.example"]),
        ('"Ruiz, Ana; boss" <a@x.example>\n<b@x.example>', ["a@x.example", "b@x.example"]),
        ("Ruiz, Ana <a@x.example>; Novák, T. <b@x.example>", ["a@x.example", "b@x.example"]),
        ("a@x.example, A@X.example", ["a@x.example"]),
        ("Ana, b@x.example", ["Ana", "b@x.example"]),
        ("Ana\nb@x.example, Tomas", ["Ana", "b@x.example", "Tomas"]),
        ('"never closed <a@x.example>', ['"never closed <a@x.example>']),
        (" , ;\n", []),
        ("", []),
    ],
)
def test_a_pasted_list_is_read_as_people_write_it(pasted: str, expected: list[str]):
    found = list(addresses_in(pasted))
    if expected and expected[0].startswith('"'):
        assert len(found) == 1  # named as it is, and refused as an address
        return
    assert found == expected


def test_a_long_pasted_list_is_read_at_once():
    assert len(addresses_in(", ".join(f'"x" <u{number}@x.example>' for number in range(2_000)))) == 2_000
    assert addresses_in('"' * 60_000)
    assert addresses_in('"a"' * 20_000)


# Inviting.


async def test_each_address_of_a_list_is_answered_and_the_good_ones_are_invited(database: Database, cast: Cast):
    await invite(database, cast, "waiting@example.com")
    await set_cap(database, 5)
    answers = await invite(
        database,
        cast,
        "new@example.com",
        "no address",
        "Tomas@example.com",
        "waiting@example.com",
        "last@example.com",
        "late@example.com",
    )
    assert [answer.outcome for answer in answers] == [
        InviteOutcome.INVITED,
        InviteOutcome.BAD_ADDRESS,
        InviteOutcome.ALREADY_MEMBER,
        InviteOutcome.ALREADY_INVITED,
        InviteOutcome.INVITED,
        InviteOutcome.NO_SEAT,
    ]
    assert all(answer.text or answer.outcome is InviteOutcome.INVITED for answer in answers)
    sent = await mails(database)
    assert [mail["to"] for mail in sent] == ["waiting@example.com", "new@example.com", "last@example.com"]
    assert "Ana Test (ana@example.com) invites you to join Acme Robotics" in sent[1]["text"]
    created = [event for event in await recorded(database, cast.owner) if event.action == "invitation.created"]
    assert [event.details["email"] for event in reversed(created)] == [mail["to"] for mail in sent]


async def test_only_admins_invite_and_the_refusal_names_them(database: Database, cast: Cast):
    with pytest.raises(PermissionDenied) as refusal:
        await invite(database, cast, "new@example.com", by=cast.member)
    assert "ana@example.com" in (refusal.value.remedy or "")
    with pytest.raises(NoSuchOwner) as foreign:
        await invite(database, cast, "new@example.com", by=cast.stranger)
    with pytest.raises(NoSuchOwner) as absent:
        await actions.invite_members(
            database,
            cast.actor(cast.admin),
            organization=OrganizationId("org_none"),
            addresses=["new@example.com"],
            role=Role.MEMBER,
            public_url=URL,
        )
    assert (str(foreign.value), foreign.value.remedy) == (str(absent.value), absent.value.remedy)
    with pytest.raises(PersonalAccount):
        await actions.invite_members(
            database,
            cast.actor(cast.admin),
            organization=OrganizationId(cast.admin.id),
            addresses=["new@example.com"],
            role=Role.MEMBER,
            public_url=URL,
        )
    assert await mails(database) == []


@pytest.mark.parametrize("addresses", [[], [f"u{number}@example.com" for number in range(201)]])
async def test_nobody_or_too_many_at_once_is_wrong_in_its_field(database: Database, cast: Cast, addresses: list[str]):
    with pytest.raises(InvalidField) as refusal:
        await invite(database, cast, *addresses)
    assert refusal.value.field == "addresses"


async def test_nobody_is_invited_into_a_role_that_no_organization_has(database: Database, cast: Cast):
    with pytest.raises(InvalidField):
        await invite(database, cast, "new@example.com", role=Role.PERSONAL)


async def test_an_invitation_that_left_no_more_works_after_it_was_sent_anew(
    database: Database, cast: Cast, monkeypatch: pytest.MonkeyPatch
):
    from datetime import timedelta

    from bursar.organizations import _invitations

    [invited] = await invite(database, cast, "new@example.com")
    assert invited.invitation is not None

    async def resend(by: User) -> organizations.Invitation:
        assert invited.invitation is not None
        return await actions.resend_invitation(
            database, cast.actor(by), organization=cast.acme.id, invitation=invited.invitation.id, public_url=URL
        )

    with pytest.raises(InvitedTooOften):
        await resend(cast.admin)
    monkeypatch.setattr(_invitations, "RESEND_AFTER", timedelta(0))
    await resend(cast.admin)
    with pytest.raises(PermissionDenied):
        await resend(cast.member)
    # The first message had not left: only the second does.
    sent = [mail for mail in await mails(database) if mail]
    assert len(sent) == 1
    newest = sent[0]["link"].partition("token=")[2]
    await resend(cast.admin)
    user = await add_user(database, "new@example.com")
    with pytest.raises(InvitationGone):
        await accept(database, cast, user, newest)
    assert [event.action for event in await recorded(database, cast.owner)].count("invitation.resent") == 2


async def test_a_revoked_invitation_is_dead_and_says_whom_to_ask(database: Database, cast: Cast):
    token = await token_for(database, cast, "sasha@example.com")
    async with database.snapshot(SYSTEM) as snapshot:
        [waiting] = await organizations.list_pending(snapshot, cast.acme.id)

    async def revoke(by: User, invitation: InvitationId) -> None:
        await actions.revoke_invitation(database, cast.actor(by), organization=cast.acme.id, invitation=invitation)

    with pytest.raises(PermissionDenied):
        await revoke(cast.member, waiting.id)
    with pytest.raises(NoSuchInvitation):
        await revoke(cast.admin, InvitationId("inv_none"))
    await revoke(cast.admin, waiting.id)
    with pytest.raises(InvitationClosed):
        await revoke(cast.admin, waiting.id)
    with pytest.raises(InvitationGone, match="revoked") as gone:
        await accept(database, cast, cast.stranger, token)
    assert "Ana Test (ana@example.com)" in str(gone.value.remedy)
    assert cast.stranger.id not in await roles(database, cast)


# Joining.


async def test_an_invited_person_joins_with_the_role_they_were_invited_to(database: Database, cast: Cast):
    token = await token_for(database, cast, "Sasha@Example.com", Role.ADMIN)
    joined = await accept(database, cast, cast.stranger, token)
    assert (joined.organization.id, joined.role) == (cast.acme.id, Role.ADMIN)
    assert (await roles(database, cast))[cast.stranger.id] is Role.ADMIN
    for owner in (cast.owner, OwnerId(cast.stranger.id)):
        newest = (await recorded(database, owner))[0]
        assert (newest.action, newest.actor.user) == ("invitation.accepted", cast.stranger.id)
    with pytest.raises(InvitationGone, match="used already"):
        await accept(database, cast, cast.stranger, token)


async def test_it_is_bound_to_its_address(database: Database, cast: Cast):
    token = await token_for(database, cast, "new@example.com")
    with pytest.raises(InvitedSomebodyElse) as refusal:
        await accept(database, cast, cast.stranger, token)
    assert "new@example.com" in str(refusal.value)
    assert "sasha@example.com" in str(refusal.value)
    assert cast.stranger.id not in await roles(database, cast)
    with pytest.raises(InvitationGone):
        await accept(database, cast, cast.stranger, "no such token")


async def test_the_link_proves_the_address_of_somebody_who_had_yet_to_verify_it(database: Database, cast: Cast):
    token = await token_for(database, cast, "new@example.com")
    user = await add_user(database, "new@example.com", verified=False)
    joined = await accept(database, cast, user, token)
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await identity.get_user(snapshot, user.id)).is_verified
    assert joined.role is Role.MEMBER


async def test_one_invitation_accepted_twice_at_once_counts_once(database: Database, cast: Cast):
    token = await token_for(database, cast, "sasha@example.com")
    results = await asyncio.gather(
        *(accept(database, cast, cast.stranger, token) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, Joined) for result in results) == 1
    assert sum(isinstance(result, InvitationGone) for result in results) == 7
    accepted = [event for event in await recorded(database, cast.owner) if event.action == "invitation.accepted"]
    assert len(accepted) == 1


async def test_accepting_and_revoking_at_once_does_one_of_the_two(database: Database, cast: Cast):
    for _ in range(5):
        token = await token_for(database, cast, "sasha@example.com")
        async with database.snapshot(SYSTEM) as snapshot:
            [waiting] = await organizations.list_pending(snapshot, cast.acme.id)
        results = await asyncio.gather(
            accept(database, cast, cast.stranger, token),
            actions.revoke_invitation(
                database, cast.actor(cast.admin), organization=cast.acme.id, invitation=waiting.id
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(result, BursarError) for result in results) == 1
        is_member = cast.stranger.id in await roles(database, cast)
        assert is_member == isinstance(results[0], Joined)
        if is_member:
            await leave(database, cast, cast.stranger)
            await mails(database)


async def test_of_fifty_at_once_for_the_last_seat_exactly_one_joins(database: Database, cast: Cast):
    await set_cap(database, 60)
    addresses = [f"u{number}@example.com" for number in range(50)]
    users = [await add_user(database, address) for address in addresses]
    await invite(database, cast, *addresses)
    tokens = {mail["to"]: mail["link"].partition("token=")[2] for mail in await mails(database)}
    await set_cap(database, 3)  # the operator lowered it: there is one seat now, and fifty may come
    results = await asyncio.gather(
        *(accept(database, cast, user, tokens[user.email]) for user in users), return_exceptions=True
    )
    assert sum(isinstance(result, Joined) for result in results) == 1
    assert sum(isinstance(result, organizations.OrganizationFull) for result in results) == 49
    assert len(await roles(database, cast)) == 3


async def test_the_inviters_right_is_looked_at_again(database: Database, cast: Cast):
    token = await token_for(database, cast, "sasha@example.com")
    await change_role(database, cast, cast.member, Role.ADMIN)
    await change_role(database, cast, cast.admin, Role.MEMBER, by=cast.member)
    with pytest.raises(InviterMayNot) as refusal:
        await accept(database, cast, cast.stranger, token)
    assert "tomas@example.com" in str(refusal.value.remedy)
    await remove(database, cast, cast.admin, by=cast.member)
    with pytest.raises(InviterMayNot):
        await accept(database, cast, cast.stranger, token)
    assert cast.stranger.id not in await roles(database, cast)


async def test_what_the_operator_invited_to_counts_too(database: Database, cast: Cast):
    await actions.invite_members(
        database,
        Actor.operator(),
        organization=cast.acme.id,
        addresses=["sasha@example.com"],
        role=Role.MEMBER,
        public_url=URL,
    )
    [mail] = await mails(database)
    assert "The operator of this installation invites you" in mail["text"]
    await accept(database, cast, cast.stranger, mail["link"].partition("token=")[2])
    assert cast.stranger.id in await roles(database, cast)


async def test_what_waits_for_ones_verified_address_is_accepted_without_the_link(database: Database, cast: Cast):
    await invite(database, cast, "sasha@example.com", "new@example.com")
    async with database.snapshot(SYSTEM) as snapshot:
        mine, other = await organizations.list_pending(snapshot, cast.acme.id)
    unverified = await add_user(database, "new@example.com", verified=False)
    with pytest.raises(EmailNotVerified):
        await actions.accept_waiting_invitation(database, cast.actor(unverified), invitation=other.id)
    answers = []
    for foreign in (other.id, InvitationId("inv_none")):
        with pytest.raises(NoSuchInvitation) as refusal:
            await actions.accept_waiting_invitation(database, cast.actor(cast.stranger), invitation=foreign)
        answers.append((str(refusal.value), refusal.value.remedy))
    assert answers[0] == answers[1]
    joined = await actions.accept_waiting_invitation(database, cast.actor(cast.stranger), invitation=mine.id)
    assert joined.organization.id == cast.acme.id
    with pytest.raises(Forbidden):
        await actions.accept_waiting_invitation(database, Actor.operator(), invitation=other.id)


async def test_declining_frees_the_seat_by_the_link_or_from_the_list(database: Database, cast: Cast):
    token = await token_for(database, cast, "new@example.com")
    await actions.decline_invitation(database, token=token, address="192.0.2.9")
    with pytest.raises(InvitationGone, match="declined"):
        await actions.decline_invitation(database, token=token, address=None)
    await invite(database, cast, "sasha@example.com")
    async with database.snapshot(SYSTEM) as snapshot:
        [mine] = await organizations.list_pending(snapshot, cast.acme.id)
    with pytest.raises(NoSuchInvitation):
        await actions.decline_waiting_invitation(database, cast.actor(cast.member), invitation=mine.id)
    await actions.decline_waiting_invitation(database, cast.actor(cast.stranger), invitation=mine.id)
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await organizations.count_seats(snapshot, cast.acme.id)).pending == 0
    declined = [event for event in await recorded(database, cast.owner) if event.action == "invitation.declined"]
    assert [event.actor.address for event in reversed(declined)] == ["192.0.2.9", "192.0.2.1"]


async def test_a_new_person_signs_up_by_the_link_and_is_verified_and_in(
    database: Database, cast: Cast, passwords: Passwords
):
    token = await token_for(database, cast, "New@example.com")

    async def sign_up(password: str = PASSWORD) -> Joined:
        return await actions.join_by_invitation(
            database, passwords, token=token, name="Nora New", password=password, address="192.0.2.7"
        )

    with pytest.raises(InvalidField):
        await sign_up("short")
    joined = await sign_up()
    assert (joined.user.email, joined.user.is_verified) == ("New@example.com", True)
    assert (await roles(database, cast))[joined.user.id] is Role.MEMBER
    with pytest.raises(InvitationGone):
        await sign_up()
    assert await actions.sign_in(
        database, passwords, email="new@example.com", password=PASSWORD, address=None, user_agent=None
    )


async def test_nobody_signs_up_over_an_account_that_proved_its_address(
    database: Database, cast: Cast, passwords: Passwords
):
    token = await token_for(database, cast, "sasha@example.com")
    with pytest.raises(EmailTaken):
        await actions.join_by_invitation(
            database, passwords, token=token, name="Mallory", password=PASSWORD, address=None
        )
    await accept(database, cast, cast.stranger, token)


async def test_who_took_an_address_that_was_not_theirs_gives_way_to_its_reader(
    database: Database, cast: Cast, passwords: Passwords, checker: KeyChecker
):
    """A stranger signs up with somebody's address before that person is invited: nothing of theirs is left in the account."""
    squatter = await add_user(
        database, "new@example.com", verified=False, password=await passwords.hash("the stranger's password")
    )
    session = await actions.sign_in(
        database,
        passwords,
        email="new@example.com",
        password="the stranger's password",
        address=None,
        user_agent=None,
    )
    key, _ = await actions.create_key(
        database, checker, cast.actor(squatter), owner=OwnerId(squatter.id), creator=squatter.id, name="trap"
    )
    heard: list[str] = []
    database.changes.subscribe("key", lambda change: heard.append(change.subject))
    token = await token_for(database, cast, "new@example.com")
    joined = await actions.join_by_invitation(
        database, passwords, token=token, name="Nora New", password=PASSWORD, address=None
    )
    assert joined.user.name == "Nora New"
    async with database.snapshot(SYSTEM) as snapshot:
        assert await identity.find_session(snapshot, session) is None
        [kept] = await keys.list_keys(snapshot, OwnerId(squatter.id))
    assert not kept.is_usable
    assert heard == [key.hash]
    with pytest.raises(actions.InvalidSignIn):
        await actions.sign_in(
            database,
            passwords,
            email="new@example.com",
            password="the stranger's password",
            address=None,
            user_agent=None,
        )


async def test_the_operator_adding_somebody_uses_up_the_invitation_that_waits_for_them(database: Database, cast: Cast):
    await set_cap(database, 3)
    token = await token_for(database, cast, "sasha@example.com")
    await actions.add_member(
        database, Actor.operator(), organization=cast.acme.id, user=cast.stranger.id, role=Role.MEMBER
    )
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await organizations.count_seats(snapshot, cast.acme.id)).taken == 3
    with pytest.raises(InvitationGone):
        await accept(database, cast, cast.stranger, token)


# Roles.


async def test_admins_promote_and_demote_and_the_person_is_told(database: Database, cast: Cast):
    await mails(database)
    await change_role(database, cast, cast.member, Role.ADMIN)
    await change_role(database, cast, cast.member, Role.ADMIN)  # no change, no event, no mail
    assert (await roles(database, cast))[cast.member.id] is Role.ADMIN
    await change_role(database, cast, cast.admin, Role.MEMBER, by=cast.member)
    with pytest.raises(PermissionDenied):
        await change_role(database, cast, cast.admin, Role.ADMIN)
    changed = [event for event in await recorded(database, cast.owner) if event.action == "member.role_changed"]
    assert [(event.subject, event.details["role"]) for event in reversed(changed)] == [
        (cast.member.id, Change("member", "admin")),
        (cast.admin.id, Change("admin", "member")),
    ]
    sent = await mails(database)
    assert [(mail["to"], mail["subject"]) for mail in sent] == [
        ("tomas@example.com", "You are now an admin of Acme Robotics"),
        ("ana@example.com", "You are now a member of Acme Robotics"),
    ]
    for foreign in (cast.stranger.id, UserId("user_none")):
        with pytest.raises(NoSuchMember):
            await actions.change_role(
                database,
                cast.actor(cast.member),
                organization=cast.acme.id,
                member=foreign,
                role=Role.ADMIN,
                public_url=URL,
            )


async def test_two_admins_who_demote_each_other_never_leave_none(database: Database, cast: Cast):
    await change_role(database, cast, cast.member, Role.ADMIN)
    pair = (cast.admin, cast.member)
    for _ in range(scaled(200)):
        results = await asyncio.gather(
            change_role(database, cast, pair[0], Role.MEMBER, by=pair[1]),
            change_role(database, cast, pair[1], Role.MEMBER, by=pair[0]),
            return_exceptions=True,
        )
        now = await roles(database, cast)
        admins = [user for user in pair if now[user.id] is Role.ADMIN]
        assert len(admins) == 1, results
        assert sum(isinstance(result, PermissionDenied) for result in results) == 1
        [demoted] = [user for user in pair if user not in admins]
        await change_role(database, cast, demoted, Role.ADMIN, by=admins[0])


async def test_two_admins_who_leave_at_once_never_leave_none(database: Database, cast: Cast):
    await actions.add_member(
        database, Actor.operator(), organization=cast.acme.id, user=cast.stranger.id, role=Role.MEMBER
    )
    await change_role(database, cast, cast.member, Role.ADMIN)
    results = await asyncio.gather(
        leave(database, cast, cast.admin), leave(database, cast, cast.member), return_exceptions=True
    )
    assert sum(isinstance(result, LastAdminStays) for result in results) == 1
    assert list((await roles(database, cast)).values()).count(Role.ADMIN) == 1


async def test_an_admin_who_becomes_a_member_loses_the_management_keys_they_made(
    database: Database, cast: Cast, checker: KeyChecker
):
    await change_role(database, cast, cast.member, Role.ADMIN)
    made = [await create_key(database, checker, cast, cast.member, f"k-{kind}", kind) for kind in KeyKind]
    await mails(database)
    await change_role(database, cast, cast.member, Role.MEMBER)
    now = await all_keys(database, cast)
    assert [now[key.id].is_usable for key in made] == [True, False]
    [mail] = await mails(database)
    assert "k-management" in mail["text"]
    assert "k-inference" not in mail["text"]


# Leaving and being removed.


async def create_key(
    database: Database,
    checker: KeyChecker,
    cast: Cast,
    creator: User,
    name: str,
    kind: KeyKind = KeyKind.INFERENCE,
    owner: OwnerId | None = None,
) -> Key:
    key, _ = await actions.create_key(
        database, checker, cast.actor(creator), owner=owner or cast.owner, creator=creator.id, name=name, kind=kind
    )
    return key


async def all_keys(database: Database, cast: Cast) -> dict[str, Key]:
    async with database.snapshot(Scope(cast.owner)) as snapshot:
        return {key.id: key for key in await keys.list_keys(snapshot, cast.owner)}


async def test_who_leaves_loses_access_and_their_keys_stop_and_the_personal_account_stays(
    database: Database, cast: Cast, checker: KeyChecker
):
    one, two = [await create_key(database, checker, cast, cast.member, name) for name in ("one", "two")]
    of_admin = await create_key(database, checker, cast, cast.admin, "admin's")
    personal = await create_key(database, checker, cast, cast.member, "mine", owner=OwnerId(cast.member.id))
    await actions.set_key_disabled(database, cast.actor(cast.member), owner=cast.owner, key=two.id, disabled=True)
    heard: list[tuple[str, str]] = []
    for kind in ("key", "membership"):
        database.changes.subscribe(kind, lambda change: heard.append((change.kind, change.subject)))
    gone = await leave(database, cast, cast.member)
    assert [key.id for key in gone.disabled] == [one.id]
    assert gone.was.role is Role.MEMBER
    assert sorted(heard) == sorted([("membership", cast.member.id), ("key", one.hash)])
    now = await all_keys(database, cast)
    assert {key: now[key].is_usable for key in now} == {one.id: False, two.id: False, of_admin.id: True}
    async with database.snapshot(SYSTEM) as snapshot:
        assert await organizations.list_of_user(snapshot, cast.member.id) == []
        [kept] = await keys.list_keys(snapshot, OwnerId(cast.member.id))
    assert (kept.id, kept.is_usable) == (personal.id, True)
    for owner in (cast.owner, OwnerId(cast.member.id)):
        [left] = [event for event in await recorded(database, owner) if event.action == "member.left"]
        assert left.details["organization"] == cast.acme.id
    assert "key.disabled" in [event.action for event in await recorded(database, cast.owner)]
    with pytest.raises(NoSuchOwner):
        await leave(database, cast, cast.member)


async def test_the_admins_are_told_which_keys_stopped_what_used_them_and_which_to_rotate(
    database: Database, cast: Cast, checker: KeyChecker
):
    stopped = await create_key(database, checker, cast, cast.member, "invoice-run")
    suspect = await create_key(database, checker, cast, cast.admin, "shared-office")
    elsewhere = await create_key(database, checker, cast, cast.admin, "data-centre")
    async with database.begin(SYSTEM) as tx:
        await identity.open_session(tx, cast.member.id, address="198.51.100.7", user_agent=None)
        for key, address in ((suspect, "198.51.100.7"), (elsewhere, "203.0.113.1")):
            await tx.execute(text(f"UPDATE keys SET last_used_address = '{address}' WHERE id = '{key.id}'"))
        await keys.touch(tx, cast.owner, stopped.id, tx.now)
        await activity.record(
            tx,
            Generation(
                cast.owner,
                new_generation_id(tx.now),
                tx.now,
                stopped.id,
                cast.member.id,
                GenerationStatus.OK,
                "demo/echo-1",
                "demo/echo-1",
                cost_nanos=Nanos(1_230_000_000),
                app_title="Invoice bot",
                external_user="dana",
            ),
        )
    await mails(database)
    gone = await leave(database, cast, cast.member)
    assert [key.id for key in gone.suspects] == [suspect.id]
    [mail] = await mails(database)
    assert (mail["to"], mail["subject"]) == ("ana@example.com", "Tomas Test left Acme Robotics")
    said = mail["text"]
    assert f"invoice-run ({stopped.label})" in said
    assert "1 request for $1.23 in the last 30 days" in said
    assert "Invoice bot for dana" in said
    assert f"{URL}/orgs/acme/keys/{suspect.id}/rotate" in said
    assert "data-centre" not in said
    assert "198.51.100.7" not in said  # from where somebody works is not for a mail


async def test_an_admin_who_removes_somebody_may_take_their_keys_over(
    database: Database, cast: Cast, checker: KeyChecker
):
    key = await create_key(database, checker, cast, cast.member, "production")
    async with database.begin(SYSTEM) as tx:  # used from where they work: named once, as handed over
        await identity.open_session(tx, cast.member.id, address="198.51.100.7", user_agent=None)
        await tx.execute(text("UPDATE keys SET last_used_address = '198.51.100.7'"))
    await mails(database)
    heard: list[str] = []
    database.changes.subscribe("key", lambda change: heard.append(change.subject))
    gone = await remove(database, cast, cast.member, hand_over=True)
    assert [each.id for each in gone.handed_over] == [key.id]
    assert list(gone.disabled) == list(gone.suspects) == []
    now = (await all_keys(database, cast))[key.id]
    assert (now.is_usable, now.creator) == (True, cast.admin.id)
    assert heard == [key.hash]
    [handed] = [event for event in await recorded(database, cast.owner) if event.action == "key.handed_over"]
    assert handed.details["creator"] == Change(cast.member.id, cast.admin.id)
    told = {mail["to"]: mail for mail in await mails(database)}
    assert f"{URL}/orgs/acme/keys/{key.id}/rotate" in told["ana@example.com"]["text"]
    assert told["tomas@example.com"]["subject"] == "You were removed from Acme Robotics"
    assert "personal account" in told["tomas@example.com"]["text"]


async def test_unless_they_say_so_the_keys_stop(database: Database, cast: Cast, checker: KeyChecker):
    key = await create_key(database, checker, cast, cast.member, "production")
    gone = await remove(database, cast, cast.member)
    assert [each.id for each in gone.disabled] == [key.id]
    assert not (await all_keys(database, cast))[key.id].is_usable
    assert "member.removed" in [event.action for event in await recorded(database, OwnerId(cast.member.id))]


async def test_only_admins_remove_and_nobody_removes_themselves_or_a_stranger(database: Database, cast: Cast):
    with pytest.raises(PermissionDenied):
        await remove(database, cast, cast.admin, by=cast.member)
    with pytest.raises(ThatIsYou):
        await remove(database, cast, cast.admin)
    with pytest.raises(NotFound):
        await remove(database, cast, cast.admin, by=cast.stranger)
    with pytest.raises(NoSuchMember):
        await remove(database, cast, cast.stranger)
    with pytest.raises(NobodyToHandOverTo):
        await actions.remove_member(
            database,
            Actor.operator(),
            organization=cast.acme.id,
            member=cast.member.id,
            hand_over_keys=True,
            public_url=URL,
        )
    with pytest.raises(LastAdminStays):
        await leave(database, cast, cast.admin)
    assert len(await roles(database, cast)) == 2


async def test_the_operator_removes_too_and_nothing_secret_is_in_the_books(database: Database, cast: Cast):
    token = await token_for(database, cast, "new@example.com")
    await actions.remove_member(
        database, Actor.operator(), organization=cast.acme.id, member=cast.member.id, public_url=URL
    )
    events = str(await recorded(database, cast.owner))
    assert token not in events
    assert cast.member.id not in await roles(database, cast)
