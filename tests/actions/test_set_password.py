"""Setting a password by link: verifies the address, ends every session, signs nobody in."""

import pytest

from bursar import actions, identity, storage
from bursar.access import Actor
from bursar.identity import Passwords
from bursar.kernel.errors import InvalidField, LinkExpired
from bursar.storage import SYSTEM, Database

pytestmark = pytest.mark.anyio


async def add(database: Database) -> tuple[identity.User, str]:
    user, url = await actions.add_user(
        database, Actor.operator(), email="ana@example.com", name="Ana", public_url="https://b.example"
    )
    assert url is not None
    return user, url.removeprefix("https://b.example/set-password?token=")


async def set_password(
    database: Database, passwords: Passwords, token: str, password: str
) -> tuple[identity.User, str]:
    return await actions.set_password(database, passwords, token=token, password=password, address=None)


async def test_it_verifies_the_address_ends_every_session_and_does_not_sign_in(
    database: Database, passwords: Passwords
):
    user, token = await add(database)
    async with database.begin(SYSTEM) as tx:
        sessions = [await identity.open_session(tx, user.id, address=None, user_agent=None) for _ in range(3)]
    heard: list[str] = []
    database.changes.subscribe("user", lambda change: heard.append(change.subject))
    assert (await set_password(database, passwords, token, "a password long enough"))[0].id == user.id
    async with database.snapshot(SYSTEM) as snapshot:
        assert [await identity.find_session(snapshot, session) for session in sessions] == [None] * 3
        found = await identity.get_user(snapshot, user.id)
        hashed = await identity.find_password_hash(snapshot, user.id)
        assert await snapshot.all(storage.metadata.tables["sessions"].select()) == []
    assert found.is_verified
    assert hashed is not None
    assert hashed.startswith("$argon2id$")
    assert await passwords.verify("a password long enough", hashed)
    assert heard == [user.id]


async def test_a_password_that_is_refused_leaves_the_link_good_and_then_it_works_once(
    database: Database, passwords: Passwords
):
    _, token = await add(database)
    for bad in ("short", "password12345", "ana@example.com"):
        with pytest.raises(InvalidField):
            await set_password(database, passwords, token, bad)
    await set_password(database, passwords, token, "a password long enough")
    with pytest.raises(LinkExpired):
        await set_password(database, passwords, token, "another long password")


async def test_the_way_back_in_replaces_the_link_and_empties_the_mail_before(database: Database, passwords: Passwords):
    user, first = await add(database)
    again, url = await actions.reset_user(
        database, Actor.operator(), email=" ANA@example.com", public_url="https://b.example"
    )
    assert again.id == user.id
    assert [message.payload["link"] for message in await storage.take(database)] == [url]
    with pytest.raises(LinkExpired):
        await set_password(database, passwords, first, "a password long enough")
    await set_password(database, passwords, url.partition("token=")[2], "a password long enough")


async def test_who_does_not_exist_cannot_be_let_back_in(database: Database):
    with pytest.raises(identity._users.NoSuchUser) as refusal:
        await actions.reset_user(database, Actor.operator(), email="nobody@example.com", public_url="https://b.example")
    assert refusal.value.remedy
