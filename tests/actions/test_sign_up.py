"""Signing up: the answer never tells whether an address has a user; the link verifies once."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from bursar import actions, audit, identity, keys, storage
from bursar.access import Actor
from bursar.actions import InvalidSignIn, SignUpClosed
from bursar.identity import LINK_LIFETIME, AttemptKind, LinkPurpose, Passwords, User
from bursar.kernel.clock import FixedClock
from bursar.kernel.errors import InvalidField, LinkExpired, TooMany
from bursar.kernel.ids import OwnerId
from bursar.keys import KeyChecker
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


async def verify(database: Database, passwords: Passwords, token: str, password: str | None = PASSWORD) -> User:
    user, _ = await actions.verify_email(
        database, passwords, token, password=password, signed_in=None, address="192.0.2.1"
    )
    return user


async def find(database: Database, email: str = "ana@example.com") -> User | None:
    async with database.snapshot(SYSTEM) as snapshot:
        return await identity.find_by_email(snapshot, email)


async def test_a_new_user_gets_a_link_and_is_not_verified_before_it_is_opened(database: Database, passwords: Passwords):
    await sign_up(database, passwords)
    user = await find(database)
    assert user is not None
    assert not user.is_verified
    assert not user.is_operator
    verified = await verify(database, passwords, await link_for(database))
    assert (verified.id, verified.is_verified) == (user.id, True)
    async with database.snapshot(SYSTEM) as snapshot:
        events = [event.action for event in await audit.list_events(snapshot, OwnerId(user.id))]
    assert sorted(events) == ["user.signed_up", "user.verified"]


async def test_the_answer_is_the_same_for_an_address_that_has_a_user_and_that_user_is_told_by_mail(
    database: Database, passwords: Passwords
):
    assert await sign_up(database, passwords) is None
    await verify(database, passwords, await link_for(database))
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
    assert sum(bool(mail) for mail in await mails(database)) == 1  # a newer link empties the mail of the older


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
    results = await asyncio.gather(*(verify(database, passwords, token) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, User) for result in results) == 1
    assert sum(isinstance(result, LinkExpired) for result in results) == 4


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
        await verify(database, passwords, waiting.payload["link"].partition("token=")[2])
    verified = await verify(database, passwords, newer)
    await actions.resend_verification(database, verified, public_url="https://b.example")
    assert await mails(database) == []


async def test_a_link_is_too_old_after_its_time(
    fixed_database: Database, fixed_clock: FixedClock, passwords: Passwords
):
    await sign_up(fixed_database, passwords)
    token = await link_for(fixed_database)
    fixed_clock.advance(LINK_LIFETIME[LinkPurpose.VERIFY_EMAIL])
    with pytest.raises(LinkExpired) as refusal:
        await verify(fixed_database, passwords, token)
    assert refusal.value.remedy
    fixed_clock.advance(timedelta(days=-1))
    await verify(fixed_database, passwords, token)


# A stranger signs up with somebody's address first.


async def test_reading_the_mail_does_not_make_a_strangers_password_good(database: Database, passwords: Passwords):
    await sign_up(database, passwords, password="the strangers own password")
    token = await link_for(database)
    for guess in (None, "", PASSWORD):
        with pytest.raises(InvalidField) as refusal:
            await verify(database, passwords, token, guess)
        assert refusal.value.field == "password"
    user = await find(database)
    assert user is not None
    assert not user.is_verified
    await verify(database, passwords, token, "the strangers own password")  # whoever knows it, signed up


async def test_who_does_not_know_the_password_chooses_one_and_nothing_of_the_strangers_keeps_working(
    database: Database, passwords: Passwords, checker: KeyChecker
):
    stranger = {"email": "ana@example.com", "password": "the strangers own password"}
    await sign_up(database, passwords, **stranger)
    link = await link_for(database)
    session = await actions.sign_in(database, passwords, **stranger, address=None, user_agent=None)
    user = await find(database)
    assert user is not None
    key, _ = await actions.create_key(
        database, checker, Actor.person(user.id), owner=OwnerId(user.id), creator=user.id, name="waits"
    )
    anew = await actions.choose_password_instead(database, link)
    await actions.set_password(database, passwords, token=anew, password=PASSWORD, address=None)
    with pytest.raises(InvalidSignIn):
        await actions.sign_in(database, passwords, **stranger, address=None, user_agent=None)
    async with database.snapshot(SYSTEM) as snapshot:
        assert await identity.find_session(snapshot, session) is None
        found = await keys.find_key(snapshot, OwnerId(user.id), key.id)
        assert found is not None
        assert found.disabled_at is not None
        assert (await identity.get_user(snapshot, user.id)).is_verified
    with pytest.raises(LinkExpired):
        await verify(database, passwords, link, PASSWORD)
    assert await actions.sign_in(
        database, passwords, email="ana@example.com", password=PASSWORD, address=None, user_agent=None
    )


async def test_a_password_reset_later_leaves_the_keys_of_a_verified_person_alone(
    database: Database, passwords: Passwords, checker: KeyChecker
):
    await sign_up(database, passwords)
    user = await verify(database, passwords, await link_for(database))
    key, _ = await actions.create_key(
        database, checker, Actor.person(user.id), owner=OwnerId(user.id), creator=user.id, name="mine"
    )
    await actions.request_reset(database, email=user.email, public_url="https://b.example", address=None)
    (mail,) = await mails(database)
    await actions.set_password(
        database, passwords, token=mail["link"].partition("token=")[2], password="another password", address=None
    )
    async with database.snapshot(SYSTEM) as snapshot:
        found = await keys.find_key(snapshot, OwnerId(user.id), key.id)
    assert found is not None
    assert found.disabled_at is None


async def test_so_many_messages_an_hour_reach_one_address_and_no_more(
    fixed_database: Database, fixed_clock: FixedClock, passwords: Passwords
):
    rule = AttemptKind.MAIL.value
    await sign_up(fixed_database, passwords)
    for number in range(3 * rule.free):
        if number % 2:
            await sign_up(fixed_database, passwords)
        else:
            await actions.request_reset(
                fixed_database, email="ANA@example.com", public_url="https://b.example", address=None
            )
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        outbox = storage.metadata.tables["outbox"]
        sent = len(await snapshot.all(outbox.select()))
        assert sent == rule.free
    user = await find(fixed_database)
    assert user is not None
    with pytest.raises(TooMany):  # somebody signed in is told instead
        await actions.resend_verification(fixed_database, user, public_url="https://b.example")
    fixed_clock.advance(rule.forget_each)
    await actions.resend_verification(fixed_database, user, public_url="https://b.example")
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        assert len(await snapshot.all(outbox.select())) == sent + 1
