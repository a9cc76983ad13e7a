"""Organizations: slugs, seats, members; a cap that holds and never hides."""

import asyncio

import pytest
from sqlalchemy import text

from bursar import identity, organizations
from bursar.access import Role
from bursar.identity import User
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import OrganizationId, UserId
from bursar.organizations import SEATS_DEFAULT, AlreadyMember, NoSuchOrganization, Organization, OrganizationFull
from bursar.organizations._store import SlugTaken
from bursar.storage import SYSTEM, Database
from tests.conftest import Cast

pytestmark = pytest.mark.anyio


async def add_users(database: Database, count: int) -> list[User]:
    async with database.begin(SYSTEM) as tx:
        return [
            await identity.add_user(tx, email=f"user{number}@example.com", name=f"User {number}", password_hash=None)
            for number in range(count)
        ]


async def create(database: Database, slug: str, creator: UserId, name: str = "Globex") -> Organization:
    async with database.begin(SYSTEM) as tx:
        return await organizations.create(tx, name=name, slug=slug, creator=creator)


async def join(database: Database, organization: OrganizationId, user: UserId) -> None:
    async with database.begin(SYSTEM) as tx:
        await organizations.add_member(tx, organization, user, Role.MEMBER)


async def members(database: Database, organization: OrganizationId) -> list[UserId]:
    async with database.snapshot(SYSTEM) as snapshot:
        return [member.user for member in await organizations.list_members(snapshot, organization)]


async def test_whoever_creates_an_organization_is_its_admin(database: Database, cast: Cast):
    made = await create(database, "globex", cast.stranger.id)
    async with database.snapshot(SYSTEM) as snapshot:
        assert await organizations.find_role(snapshot, made.id, cast.stranger.id) is Role.ADMIN
        assert await organizations.find_role(snapshot, made.id, cast.admin.id) is None
        assert await organizations.get_organization(snapshot, made.id) == made
        assert await organizations.find_by_slug(snapshot, "globex") == made
    assert made.seats_max == SEATS_DEFAULT == 10


async def test_a_slug_that_is_taken_is_refused_by_its_field(database: Database, cast: Cast):
    for slug in ("acme", " ACME "):
        with pytest.raises(SlugTaken) as refusal:
            await create(database, slug, cast.stranger.id)
        assert isinstance(refusal.value, InvalidField)
        assert refusal.value.field == "slug"


async def test_of_ten_that_want_one_slug_at_once_one_gets_it(database: Database, cast: Cast):
    results = await asyncio.gather(
        *(create(database, "globex", cast.stranger.id) for _ in range(10)), return_exceptions=True
    )
    made = [result for result in results if isinstance(result, Organization)]
    assert len(made) == 1
    assert sum(isinstance(result, SlugTaken) for result in results) == 9
    async with database.snapshot(SYSTEM) as snapshot:
        mine = await organizations.list_of_user(snapshot, cast.stranger.id)
    assert [(found.id, role) for found, role in mine] == [(made[0].id, Role.ADMIN)]


@pytest.mark.parametrize(
    "slug",
    [
        *("", "a", "x" * 49, "-a", "a-", "a--b", "a_b", "a b", "a.b", "ä", "новый", "a/b", "a\x00", "a\nb"),
        *("new", "personal", "admin", "operator", "Settings"),
    ],
    ids=repr,
)
def test_a_bad_or_reserved_slug_is_refused_by_its_field(slug: str):
    with pytest.raises(InvalidField) as refusal:
        organizations.require_slug(slug)
    assert refusal.value.field == "slug"


async def test_a_bad_name_or_slug_is_refused_by_its_field_and_nothing_is_made(database: Database, cast: Cast):
    for name in ("", "  ", "x" * 81, "a\x00b", "a\u202eb"):
        with pytest.raises(InvalidField) as refusal:
            await create(database, "globex", cast.stranger.id, name)
        assert refusal.value.field == "name"
    with pytest.raises(InvalidField):
        await create(database, "no slug", cast.stranger.id)
    async with database.snapshot(SYSTEM) as snapshot:
        assert [found.slug for found in await organizations.list_organizations(snapshot)] == ["acme"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Acme Robotics GmbH", "acme-robotics-gmbh"), ("Zoë & Co.", "zoe-co"), ("検索", ""), ("x" * 99, "x" * 48)],
)
def test_a_name_suggests_a_slug(name: str, slug: str):
    assert organizations.slug_from(name) == slug


