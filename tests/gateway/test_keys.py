"""Stop 2: who may call. Made-up keys never reach the database; a change of a key is in force with the next request."""

import pytest

from bursar import actions
from bursar.access import Actor
from bursar.kernel.secrets import hash_secret
from bursar.keys import KeyKind, find_by_hash
from bursar.storage import SYSTEM
from tests.gateway.garbage import garbage_headers
from tests.gateway.world import World

pytestmark = pytest.mark.anyio

BODY = b'{"model": "demo/echo-1", "messages": [{"role": "user", "content": "Hi"}]}'


async def test_no_kind_of_garbage_key_is_let_in_or_looked_up(world: World):
    kinds = {
        **garbage_headers(world.key),
        "nul": f"Bearer {world.key[:-1]}\0",
        "nul and more": f"Bearer {world.key}\0x",
        "a mebibyte": "Bearer " + "k" * 1024 * 1024,
        "line end inside": f"Bearer {world.key[:30]}\r\n{world.key[30:]}",
    }
    assert len(kinds) >= 20
    for kind, authorization in kinds.items():
        answer = await world.post(BODY, authorization=authorization)
        assert answer.status == 401, kind
        assert answer.error["metadata"]["error_type"] == "authentication", kind
        assert answer.error["metadata"]["remedy_hint"], kind
        assert world.key not in answer.body.decode(), kind
    assert world.admission.lookups == 0
    assert await world.generations() == []


async def test_a_missing_header_is_401_and_says_what_to_send(world: World):
    answer = await world.post(BODY, authorization="")
    assert answer.status == 401
    assert answer.error["message"].startswith("Missing Authentication header")


async def test_a_good_key_is_looked_up_once_and_the_scheme_may_be_written_in_any_case(world: World):
    for authorization in (f"Bearer {world.key}", f"bearer {world.key}", f"BEARER   {world.key}  "):
        assert (await world.post(BODY, authorization=authorization)).status == 200
    assert world.admission.lookups == 1


async def test_a_well_formed_key_that_was_never_made_is_401_and_remembered(world: World):
    minted = world.checker.mint()
    for _ in range(3):
        assert (await world.post(BODY, key=minted)).status == 401
    assert world.admission.lookups == 1


async def test_a_management_key_cannot_call_models(world: World):
    management = await world.make_key(kind=KeyKind.MANAGEMENT)
    answer = await world.post(BODY, key=management)
    assert answer.status == 403
    assert answer.error["metadata"]["error_type"] == "permission_denied"
    assert await world.generations() == []


async def test_a_disabled_key_is_refused_with_the_next_request_and_works_again_when_enabled(world: World):
    async with world.database.snapshot(SYSTEM) as snapshot:
        key = await find_by_hash(snapshot, hash_secret(world.key))
    assert key is not None
    assert (await world.post(BODY)).status == 200
    for disabled, status in ((True, 401), (False, 200), (True, 401)):
        await actions.set_key_disabled(
            world.database, Actor.operator(), owner=world.cast.owner, key=key.id, disabled=disabled
        )
        answer = await world.post(BODY)
        assert answer.status == status
    assert "disabled" in answer.error["message"]


async def test_a_deleted_key_is_refused_with_the_next_request(world: World):
    async with world.database.snapshot(SYSTEM) as snapshot:
        key = await find_by_hash(snapshot, hash_secret(world.key))
    assert key is not None
    assert (await world.post(BODY)).status == 200
    await actions.delete_key(world.database, Actor.operator(), owner=world.cast.owner, key=key.id)
    assert (await world.post(BODY)).status == 401
    row = (await world.generations())[0]
    assert row.key_id == key.id, "its activity stays"
    await world.books_are_right()


async def test_a_key_bills_the_owner_it_belongs_to_and_nobody_else(world: World):
    owner, key = await world.make_pool(1_000_000)
    before = await world.balance()
    answer = await world.chat(key=key, max_tokens=50)
    row = await world.generation(answer.json["id"], owner)
    assert (await world.balance(owner)).spent == row.cost_nanos > 0
    assert await world.balance() == before
