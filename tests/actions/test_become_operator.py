"""The first user is the operator, exactly one, by a link that the terminal printed."""

import asyncio

import pytest

from bursar import actions, identity
from bursar.identity import LinkPurpose, Passwords, User
from bursar.kernel.errors import Conflict, InvalidField, LinkExpired
from bursar.storage import SYSTEM, Database

pytestmark = pytest.mark.anyio


async def invite(database: Database) -> str | None:
    url = await actions.invite_operator(database, public_url="https://b.example")
    return None if url is None else url.removeprefix("https://b.example/become-operator?token=")


async def become(
    database: Database,
    passwords: Passwords,
    token: str,
    email: str = "op@example.com",
    password: str = "long enough one",
) -> User:
    return await actions.become_operator(
        database, passwords, token=token, email=email, name="Op", password=password, address=None
    )


async def operators(database: Database) -> list[str]:
    async with database.snapshot(SYSTEM) as snapshot:
        return [user.email for user in await identity.list_users(snapshot) if user.is_operator]


async def test_the_link_makes_a_verified_operator_and_no_second_one_is_invited(
    database: Database, passwords: Passwords
):
    token = await invite(database)
    assert token is not None
    user = await become(database, passwords, token)
    assert user.is_operator
    assert user.is_verified
    assert await invite(database) is None
    with pytest.raises(LinkExpired):
        await become(database, passwords, token, "eve@example.com")
    assert await operators(database) == ["op@example.com"]


async def test_of_ten_attempts_with_one_link_at_once_one_succeeds(database: Database, passwords: Passwords):
    token = await invite(database)
    assert token is not None
    results = await asyncio.gather(
        *(become(database, passwords, token, f"op{number}@example.com") for number in range(10)), return_exceptions=True
    )
    assert sum(isinstance(result, User) for result in results) == 1
    assert sum(isinstance(result, LinkExpired) for result in results) == 9
    assert len(await operators(database)) == 1


async def test_of_ten_attempts_with_ten_links_at_once_one_succeeds(database: Database, passwords: Passwords):
    """Two nodes that start at once may both have printed a link."""
    tokens = [await invite(database) for _ in range(10)]
    async with database.begin(SYSTEM) as tx:  # as if they had been minted at the very same time
        await tx.execute(identity.tables.links.update().values(spent_at=None))
    results = await asyncio.gather(
        *(become(database, passwords, token, f"op{number}@example.com") for number, token in enumerate(tokens)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, User) for result in results) == 1, results
    assert sum(isinstance(result, LinkExpired) for result in results) == 9, results
    assert len(await operators(database)) == 1


async def test_what_is_wrong_with_the_form_leaves_the_link_good(database: Database, passwords: Passwords):
    token = await invite(database)
    assert token is not None
    async with database.begin(SYSTEM) as tx:
        await identity.add_user(tx, email="taken@example.com", name="Taken", password_hash=None)
    with pytest.raises(InvalidField):
        await become(database, passwords, token, "nonsense")
    with pytest.raises(InvalidField):
        await become(database, passwords, token, password="short")
    with pytest.raises(Conflict):
        await become(database, passwords, token, "taken@example.com")
    assert (await become(database, passwords, token)).is_operator


async def test_a_later_link_replaces_the_earlier_and_another_kind_of_link_makes_nobody_operator(
    database: Database, passwords: Passwords
):
    earlier, later = await invite(database), await invite(database)
    assert earlier is not None
    assert later is not None
    with pytest.raises(LinkExpired):
        await become(database, passwords, earlier)
    async with database.begin(SYSTEM) as tx:
        user = await identity.add_user(tx, email="ana@example.com", name="Ana", password_hash=None)
        other = await identity.mint_link(tx, user.id, LinkPurpose.SET_PASSWORD)
    with pytest.raises(LinkExpired):
        await become(database, passwords, other)
    assert (await become(database, passwords, later)).is_operator