async def test_the_eleventh_member_is_refused_with_what_can_be_done(database: Database, cast: Cast):
    users = await add_users(database, 9)
    for user in users[:8]:
        await join(database, cast.acme.id, user.id)
    with pytest.raises(OrganizationFull, match="10") as refusal:
        await join(database, cast.acme.id, users[8].id)
    assert "operator" in (refusal.value.remedy or "")
    assert len(await members(database, cast.acme.id)) == 10


async def test_of_twenty_that_want_the_last_seat_at_once_one_joins(database: Database, cast: Cast):
    users = await add_users(database, 27)
    for user in users[:7]:
        await join(database, cast.acme.id, user.id)
    assert len(await members(database, cast.acme.id)) == 9
    results = await asyncio.gather(
        *(join(database, cast.acme.id, user.id) for user in users[7:]), return_exceptions=True
    )
    assert results.count(None) == 1
    assert sum(isinstance(result, OrganizationFull) for result in results) == 19
    assert len(await members(database, cast.acme.id)) == 10


async def test_one_person_added_ten_times_at_once_takes_one_seat(database: Database, cast: Cast):
    results = await asyncio.gather(
        *(join(database, cast.acme.id, cast.stranger.id) for _ in range(10)), return_exceptions=True
    )
    assert results.count(None) == 1
    assert sum(isinstance(result, AlreadyMember) for result in results) == 9


async def test_a_cap_the_operator_raised_holds_at_its_new_value_and_hides_nobody(database: Database, cast: Cast):
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text("UPDATE organizations SET seats_max = 30"))
    users = await add_users(database, 29)
    for user in users[:28]:
        await join(database, cast.acme.id, user.id)
    with pytest.raises(OrganizationFull, match="30"):
        await join(database, cast.acme.id, users[28].id)
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text("UPDATE organizations SET seats_max = 10"))
    assert len(await members(database, cast.acme.id)) == 30  # the cap is never a limit of the list


async def test_a_seat_that_was_left_can_be_taken_again_by_the_same_person_too(database: Database, cast: Cast):
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text(f"UPDATE memberships SET ended_at = 1 WHERE user_id = '{cast.member.id}'"))
    async with database.snapshot(SYSTEM) as snapshot:
        assert await organizations.find_role(snapshot, cast.acme.id, cast.member.id) is None
        assert list(await organizations.list_of_user(snapshot, cast.member.id)) == []
    await join(database, cast.acme.id, cast.member.id)
    assert await members(database, cast.acme.id) == [cast.admin.id, cast.member.id]


async def test_an_organization_that_does_not_exist_takes_nobody(database: Database, cast: Cast):
    with pytest.raises(NoSuchOrganization):
        await join(database, OrganizationId("org_none"), cast.stranger.id)


async def test_all_of_a_persons_thirty_organizations_are_listed_by_name(database: Database, cast: Cast):
    names = [f"{'Aa'[number % 2]}-team {number:02}" for number in range(30)]
    for number, name in enumerate(names):
        await create(database, f"team-{number}", cast.stranger.id, name)
    async with database.snapshot(SYSTEM) as snapshot:
        listed = [found.name for found, _ in await organizations.list_of_user(snapshot, cast.stranger.id)]
        everything = await organizations.list_organizations(snapshot)
    assert listed == sorted(names, key=str.lower)
    assert len(everything) == 31


async def test_joining_is_announced_so_that_every_node_hears_of_it(database: Database, cast: Cast):
    heard: list[str] = []
    database.changes.subscribe("membership", lambda change: heard.append(change.subject))
    await join(database, cast.acme.id, cast.stranger.id)
    assert heard == [cast.stranger.id]
