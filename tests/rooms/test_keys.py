"""Keys: a made-up one is refused without a look-up; a real one is found by its hash and its plaintext is nowhere."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar import keys
from bursar.kernel.clock import FixedClock
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import OwnerId, UserId
from bursar.kernel.secrets import hash_secret
from bursar.keys import KEY_PREFIX, Key, KeyChecker, KeyKind
from bursar.storage import SYSTEM, Database, Scope
from tests.conftest import SECRET
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio

ACME, GLOBEX = OwnerId("org_acme"), OwnerId("org_globex")
ANA, TOMAS = UserId("user_ana"), UserId("user_tomas")
CHECKER = KeyChecker(SECRET)
REAL = CHECKER.mint()
GARBAGE = {
    "nothing": "",
    "spaces": " " * len(REAL),
    "the prefix only": KEY_PREFIX,
    "no prefix": REAL.removeprefix(KEY_PREFIX),
    "another product's prefix": REAL.replace("bursar", "openai"),
    "another version": REAL.replace("-v1-", "-v2-"),
    "a capital prefix": REAL.replace("sk-", "SK-"),
    "one character less": REAL[:-1],
    "one character more": REAL + "A",
    "a space before": " " + REAL,
    "a space after": REAL + " ",
    "a line break after": REAL[:-1] + "\n",
    "the wrong checksum": REAL[:-8] + "0" * 8,
    "no checksum": REAL[:-8] + " " * 8,
    "checksum of another": REAL[:-8] + CHECKER.mint()[-8:],
    "another random part": KEY_PREFIX + "A" * 43 + REAL[-8:],
    "turned letters": REAL[:-10] + REAL[-10:].swapcase(),
    "of another installation": KeyChecker(SECRET + b".").mint(),
    "an e-mail address": "ana@example.com".ljust(len(REAL), "x"),
    "an injection": ("' OR '1'='1' --").ljust(len(REAL), "-"),
    "null bytes": KEY_PREFIX + "\x00" * 51,
    "not text": KEY_PREFIX + "\ud800" * 51,
    "wide digits": KEY_PREFIX + "１" * 51,
    "very long": KEY_PREFIX + "A" * 1_000_000,
    "bytes": "sk-\xff\xfe",
    "bearer": f"Bearer {REAL}",
}


@pytest.fixture
async def minted(database: Database, checker: KeyChecker) -> tuple[Key, str]:
    return await mint(database, checker)


async def mint(
    database: Database, checker: KeyChecker, owner: OwnerId = ACME, creator: UserId = ANA, name: str = "app"
) -> tuple[Key, str]:
    async with database.begin(Scope(owner)) as tx:
        return await keys.create(tx, checker, owner=owner, creator=creator, name=name, kind=KeyKind.INFERENCE)


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_not_ours(text: str):
    assert not CHECKER.is_ours(text)


def test_a_minted_key_is_ours_and_no_two_are_the_same():
    minted = [CHECKER.mint() for _ in range(500)]
    assert all(CHECKER.is_ours(text) and text.startswith(KEY_PREFIX) for text in minted)
    assert len(set(minted)) == 500


@given(st.integers(0, len(REAL) - 1), st.characters(codec="utf-8"))
def test_a_key_with_any_one_character_changed_is_not_ours(position: int, character: str):
    changed = REAL[:position] + character + REAL[position + 1 :]
    assert CHECKER.is_ours(changed) == (changed == REAL)


@given(st.text(max_size=80))
def test_no_text_whatever_is_an_error(text: str):
    assert not CHECKER.is_ours(text)


async def test_a_key_is_found_by_the_hash_of_its_plaintext(database: Database, minted: tuple[Key, str]):
    key, plaintext = minted
    async with database.snapshot(SYSTEM) as snapshot:
        assert await keys.find_by_hash(snapshot, hash_secret(plaintext)) == key
        assert await keys.find_by_hash(snapshot, plaintext) is None
    assert key.is_usable


async def test_the_plaintext_is_nowhere_in_the_database(database: Database, minted: tuple[Key, str]):
    key, plaintext = minted
    stored = await everything_stored(database)
    assert key.hash in stored
    assert plaintext not in stored
    assert plaintext[len(KEY_PREFIX) + 3 : -4] not in stored


async def test_a_label_shows_the_first_three_and_the_last_four_characters(minted: tuple[Key, str]):
    key, plaintext = minted
    assert key.label == f"{plaintext[:16]}...{plaintext[-4:]}"
    assert len(key.label) == 23


async def test_keys_are_listed_newest_first_all_or_one_creators(
    fixed_database: Database, fixed_clock: FixedClock, checker: KeyChecker
):
    for name, creator in (("first", ANA), ("second", TOMAS), ("third", ANA)):
        await mint(fixed_database, checker, creator=creator, name=name)
        fixed_clock.advance(timedelta(seconds=1))
    await mint(fixed_database, checker, owner=GLOBEX, name="elsewhere")
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        assert [key.name for key in await keys.list_keys(snapshot, ACME)] == ["third", "second", "first"]
        assert [key.name for key in await keys.list_keys(snapshot, ACME, creator=ANA)] == ["third", "first"]
        assert [key.name for key in await keys.list_keys(snapshot, GLOBEX)] == ["elsewhere"]


async def test_a_disabled_key_is_listed_but_not_usable_until_it_is_enabled(database: Database, minted: tuple[Key, str]):
    key, _ = minted
    heard: list[str] = []
    database.changes.subscribe("key", lambda change: heard.append(change.subject))
    for disabled in (True, False):
        async with database.begin(Scope(ACME)) as tx:
            await keys.set_disabled(tx, key, disabled)
        async with database.snapshot(Scope(ACME)) as snapshot:
            (found,) = await keys.list_keys(snapshot, ACME)
        assert found.is_usable is not disabled
        assert found.updated_at is not None
    assert heard == [key.hash] * 2


async def test_a_deleted_key_is_gone_from_the_list_but_keeps_its_name_for_the_activity(
    database: Database, minted: tuple[Key, str]
):
    key, _ = minted
    heard: list[str] = []
    database.changes.subscribe("key", lambda change: heard.append(change.subject))
    async with database.begin(Scope(ACME)) as tx:
        await keys.delete(tx, key)
    async with database.snapshot(Scope(ACME)) as snapshot:
        assert list(await keys.list_keys(snapshot, ACME)) == []
        assert await keys.find_key(snapshot, ACME, key.id) is None
        (kept,) = await keys.list_keys(snapshot, ACME, deleted=True)
        by_hash = await keys.find_by_hash(snapshot, key.hash)
    assert (kept.name, kept.is_usable) == ("app", False)
    assert by_hash == kept
    assert heard == [key.hash]


async def test_a_key_is_not_found_at_another_owner(database: Database, minted: tuple[Key, str]):
    key, _ = minted
    async with database.snapshot(SYSTEM) as snapshot:
        assert await keys.find_key(snapshot, ACME, key.id) == key
        assert await keys.find_key(snapshot, GLOBEX, key.id) is None


async def test_the_last_use_never_goes_back(database: Database, minted: tuple[Key, str]):
    key, _ = minted
    later, earlier = key.created_at + timedelta(hours=2), key.created_at + timedelta(hours=1)
    for at in (later, earlier):
        async with database.begin(Scope(ACME)) as tx:
            await keys.touch(tx, ACME, key.id, at)
    async with database.snapshot(Scope(ACME)) as snapshot:
        found = await keys.find_key(snapshot, ACME, key.id)
    assert found is not None
    assert found.last_used_at == later


async def test_a_name_that_says_nothing_or_hides_something_is_refused(database: Database, checker: KeyChecker):
    for name in ["", "   ", "\n", "x" * 101, "a\x00b", "a\u202eb", "a\ud800"]:
        with pytest.raises(InvalidField) as refusal:
            await mint(database, checker, name=name)
        assert refusal.value.field == "name"


async def test_a_name_is_tidied_and_may_be_in_any_script(database: Database, checker: KeyChecker):
    key, _ = await mint(database, checker, name="  Zoë's \t 検索 ")
    assert key.name == "Zoë's 検索"


async def test_twenty_made_at_once_are_twenty(database: Database, checker: KeyChecker):
    made = await asyncio.gather(*(mint(database, checker) for _ in range(20)))
    async with database.snapshot(Scope(ACME)) as snapshot:
        assert {key.id for key in await keys.list_keys(snapshot, ACME)} == {key.id for key, _ in made}
