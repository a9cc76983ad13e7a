"""From where a key was used last: noted beside the request, written by the clock, believed as far as trusted proxies tell it."""

from typing import Any

import pytest

from bursar import keys
from bursar.gateway import Attendant, Caller, KeyCaller, Uses
from bursar.kernel.ids import KeyId, OwnerId, UserId, WorkerId
from bursar.kernel.secrets import hash_secret
from bursar.keys import Key, KeyKind
from bursar.storage import SYSTEM, Database
from tests.gateway.world import World

pytestmark = pytest.mark.anyio

OWNER, USER, KEY = OwnerId("org_acme"), UserId("user_ana"), KeyId("key_one")
CALLER = KeyCaller(OWNER, USER, KEY, "0" * 64, KeyKind.INFERENCE)


def scope(client: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"host", b"here"), *((b"x-forwarded-for", each.encode("latin-1")) for each in forwarded)]
    return {"headers": headers, "client": None if client is None else (client, 4711)}


@pytest.mark.parametrize(
    ("client", "forwarded", "expected"),
    [
        ("203.0.113.7", (), "203.0.113.7"),
        ("203.0.113.7", ("198.51.100.1",), "203.0.113.7"),  # nobody asked a stranger
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("6.6.6.6, 198.51.100.1",), "198.51.100.1"),  # what the client made up stands further left
        ("10.0.0.1", ("6.6.6.6", "198.51.100.1, 10.0.0.2"), "198.51.100.1"),
        ("10.0.0.1", ("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        ("10.0.0.1", ("2001:db8::1",), "2001:db8::1"),
        ("10.0.0.1", ("not an address",), "10.0.0.1"),
        ("10.0.0.1", ("\xff\xfe, " * 3,), "10.0.0.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("a unix socket", ("198.51.100.1",), "a unix socket"),
        (None, ("198.51.100.1",), None),
    ],
)
def test_the_address_is_the_last_that_no_trusted_proxy_vouches_for(client, forwarded, expected):
    uses = Uses(["10.0.0.0/8"])
    uses.note(CALLER, scope(client, *forwarded))
    assert uses.take() == ({} if expected is None else {(OWNER, KEY): expected})


def test_only_what_is_new_is_taken_and_what_could_not_be_written_is_new_again():
    uses = Uses()
    assert uses.take() == {}
    uses.note(Caller(OWNER, USER), scope("192.0.2.1"))
    assert uses.take() == {}, "a chat has no key"
    for address in ("192.0.2.1", "192.0.2.2"):
        uses.note(CALLER, scope(address))
    taken = uses.take()
    assert taken == {(OWNER, KEY): "192.0.2.2"}
    uses.note(CALLER, scope("192.0.2.2"))
    assert uses.take() == {}
    uses.give_back(taken)
    uses.note(CALLER, scope("192.0.2.2"))
    assert uses.take() == taken


async def test_a_request_leaves_its_address_with_the_key_and_pages_and_others_read_it(world: World):
    uses = Uses()
    world.gateway._uses = uses
    attendant = Attendant(world.database, WorkerId("w1"), uses)
    assert (await world.chat()).status == 200
    assert await address(world.database, world.key) is None
    await attendant.write_uses()
    assert await address(world.database, world.key) == "192.0.2.44"


async def address(database: Database, secret: str) -> str | None:
    async with database.snapshot(SYSTEM) as snapshot:
        found: Key | None = await keys.find_by_hash(snapshot, hash_secret(secret))
    assert found is not None
    return found.last_used_address
