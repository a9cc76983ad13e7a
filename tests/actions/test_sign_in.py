"""Signing in: one error for every way it can be wrong; sessions hashed; out means out."""

import pytest

from bursar import actions, identity
from bursar.access import Actor
from bursar.actions import InvalidSignIn
from bursar.identity import Passwords, User
from bursar.kernel.errors import LinkExpired
from bursar.kernel.secrets import hash_secret
from bursar.storage import SYSTEM, Database
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio

PASSWORD = "a password long enough"


@pytest.fixture
async def ana(database: Database, passwords: Passwords) -> User:
    hashed = await passwords.hash(PASSWORD)
    async with database.begin(SYSTEM) as tx:
        return await identity.add_user(tx, email="ana@example.com", name="Ana", password_hash=hashed, verified=True)


async def sign_in(database: Database, passwords: Passwords, email: str, password: str) -> str:
    return await actions.sign_in(
        database, passwords, email=email, password=password, address="192.0.2.1", user_agent="a browser"
    )


async def whose(database: Database, token: str) -> User | None:
    async with database.snapshot(SYSTEM) as snapshot:
        found = await identity.find_session(snapshot, token)
    return None if found is None else found.user


async def test_the_right_password_opens_a_session_however_the_address_is_written(
    database: Database, passwords: Passwords, ana: User
):
    tokens = [await sign_in(database, passwords, email, PASSWORD) for email in ("ana@example.com", " ANA@Example.com")]
    assert tokens[0] != tokens[1]
    assert [await whose(database, token) for token in tokens] == [ana, ana]


async def test_a_wrong_password_an_unknown_address_and_a_user_without_a_password_get_the_same_answer(
    database: Database, passwords: Passwords, ana: User
):
    async with database.begin(SYSTEM) as tx:
        await identity.add_user(tx, email="invited@example.com", name="Tomas", password_hash=None)
    answers = set()
    for email, password in (
        ("ana@example.com", "another password"),
        ("nobody@example.com", PASSWORD),
        ("invited@example.com", PASSWORD),
        ("nobody@example.com", "nobody has this password"),
        ("", ""),
        ("ana@example.com\x00", PASSWORD),
        ("ana@example.com", PASSWORD + "\x00"),
    ):
        with pytest.raises(InvalidSignIn) as refusal:
            await sign_in(database, passwords, email, password)
        answers.add((refusal.value.status, str(refusal.value), refusal.value.remedy, str(refusal.value.ids)))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 401


async def test_an_unknown_address_costs_a_hash_like_a_known_one(
    database: Database, passwords: Passwords, ana: User, monkeypatch: pytest.MonkeyPatch
):
    from bursar.identity import _passwords as module

    looked = []
    real = module._verify
    monkeypatch.setattr(module, "_verify", lambda *given: looked.append(given) or real(*given))
    for email in ("ana@example.com", "nobody@example.com"):
        with pytest.raises(InvalidSignIn):
            await sign_in(database, passwords, email, "another password")
    assert [password for password, _ in looked] == ["another password"] * 2
    assert all(hashed.startswith("$argon2id$") for _, hashed in looked)


async def test_the_token_is_nowhere_in_the_database(database: Database, passwords: Passwords, ana: User):
    token = await sign_in(database, passwords, "ana@example.com", PASSWORD)
    stored = await everything_stored(database)
    assert hash_secret(token) in stored
    assert token not in stored
    assert PASSWORD not in stored


async def test_signing_out_ends_this_session_only_and_twice_is_once(
    database: Database, passwords: Passwords, ana: User
):
    one, other = [await sign_in(database, passwords, "ana@example.com", PASSWORD) for _ in range(2)]
    for _ in range(2):
        await actions.sign_out(database, one)
    assert await whose(database, one) is None
    assert await whose(database, other) == ana


async def test_a_link_from_the_terminal_signs_in_once_and_proves_no_address(database: Database, passwords: Passwords):
    user, _ = await actions.add_user(
        database, Actor.operator(), email="tomas@example.com", name="Tomas", public_url="https://b.example", mail=False
    )
    url = await actions.make_sign_in_link(database, user.id, public_url="https://b.example")
    token = url.removeprefix("https://b.example/link?token=")
    session = await actions.sign_in_by_link(database, token, address=None, user_agent=None)
    found = await whose(database, session)
    assert found is not None
    assert (found.id, found.is_verified) == (user.id, False)
    with pytest.raises(LinkExpired):
        await actions.sign_in_by_link(database, token, address=None, user_agent=None)
