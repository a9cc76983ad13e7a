"""Creating organizations, adding people, and managing keys: who may do what to which."""

import asyncio

import pytest

from bursar import actions, audit, identity, keys
from bursar.access import Actor, PermissionDenied, Role
from bursar.actions import EmailNotVerified
from bursar.kernel.errors import Conflict, InvalidField, NotFound
from bursar.kernel.ids import KeyId, OwnerId
from bursar.keys import Key, KeyChecker, KeyKind
from bursar.organizations import Organization
from bursar.storage import SYSTEM, Database, Scope
from tests.conftest import Cast
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio


async def recorded(database: Database, owner: OwnerId) -> list[audit.AuditEvent]:
    async with database.snapshot(Scope(owner)) as snapshot:
        return list(await audit.list_events(snapshot, owner))


# Organizations.


async def test_an_organization_needs_a_verified_address_unless_the_operator_makes_it(database: Database):
    async with database.begin(SYSTEM) as tx:
        user = await identity.add_user(tx, email="new@example.com", name="New", password_hash=None)
    with pytest.raises(EmailNotVerified) as refusal:
        await actions.create_organization(database, Actor.person(user.id), creator=user.id, name="G", slug="globex")
    assert refusal.value.status == 403
    assert refusal.value.remedy
    made = await actions.create_organization(database, Actor.operator(), creator=user.id, name="G", slug="globex")
    events = await recorded(database, OwnerId(made.id))
    assert [(event.action, event.subject) for event in events] == [("organization.created", made.id)]


async def test_a_taken_slug_is_wrong_in_its_field_and_two_at_once_make_one(database: Database, cast: Cast):
    async def create(slug: str) -> Organization:
        return await actions.create_organization(
            database, cast.actor(cast.stranger), creator=cast.stranger.id, name="Globex", slug=slug
        )

    with pytest.raises(InvalidField) as refusal:
        await create("acme")
    assert refusal.value.field == "slug"
    results = await asyncio.gather(*(create("globex") for _ in range(2)), return_exceptions=True)
    assert sum(isinstance(result, Organization) for result in results) == 1
    assert sum(isinstance(result, InvalidField) for result in results) == 1


async def test_the_operator_never_adds_members_past_the_cap_and_each_is_recorded(database: Database, cast: Cast):
    async with database.begin(SYSTEM) as tx:
        users = [
            await identity.add_user(tx, email=f"u{number}@example.com", name="U", password_hash=None)
            for number in range(20)
        ]
    results = await asyncio.gather(
        *(
            actions.add_member(database, Actor.operator(), organization=cast.acme.id, user=user.id, role=Role.MEMBER)
            for user in users
        ),
        return_exceptions=True,
    )
    assert results.count(None) == 8
    assert sum(isinstance(result, Conflict) for result in results) == 12
    assert [event.action for event in await recorded(database, cast.owner)].count("member.added") == 8


# Keys.


async def create(
    database: Database, checker: KeyChecker, cast: Cast, actor: Actor, kind: KeyKind = KeyKind.INFERENCE
) -> tuple[Key, str]:
    assert actor.user is not None
    return await actions.create_key(
        database, checker, actor, owner=cast.owner, creator=actor.user, name="app", kind=kind
    )


async def test_members_make_keys_but_only_admins_make_management_keys(
    database: Database, cast: Cast, checker: KeyChecker
):
    member, admin = cast.actor(cast.member), cast.actor(cast.admin)
    key, plaintext = await create(database, checker, cast, member)
    assert checker.is_ours(plaintext)
    assert key.creator == cast.member.id
    with pytest.raises(PermissionDenied) as refusal:
        await create(database, checker, cast, member, KeyKind.MANAGEMENT)
    assert "ana@example.com" in (refusal.value.remedy or "")
    management, _ = await create(database, checker, cast, admin, KeyKind.MANAGEMENT)
    assert management.kind is KeyKind.MANAGEMENT
    with pytest.raises(NotFound):
        await create(database, checker, cast, cast.actor(cast.stranger))


