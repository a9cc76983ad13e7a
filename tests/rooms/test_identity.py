"""People: addresses, passwords, sessions, and links that work once."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from bursar import identity
from bursar.identity import LINK_LIFETIME, SESSION_IDLE_LIFETIME, LinkPurpose, Passwords, User
from bursar.kernel.clock import FixedClock
from bursar.kernel.errors import InvalidField, LinkExpired, TooMany
from bursar.kernel.secrets import hash_secret
from bursar.storage import SYSTEM, Database
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio


async def add(database: Database, email: str = "ana@example.com", **more) -> User:
    async with database.begin(SYSTEM) as tx:
        return await identity.add_user(tx, email=email, name="Ana", password_hash=None, **more)


async def mint(database: Database, user: User, purpose: LinkPurpose = LinkPurpose.VERIFY_EMAIL) -> str:
    async with database.begin(SYSTEM) as tx:
        return await identity.mint_link(tx, user.id, purpose)


async def spend(database: Database, token: str, purpose: LinkPurpose = LinkPurpose.VERIFY_EMAIL) -> str:
    async with database.begin(SYSTEM) as tx:
        return (await identity.spend_link(tx, token, purpose)).user


# Addresses and names.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ana@example.com", "ANA@Example.COM"),
        ("ana@example.com", "  ana@example.com\n"),
        ("zoe\u0301@example.com", "zo\u00e9@example.com"),
        ("STRASSE@example.com", "straße@example.com"),
    ],
    ids=["case", "spaces", "composition", "sharp s"],
)
async def test_two_spellings_of_one_address_are_one_user(database: Database, one: str, other: str):
    user = await add(database, one)
    with pytest.raises(identity.EmailTaken) as refusal:
        await add(database, other)
    assert refusal.value.status == 409
    async with database.snapshot(SYSTEM) as snapshot:
        assert await identity.find_by_email(snapshot, other) == user


@pytest.mark.parametrize("other", ["a.na@example.com", "ana+work@example.com", "ana@example.org"])
async def test_dots_plus_signs_and_domains_matter(database: Database, other: str):
    await add(database)
    assert (await add(database, other)).email == other


async def test_the_address_is_kept_as_it_was_written(database: Database):
    assert (await add(database, " Ana.Ruiz@Example.com ")).email == "Ana.Ruiz@Example.com"


@pytest.mark.parametrize(
    "email",
    [
        *(
            "",
            " ",
            "ana",
            "@example.com",
            "ana@",
            "ana@@example.com",
            "ana@b@c",
            "a na@example.com",
            "ana@exam ple.com",
        ),
        *("ana@example..com", "ana@.com", "ana@example.com.", "ana\x00@example.com", "ana@example.com\x00"),
        *("ana@example.com\nBcc: eve@example.com", "ana\r@example.com", "x" * 65 + "@example.com"),
        *("ana@" + "x" * 260, "ana,eve@example.com", "<ana@example.com>", "ana@example.com>", "Ana<ana@example.com"),
        *(
            "ana;eve@example.com",
            '"ana@example.com',
            "ana(x)@example.com",
            "ana\ud800@example.com",
            "ana\x7f@example.com",
        ),
    ],
    ids=repr,
)
def test_what_is_no_plain_address_is_refused_by_its_field(email: str):
    with pytest.raises(InvalidField) as refusal:
        identity.require_email(email)
    assert refusal.value.field == "email"


async def test_ordinary_addresses_of_every_sort_are_taken(database: Database):
    for email in ("a@b", "o'brien@example.com", "ana+x.y_z-1@mail.example.co.uk", "用户@例え.jp", "root@localhost"):
        assert (await add(database, email)).email == email


async def test_ten_that_add_one_address_at_once_add_one_user(database: Database):
    results = await asyncio.gather(*(add(database) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, User) for result in results) == 1
    assert sum(isinstance(result, identity.EmailTaken) for result in results) == 9


async def test_looking_for_an_address_that_nobody_has_finds_nobody(database: Database):
    await add(database)
    async with database.snapshot(SYSTEM) as snapshot:
        for address in ("nobody@example.com", "", "\x00", "ana\x00@example.com", "'; --"):
            assert await identity.find_by_email(snapshot, address) is None


async def test_nobody_is_added_with_an_address_that_is_none(database: Database):
    for email in ("nonsense", "ana,eve@example.com", "ana\x00@example.com"):
        with pytest.raises(InvalidField):
            await add(database, email)


# Passwords.


async def test_a_password_is_kept_as_argon2id_and_fits_only_itself():
    passwords = Passwords()
    hashed = await passwords.hash("correct horse battery")
    assert hashed.startswith("$argon2id$v=19$m=")
    assert hashed != await passwords.hash("correct horse battery")
    assert await passwords.verify("correct horse battery", hashed)
    assert not await passwords.verify("correct horse batterY", hashed)
    assert not await passwords.verify("", hashed)
    passwords.close()


async def test_without_a_hash_no_password_fits_not_even_the_decoys():
    passwords = Passwords()
    assert not await passwords.verify("nobody has this password", None)
    assert not await passwords.verify("nobody has this password", None)
    passwords.close()


async def test_too_many_sign_ins_at_once_are_told_to_wait_and_the_others_are_served(monkeypatch: pytest.MonkeyPatch):
    from bursar.identity import _passwords as module

    monkeypatch.setattr(module, "WAITING_MAX", 3)
    passwords = Passwords()
    results = await asyncio.gather(*(passwords.hash("some password") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, TooMany) for result in results) == 2
    assert (await passwords.hash("some password")).startswith("$argon2id$")
    passwords.close()


@pytest.mark.parametrize("password", ["", "123456789", "x" * 1025, "é" * 513], ids=len)
def test_a_password_that_is_too_short_or_too_long_is_refused(password: str):
    with pytest.raises(InvalidField) as refusal:
        identity.require_password(password)
    assert refusal.value.field == "password"
    assert password == "" or password not in str(refusal.value)


# Links.


@pytest.mark.parametrize("purpose", LinkPurpose)
async def test_a_link_works_once_and_for_its_purpose_only(database: Database, purpose: LinkPurpose):
    user = await add(database)
    token = await mint(database, user, purpose)
    for other in set(LinkPurpose) - {purpose}:
        with pytest.raises(LinkExpired):
            await spend(database, token, other)
    assert await spend(database, token, purpose) == user.id
    with pytest.raises(LinkExpired):
        await spend(database, token, purpose)


async def test_of_twenty_that_spend_one_link_at_once_one_does(database: Database):
    token = await mint(database, await add(database))
    results = await asyncio.gather(*(spend(database, token) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, str) for result in results) == 1
    assert sum(isinstance(result, LinkExpired) for result in results) == 19


async def test_a_newer_link_replaces_the_older_of_its_purpose_and_person_only(database: Database):
    ana, tomas = await add(database), await add(database, "tomas@example.com")
    older = await mint(database, ana)
    of_tomas = await mint(database, tomas)
    to_sign_in = await mint(database, ana, LinkPurpose.SIGN_IN)
    newer = await mint(database, ana)
    with pytest.raises(LinkExpired):
        await spend(database, older)
    assert await spend(database, newer) == ana.id
    assert await spend(database, of_tomas) == tomas.id
    assert await spend(database, to_sign_in, LinkPurpose.SIGN_IN) == ana.id


@pytest.mark.parametrize("purpose", LinkPurpose)
async def test_a_link_is_good_to_its_last_moment_and_no_longer(
    fixed_database: Database, fixed_clock: FixedClock, purpose: LinkPurpose
):
    user = await add(fixed_database)
    token = await mint(fixed_database, user, purpose)
    fixed_clock.advance(LINK_LIFETIME[purpose] - timedelta(microseconds=1))
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        assert (await identity.peek_link(snapshot, token, purpose)).user == user.id
    fixed_clock.advance(timedelta(microseconds=1))
    with pytest.raises(LinkExpired):
        await spend(fixed_database, token, purpose)
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        with pytest.raises(LinkExpired):
            await identity.peek_link(snapshot, token, purpose)


async def test_looking_at_a_link_does_not_spend_it(database: Database):
    token = await mint(database, await add(database))
    for _ in range(3):  # a mail scanner opens it, too
        async with database.snapshot(SYSTEM) as snapshot:
            await identity.peek_link(snapshot, token, LinkPurpose.VERIFY_EMAIL)
    await spend(database, token)


async def test_a_link_whose_transaction_fails_is_still_good(database: Database):
    token = await mint(database, await add(database))

    async def fails() -> None:
        async with database.begin(SYSTEM) as tx:
            await identity.spend_link(tx, token, LinkPurpose.VERIFY_EMAIL)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    await spend(database, token)


# Sessions.


async def test_a_session_is_kept_as_a_hash_and_found_by_its_token(database: Database):
    user = await add(database)
    async with database.begin(SYSTEM) as tx:
        token = await identity.open_session(tx, user.id, address="192.0.2.1", user_agent="x" * 1000)
    link = await mint(database, user)
    stored = await everything_stored(database)
    assert hash_secret(token) in stored
    assert hash_secret(link) in stored
    assert token not in stored
    assert link not in stored
    async with database.snapshot(SYSTEM) as snapshot:
        found = await identity.find_session(snapshot, token)
        assert found is not None
        assert found.user == user
        assert await identity.find_session(snapshot, hash_secret(token)) is None
        assert await identity.find_session(snapshot, "") is None


async def test_a_session_ends_by_itself_by_signing_out_and_with_all_the_others(
    fixed_database: Database, fixed_clock: FixedClock
):
    user, other = await add(fixed_database), await add(fixed_database, "tomas@example.com")

    async def opened(user: User) -> str:
        async with fixed_database.begin(SYSTEM) as tx:
            return await identity.open_session(tx, user.id, address=None, user_agent=None)

    async def alive(token: str) -> bool:
        async with fixed_database.snapshot(SYSTEM) as snapshot:
            return await identity.find_session(snapshot, token) is not None

    one, two, three, of_other = [await opened(who) for who in (user, user, user, other)]
    async with fixed_database.begin(SYSTEM) as tx:
        await identity.end_session(tx, one)
    assert [await alive(token) for token in (one, two, three, of_other)] == [False, True, True, True]
    async with fixed_database.begin(SYSTEM) as tx:
        await identity.end_sessions_of(tx, user.id)
    assert [await alive(token) for token in (two, three, of_other)] == [False, False, True]
    fixed_clock.advance(SESSION_IDLE_LIFETIME - timedelta(microseconds=1))
    assert await alive(of_other)
    fixed_clock.advance(timedelta(microseconds=1))
    assert not await alive(of_other)


async def test_verifying_twice_verifies_once(fixed_database: Database, fixed_clock: FixedClock):
    user = await add(fixed_database)
    async with fixed_database.begin(SYSTEM) as tx:
        assert await identity.mark_verified(tx, user.id) is True
    first = fixed_clock.now()
    fixed_clock.advance(timedelta(days=1))
    async with fixed_database.begin(SYSTEM) as tx:
        assert await identity.mark_verified(tx, user.id) is False
        assert (await identity.get_user(tx, user.id)).email_verified_at == first


async def test_no_password_hash_leaves_the_room_with_a_user(database: Database):
    user = await add(database)
    async with database.begin(SYSTEM) as tx:
        await identity.set_password(tx, user.id, "$argon2id$x")
        assert await tx.scalar(text("SELECT password_hash FROM users")) == "$argon2id$x"
        assert "argon2id" not in repr(await identity.get_user(tx, user.id))
