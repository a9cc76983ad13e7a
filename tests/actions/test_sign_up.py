"""Signing up: the answer never tells whether an address has a user; the link verifies once."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from bursar import actions, audit, identity, storage
from bursar.actions import SignUpClosed
from bursar.identity import LINK_LIFETIME, LinkPurpose, Passwords, User
from bursar.kernel.clock import FixedClock
from bursar.kernel.errors import InvalidField, LinkExpired
from bursar.kernel.ids import OwnerId
from bursar.storage import SYSTEM, Database
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio

PASSWORD = "a password long enough"


async def sign_up(database: Database, passwords: Passwords, email: str = "ana@example.com", **other) -> None:
    given = {"name": "Ana", "password": PASSWORD, "is_open": True} | other
    return await actions.sign_up(
        database, passwords, email=email, public_url="https://b.example", address="192.0.2.1", **given
    )


async def mails(database: Database) -> list[dict]:
    return [message.payload for message in await storage.take(database, limit=100)]


async def link_for(database: Database, email: str = "ana@example.com") -> str:
    (link,) = [mail["link"] for mail in await mails(database) if mail["to"] == email]
    assert link.startswith("https://b.example/verify?token=")
    return link.partition("token=")[2]


async def find(database: Database, email: str = "ana@example.com") -> User | None:
    async with database.snapshot(SYSTEM) as snapshot:
        return await identity.find_by_email(snapshot, email)


async def test_a_new_user_gets_a_link_and_is_not_verified_before_it_is_opened(database: Database, passwords: Passwords):
    await sign_up(database, passwords)
    user = await find(database)
    assert user is not None
    assert not user.is_verified
    assert not user.is_operator
    verified = await actions.verify_email(database, await link_for(database), address="192.0.2.1")
    assert (verified.id, verified.is_verified) == (user.id, True)
    async with database.snapshot(SYSTEM) as snapshot:
        events = [event.action for event in await audit.list_events(snapshot, OwnerId(user.id))]
    assert sorted(events) == ["user.signed_up", "user.verified"]


async def test_the_answer_is_the_same_for_an_address_that_has_a_user_and_that_user_is_told_by_mail(
    database: Database, passwords: Passwords
):
    assert await sign_up(database, passwords) is None
    await mails(database)
    before = await find(database)
    assert await sign_up(database, passwords, " ANA@example.com", name="Eve", password="another password") is None
    (mail,) = await mails(database)
    assert mail["to"] == "ana@example.com"
    assert mail["link"] is None
    assert "token" not in mail["text"]
    assert "Eve" not in mail["text"]
    assert await find(database) == before
    async with database.snapshot(SYSTEM) as snapshot:
        assert before is not None
        hashed = await identity.find_password_hash(snapshot, before.id)
    assert await passwords.verify(PASSWORD, hashed)


async def test_ten_sign_ups_with_one_address_at_once_all_get_the_same_answer_and_make_one_user(
    database: Database, passwords: Passwords
):
    assert await asyncio.gather(*(sign_up(database, passwords) for _ in range(10))) == [None] * 10
    async with database.snapshot(SYSTEM) as snapshot:
        assert len(await identity.list_users(snapshot)) == 1
    assert sum(mail["link"] is not None for mail in await mails(database)) == 1


async def test_neither_the_password_nor_the_link_is_in_the_database(database: Database, passwords: Passwords):
    await sign_up(database, passwords)
    stored = await everything_stored(database)
    token = await link_for(database)
    assert "ana@example.com" in stored
    assert PASSWORD not in stored
    assert token not in stored
    assert "$argon2id$" in stored


async def test_where_sign_up_is_closed_nobody_is_added_and_nothing_is_sent(database: Database, passwords: Passwords):
    with pytest.raises(SignUpClosed) as refusal:
        await sign_up(database, passwords, is_open=False)
    assert refusal.value.status == 403
    assert await find(database) is None
    assert await mails(database) == []


@pytest.mark.parametrize(
    ("field", "values"),
    [("email", {"email": "ana"}), ("name", {"name": " "}), ("password", {"password": "short"})],
    ids=["email", "name", "password"],
)
async def test_a_wrong_field_is_named_and_nothing_happens(
    database: Database, passwords: Passwords, field: str, values: dict[str, str]
):
    with pytest.raises(InvalidField) as refusal:
        await sign_up(database, passwords, **values)
    assert refusal.value.field == field
    async with database.snapshot(SYSTEM) as snapshot:
        assert await snapshot.scalar(text("SELECT count(*) FROM users")) == 0


async def test_a_link_verifies_once_whoever_opens_it_in_parallel(database: Database, passwords: Passwords):
    await sign_up(database, passwords)
    token = await link_for(database)
    results = await asyncio.gather(
        *(actions.verify_email(database, token, address=None) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(result, User) for result in results) == 1
    assert sum(isinstance(result, LinkExpired) for result in results) == 19


async def test_a_link_sent_again_replaces_the_one_before_and_empties_its_mail(database: Database, passwords: Passwords):
    await sign_up(database, passwords)
    (waiting,) = await storage.take(database)
    await storage.mark_kept(database, waiting.id)
    user = await find(database)
    assert user is not None
    await actions.resend_verification(database, user, public_url="https://b.example")
    assert list(await storage.list_kept(database)) == []
    newer = await link_for(database)
    with pytest.raises(LinkExpired):
        await actions.verify_email(database, waiting.payload["link"].partition("token=")[2], address=None)
    verified = await actions.verify_email(database, newer, address=None)
    await actions.resend_verification(database, verified, public_url="https://b.example")
    assert await mails(database) == []


async def test_a_link_is_too_old_after_its_time(
    fixed_database: Database, fixed_clock: FixedClock, passwords: Passwords
):
    await sign_up(fixed_database, passwords)
    token = await link_for(fixed_database)
    fixed_clock.advance(LINK_LIFETIME[LinkPurpose.VERIFY_EMAIL])
    with pytest.raises(LinkExpired) as refusal:
        await actions.verify_email(fixed_database, token, address=None)
    assert refusal.value.remedy
    fixed_clock.advance(timedelta(days=-1))
    await actions.verify_email(fixed_database, token, address=None)