async def test_no_plaintext_is_kept_by_the_action_either(database: Database, cast: Cast, checker: KeyChecker):
    key, plaintext = await create(database, checker, cast, cast.actor(cast.member))
    stored = await everything_stored(database)
    assert key.hash in stored
    assert key.label in stored
    assert plaintext not in stored


@pytest.mark.parametrize("verb", ["disable", "delete"])
async def test_members_manage_their_own_keys_admins_all_strangers_none(
    database: Database, cast: Cast, checker: KeyChecker, verb: str
):
    async def act(user: identity.User, key: KeyId) -> Key:
        if verb == "delete":
            return await actions.delete_key(database, cast.actor(user), owner=cast.owner, key=key)
        return await actions.set_key_disabled(database, cast.actor(user), owner=cast.owner, key=key, disabled=True)

    of_member, _ = await create(database, checker, cast, cast.actor(cast.member))
    of_admin, _ = await create(database, checker, cast, cast.actor(cast.admin))
    another, _ = await create(database, checker, cast, cast.actor(cast.member))
    answers = []
    for user, key in (
        (cast.member, of_admin.id),
        (cast.member, KeyId("key_none")),
        (cast.stranger, of_member.id),
    ):
        with pytest.raises(NotFound) as refusal:
            await act(user, key)
        answers.append(str(refusal.value))
    assert answers[0] == answers[1], "a colleague's key answers like one that never was"
    async with database.snapshot(Scope(cast.owner)) as snapshot:
        assert all(key.is_usable for key in await keys.list_keys(snapshot, cast.owner))
    await act(cast.member, of_member.id)
    await act(cast.admin, another.id)
    await act(cast.admin, of_admin.id)
    async with database.snapshot(Scope(cast.owner)) as snapshot:
        assert not any(key.is_usable for key in await keys.list_keys(snapshot, cast.owner, deleted=True))


async def test_a_key_is_not_managed_through_another_owner(database: Database, cast: Cast, checker: KeyChecker):
    key, _ = await create(database, checker, cast, cast.actor(cast.member))
    with pytest.raises(NotFound):
        await actions.delete_key(database, cast.actor(cast.member), owner=OwnerId(cast.member.id), key=key.id)


async def test_what_changes_a_key_is_heard_by_the_gateway_and_recorded(
    database: Database, cast: Cast, checker: KeyChecker
):
    key, _ = await create(database, checker, cast, cast.actor(cast.member))
    heard: list[str] = []
    database.changes.subscribe("key", lambda change: heard.append(change.subject))
    actor = cast.actor(cast.member)
    for disabled in (True, False):
        await actions.set_key_disabled(database, actor, owner=cast.owner, key=key.id, disabled=disabled)
    await actions.delete_key(database, actor, owner=cast.owner, key=key.id)
    assert heard == [key.hash] * 3
    mine = [event for event in await recorded(database, cast.owner) if event.subject == key.id]
    assert {event.action for event in mine} == {"key.created", "key.disabled", "key.enabled", "key.deleted"}
    assert {(event.actor.user, event.actor.address) for event in mine} == {(cast.member.id, "192.0.2.1")}


async def test_a_person_who_left_no_longer_manages_the_keys_they_made(
    database: Database, cast: Cast, checker: KeyChecker
):
    key, _ = await create(database, checker, cast, cast.actor(cast.member))
    async with database.begin(SYSTEM) as tx:
        await tx.execute(actions_memberships().values(ended_at=tx.now))
    with pytest.raises(NotFound):
        await actions.delete_key(database, cast.actor(cast.member), owner=cast.owner, key=key.id)


def actions_memberships():
    from bursar.organizations import tables

    return tables.memberships.update().where(tables.memberships.c.role == "member")


async def test_renaming_oneself_is_recorded_and_a_bad_name_refused(database: Database, cast: Cast):
    await actions.rename_user(database, cast.actor(cast.member), cast.member.id, "  Tomás   Novák ")
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await identity.get_user(snapshot, cast.member.id)).name == "Tomás Novák"
    with pytest.raises(InvalidField):
        await actions.rename_user(database, cast.actor(cast.member), cast.member.id, "\u202e")
    assert [event.action for event in await recorded(database, OwnerId(cast.member.id))] == ["user.renamed"]
