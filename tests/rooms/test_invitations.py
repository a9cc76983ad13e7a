"""Invitations and memberships: tokens, states, seats, and the last admin who stays."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from bursar import identity, organizations
from bursar.access import Role
from bursar.kernel.clock import FixedClock
from bursar.kernel.errors import BursarError
from bursar.kernel.ids import UserId
from bursar.kernel.secrets import hash_secret
from bursar.organizations import (
    INVITATION_LIFETIME,
    RESEND_AFTER,
    AlreadyInvited,
    Invitation,
    InvitationClosed,
    InvitationState,
    InvitedTooOften,
    LastAdminStays,
    OrganizationFull,
)
from bursar.storage import SYSTEM, Database
from tests.conftest import Cast, make_cast
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio


async def invite(
    database: Database, cast: Cast, email: str = "new@example.com", role: Role = Role.MEMBER
) -> tuple[Invitation, str]:
    async with database.begin(SYSTEM) as tx:
        await organizations.lock(tx, cast.acme.id)
        return await organizations.invite(
            tx,
            cast.acme.id,
            email=email,
            email_normalized=identity.normalize_email(email),
            role=role,
            invited_by=cast.admin.id,
        )


async def close(database: Database, invitation: Invitation, state: InvitationState) -> None:
    async with database.begin(SYSTEM) as tx:
        await organizations.close(tx, invitation, state)


async def resend(database: Database, cast: Cast, invitation: Invitation) -> tuple[Invitation, str]:
    async with database.begin(SYSTEM) as tx:
        found = await organizations.get_invitation(tx, cast.acme.id, invitation.id)
        return await organizations.resend(tx, found, invited_by=cast.admin.id)


async def by_token(database: Database, token: str) -> Invitation | None:
    async with database.snapshot(SYSTEM) as snapshot:
        return await organizations.find_by_token(snapshot, token)


async def seats(database: Database, cast: Cast) -> organizations.Seats:
    async with database.snapshot(SYSTEM) as snapshot:
        return await organizations.count_seats(snapshot, cast.acme.id)


async def cap(database: Database, maximum: int) -> None:
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text(f"UPDATE organizations SET seats_max = {maximum}"))


async def test_a_token_is_kept_as_its_hash_only_and_has_256_bits(database: Database, cast: Cast):
    invitation, token = await invite(database, cast)
    stored = await everything_stored(database)
    assert hash_secret(token) in stored
    assert token not in stored
    assert len(token) == 43  # 256 bits in base 64
    assert await by_token(database, token) == invitation
    assert await by_token(database, token[:-1]) is None


async def test_it_waits_seven_days_and_expires_by_itself(fixed_database: Database, fixed_clock: FixedClock):
    cast = await make_cast(fixed_database)
    invitation, token = await invite(fixed_database, cast)
    assert invitation.expires_at - invitation.created_at == timedelta(days=7)
    fixed_clock.advance(INVITATION_LIFETIME - timedelta(seconds=1))
    found = await by_token(fixed_database, token)
    assert found is not None
    assert found.state is InvitationState.PENDING
    assert (await seats(fixed_database, cast)).pending == 1
    fixed_clock.advance(timedelta(seconds=1))
    found = await by_token(fixed_database, token)
    assert found is not None
    assert found.state is InvitationState.EXPIRED
    assert (await seats(fixed_database, cast)).pending == 0
    with pytest.raises(InvitationClosed, match="expired"):
        await close(fixed_database, found, InvitationState.ACCEPTED)
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        assert list(await organizations.list_waiting_for(snapshot, "new@example.com")) == []
        assert [each.id for each in await organizations.list_pending(snapshot, cast.acme.id)] == [found.id]
    await close(fixed_database, found, InvitationState.REVOKED)
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        assert list(await organizations.list_pending(snapshot, cast.acme.id)) == []


async def test_one_address_has_at_most_one_that_waits_however_it_is_written(database: Database, cast: Cast):
    await invite(database, cast, "Zoë@Example.com")
    with pytest.raises(AlreadyInvited):
        await invite(database, cast, "zoë@example.COM")
    results = await asyncio.gather(
        *(invite(database, cast, "twice@example.com") for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(result, tuple) for result in results) == 1
    assert sum(isinstance(result, AlreadyInvited) for result in results) == 9


async def test_an_expired_one_is_sent_anew_to_the_same_address(fixed_database: Database, fixed_clock: FixedClock):
    cast = await make_cast(fixed_database)
    first, old = await invite(fixed_database, cast)
    fixed_clock.advance(INVITATION_LIFETIME)
    again, token = await invite(fixed_database, cast, role=Role.ADMIN)
    assert (again.id, again.role, again.state) == (first.id, Role.ADMIN, InvitationState.PENDING)
    assert await by_token(fixed_database, old) is None
    assert await by_token(fixed_database, token) == again


async def test_resending_kills_the_old_token_and_is_bounded(fixed_database: Database, fixed_clock: FixedClock):
    cast = await make_cast(fixed_database)
    invitation, old = await invite(fixed_database, cast)
    with pytest.raises(InvitedTooOften) as refusal:
        await resend(fixed_database, cast, invitation)
    assert 0 < refusal.value.retry_after_seconds <= RESEND_AFTER.total_seconds() + 1
    fixed_clock.advance(RESEND_AFTER)
    renewed, token = await resend(fixed_database, cast, invitation)
    assert token != old
    assert await by_token(fixed_database, old) is None
    assert await by_token(fixed_database, token) == renewed
    assert renewed.expires_at == fixed_clock.now() + INVITATION_LIFETIME


async def test_resending_one_that_expired_needs_a_seat_again(fixed_database: Database, fixed_clock: FixedClock):
    cast = await make_cast(fixed_database)
    invitation, _ = await invite(fixed_database, cast)
    fixed_clock.advance(INVITATION_LIFETIME)
    await cap(fixed_database, 2)
    with pytest.raises(OrganizationFull):
        await resend(fixed_database, cast, invitation)
    await cap(fixed_database, 3)
    assert (await resend(fixed_database, cast, invitation))[0].state is InvitationState.PENDING


async def test_nobody_is_flooded_by_revoking_and_inviting_anew(database: Database, cast: Cast):
    for _ in range(5):
        invitation, _ = await invite(database, cast)
        await close(database, invitation, InvitationState.REVOKED)
    with pytest.raises(InvitedTooOften):
        await invite(database, cast)
    await invite(database, cast, "another@example.com")


async def test_nor_is_everybody(database: Database, cast: Cast, monkeypatch: pytest.MonkeyPatch):
    from bursar.organizations import _invitations

    monkeypatch.setattr(_invitations, "A_DAY_MIN", 21)  # twice ten seats are less
    for number in range(21):
        invitation, _ = await invite(database, cast, f"u{number}@example.com")
        await close(database, invitation, InvitationState.REVOKED)
    with pytest.raises(InvitedTooOften, match="in a day"):
        await invite(database, cast, "u21@example.com")


@pytest.mark.parametrize("state", [InvitationState.ACCEPTED, InvitationState.DECLINED, InvitationState.REVOKED])
async def test_it_is_closed_once_and_says_how_it_ended(database: Database, cast: Cast, state: InvitationState):
    invitation, _ = await invite(database, cast)
    results = await asyncio.gather(*(close(database, invitation, state) for _ in range(5)), return_exceptions=True)
    assert results.count(None) == 1
    refusals = [result for result in results if isinstance(result, InvitationClosed)]
    assert {refusal.state for refusal in refusals} == {state}
    assert len(refusals) == 4
    with pytest.raises(InvitationClosed):
        await resend(database, cast, invitation)


async def test_what_waits_holds_a_seat_also_against_the_operator(database: Database, cast: Cast):
    await cap(database, 4)
    first, _ = await invite(database, cast, "one@example.com")
    await invite(database, cast, "two@example.com")
    assert await seats(database, cast) == organizations.Seats(members=2, pending=2, maximum=4)
    with pytest.raises(OrganizationFull, match="2 of them by invitations"):
        await invite(database, cast, "three@example.com")
    with pytest.raises(OrganizationFull):
        async with database.begin(SYSTEM) as tx:
            await organizations.add_member(tx, cast.acme.id, cast.stranger.id, Role.MEMBER)
    await close(database, first, InvitationState.DECLINED)
    async with database.begin(SYSTEM) as tx:
        await organizations.add_member(tx, cast.acme.id, cast.stranger.id, Role.MEMBER)


async def test_fifty_at_once_invite_to_the_last_seat_and_one_is_invited(database: Database, cast: Cast):
    await cap(database, 3)
    results = await asyncio.gather(
        *(invite(database, cast, f"u{number}@example.com") for number in range(50)), return_exceptions=True
    )
    assert sum(isinstance(result, tuple) for result in results) == 1
    assert sum(isinstance(result, OrganizationFull) for result in results) == 49


async def end(database: Database, cast: Cast, user: UserId) -> None:
    async with database.begin(SYSTEM) as tx:
        await organizations.lock(tx, cast.acme.id)
        await organizations.end_membership(tx, cast.acme.id, user)


async def set_role(database: Database, cast: Cast, user: UserId, role: Role) -> Role:
    async with database.begin(SYSTEM) as tx:
        await organizations.lock(tx, cast.acme.id)
        return await organizations.change_role(tx, cast.acme.id, user, role)


async def test_the_last_admin_stays_in_role_and_in_place(database: Database, cast: Cast):
    for attempt in (
        end(database, cast, cast.admin.id),
        set_role(database, cast, cast.admin.id, Role.MEMBER),
    ):
        with pytest.raises(LastAdminStays) as refusal:
            await attempt
        assert "another member an admin" in str(refusal.value.remedy)
    await end(database, cast, cast.member.id)
    with pytest.raises(LastAdminStays) as refusal:
        await end(database, cast, cast.admin.id)
    assert "Delete the organization" in str(refusal.value.remedy)


async def test_a_role_is_changed_and_announced_and_the_same_role_is_no_change(database: Database, cast: Cast):
    heard: list[str] = []
    database.changes.subscribe("membership", lambda change: heard.append(change.subject))
    assert await set_role(database, cast, cast.member.id, Role.ADMIN) is Role.MEMBER
    assert await set_role(database, cast, cast.member.id, Role.ADMIN) is Role.ADMIN
    await end(database, cast, cast.admin.id)
    assert heard == [cast.member.id, cast.admin.id]
    for foreign in (cast.stranger.id, UserId("user_none")):
        with pytest.raises(organizations.NoSuchMember):
            await set_role(database, cast, foreign, Role.ADMIN)


async def test_who_left_may_come_back_and_both_times_are_kept(database: Database, cast: Cast):
    await end(database, cast, cast.member.id)
    async with database.begin(SYSTEM) as tx:
        await organizations.add_member(tx, cast.acme.id, cast.member.id, Role.ADMIN)
        rows = await tx.all(text("SELECT role, ended_at FROM memberships ORDER BY since"))
    assert [(row.role, row.ended_at is None) for row in rows][1:] == [("member", False), ("admin", True)]


async def test_an_organization_that_was_deleted_cannot_be_entered_by_any_door(database: Database, cast: Cast):
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text("UPDATE organizations SET deleted_at = 1"))
    async with database.begin(SYSTEM) as tx:
        assert not await organizations.lock(tx, cast.acme.id)
        with pytest.raises(BursarError):
            await organizations.add_member(tx, cast.acme.id, cast.stranger.id, Role.MEMBER)


def test_each_end_has_a_sentence_of_its_own():
    ended = set(InvitationState) - {InvitationState.PENDING}
    assert len({str(InvitationClosed(state)) for state in ended}) == len(ended)
