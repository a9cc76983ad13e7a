"""`Idempotency-Key`: what creates something does it once, however often and however much at once it is sent."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from bursar import actions, keys, storage
from bursar.access import Actor, Role
from bursar.kernel.clock import FixedClock
from bursar.kernel.errors import Unavailable
from bursar.kernel.ids import OwnerId
from bursar.keys import KeyKind
from bursar.storage import SYSTEM, Database, Repeat, RepeatName, Scope
from tests.api.conftest import Api

pytestmark = pytest.mark.anyio

NOT_NAMES = ("", " ", "two words", "ü", "x" * 256, "tab\tbed")


async def create(api: Api, body: Any, name: str | None = None, key: str | None = None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key or api.management}"}
    if name is not None:
        headers["idempotency-key"] = name
    return await api.client.post("/api/v1/keys", headers=headers, json=body)


async def count(api: Api, table: str, condition: str = "true") -> int:
    async with api.world.database.snapshot(SYSTEM) as snapshot:
        return int(await snapshot.scalar(text(f"SELECT count(*) FROM {table} WHERE {condition}")))


async def test_the_same_name_and_body_answer_the_same_but_for_the_secret_and_do_nothing(api: Api):
    body, name = {"name": "ci", "limit": 5, "limit_reset": "daily"}, str(uuid4())
    first = await create(api, body, name)
    again = await create(api, body, name)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["data"] == first.json()["data"]
    assert first.json()["key"].startswith("sk-bursar-v1-")
    assert again.json()["key"] is None
    assert "shown once" in again.json()["note"]
    assert first.headers.get("idempotent-replayed") is None
    assert again.headers["idempotent-replayed"] == "true"
    assert await count(api, "keys", "name = 'ci'") == 1
    assert await count(api, "audit_events", "action = 'key.created' AND actor_kind = 'key'") == 1
    async with api.world.database.snapshot(SYSTEM) as snapshot:
        kept = await snapshot.all(text("SELECT * FROM repeats"))
    assert len(kept) == 1
    assert first.json()["key"] not in str(kept)
    assert name not in str(kept)


async def test_the_answer_stays_what_it_was_when_the_key_was_renamed_since(api: Api):
    first = (await create(api, {"name": "ci"}, "n1")).json()["data"]
    headers = {"authorization": f"Bearer {api.management}"}
    await api.client.patch(f"/api/v1/keys/{first['hash']}", headers=headers, json={"name": "other"})
    assert (await create(api, {"name": "ci"}, "n1")).json()["data"] == first


async def test_another_body_under_the_same_name_is_409_and_nothing_is_made(api: Api):
    assert (await create(api, {"name": "one"}, "n1")).status_code == 201
    refused = await create(api, {"name": "two"}, "n1")
    assert refused.status_code == 409
    assert "Idempotency-Key" in refused.json()["error"]["message"]
    assert await count(api, "keys", "name = 'two'") == 0


async def test_bodies_that_mean_the_same_are_the_same(api: Api):
    assert (await create(api, {"name": "one", "limit": 5}, "n1")).status_code == 201
    again = await create(api, {"limit": 5, "name": "one"}, "n1")
    assert again.headers["idempotent-replayed"] == "true"


async def test_without_a_name_each_request_makes_one(api: Api):
    for _ in range(2):
        assert (await create(api, {"name": "ci"})).status_code == 201
    assert await count(api, "keys", "name = 'ci'") == 2
    assert await count(api, "repeats") == 0


@pytest.mark.parametrize("name", NOT_NAMES)
async def test_a_malformed_name_is_400_and_makes_nothing(api: Api, name: str):
    answer = await create(api, {"name": "ci"}, name.encode("latin-1"))  # type: ignore[arg-type]
    assert answer.status_code == 400, answer.text
    assert "Idempotency-Key" in answer.json()["error"]["message"]
    assert await count(api, "keys", "name = 'ci'") == 0


async def test_a_refusal_is_not_kept(api: Api):
    stranger = api.world.cast.stranger.id
    body = {"name": "ci", "creator_user_id": stranger}
    assert (await create(api, body, "n1")).status_code == 400
    await actions.add_member(
        api.world.database,
        Actor.operator(),
        organization=api.world.cast.acme.id,
        user=stranger,
        role=Role.MEMBER,
    )
    assert (await create(api, body, "n1")).status_code == 201


async def test_one_keys_names_are_not_anothers(api: Api):
    other = await api.world.make_key(kind=KeyKind.MANAGEMENT)
    assert (await create(api, {"name": "one"}, "n1")).status_code == 201
    assert (await create(api, {"name": "two"}, "n1", key=other)).status_code == 201


async def test_of_many_at_once_one_creates_and_all_answer_alike(api: Api):
    for round_ in range(5):
        answers = await asyncio.gather(*(create(api, {"name": f"r{round_}"}, f"n{round_}") for _ in range(8)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["data"]["hash"] for answer in answers}) == 1
        assert len([answer for answer in answers if answer.json()["key"] is not None]) == 1
        assert await count(api, "keys", f"name = 'r{round_}'") == 1


async def test_of_two_bodies_at_once_under_one_name_one_is_made_and_the_other_is_409(api: Api):
    for round_ in range(5):
        answers = await asyncio.gather(*(create(api, {"name": f"r{round_}-{n}"}, f"n{round_}") for n in range(6)))
        assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
        assert await count(api, "keys", f"name LIKE 'r{round_}-%'") == 1


async def test_what_cannot_be_committed_leaves_neither_the_key_nor_the_name(api: Api, monkeypatch: pytest.MonkeyPatch):
    whole = Database._commit

    async def torn(*_: Any) -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(Database, "_commit", torn)
    assert (await create(api, {"name": "ci"}, "n1")).status_code == 503
    monkeypatch.setattr(Database, "_commit", whole)
    assert await count(api, "repeats") == await count(api, "keys", "name = 'ci'") == 0
    assert (await create(api, {"name": "ci"}, "n1")).json()["key"] is not None


async def test_a_name_is_kept_for_a_day_and_then_forgotten(fixed_database: Database, fixed_clock: FixedClock):
    name = RepeatName(OwnerId("org_1"), "key_1", "h" * 64)
    first, second = Repeat(name, "a" * 64, 201, "{}"), Repeat(name, "b" * 64, 201, "[]")
    scope = Scope(name.owner)

    async def keep(repeat: Repeat) -> bool:
        async with fixed_database.begin(scope) as tx:
            return await storage.keep_repeat(tx, repeat)

    async def find() -> Repeat | None:
        async with fixed_database.snapshot(scope) as snapshot:
            return await storage.find_repeat(snapshot, name)

    assert (await keep(first), await keep(second), await find()) == (True, False, first)
    fixed_clock.advance(timedelta(days=1))
    assert await find() is None
    assert (await keep(second), await find()) == (True, second), "the old one makes room before the job comes by"
    assert await storage.forget_old_repeats(fixed_database) == 0
    fixed_clock.advance(timedelta(days=1))
    assert await storage.forget_old_repeats(fixed_database) == 1


async def test_a_demoted_creators_management_key_is_refused_whatever_it_asks(api: Api):
    cast, database = api.world.cast, api.world.database
    for creator in (cast.member, cast.stranger):
        async with database.begin(SYSTEM) as tx:
            _, secret = await keys.create(
                tx, api.world.checker, owner=cast.owner, creator=creator.id, name="x", kind=KeyKind.MANAGEMENT
            )
        headers = {"authorization": f"Bearer {secret}"}
        for method, path in (
            ("GET", "/keys"),
            ("GET", "/credits"),
            ("POST", "/keys"),
            ("PATCH", "/organization/budget"),
        ):
            answer = await api.client.request(method, f"/api/v1{path}", headers=headers, json={"name": "x", "limit": 1})
            assert answer.status_code == 403, (method, path, answer.text)


async def test_what_a_management_key_does_is_audited_with_the_key_its_creator_and_the_address(api: Api):
    await create(api, {"name": "ci"})
    async with api.world.database.snapshot(SYSTEM) as snapshot:
        row = await snapshot.first(
            text("SELECT * FROM audit_events WHERE action = 'key.created' AND actor_kind = 'key'")
        )
    assert row is not None
    assert row.actor_user_id == api.world.cast.admin.id
    assert row.actor_key_id.startswith("key_")
    assert row.address == "127.0.0.1"


async def test_a_rotation_that_is_sent_twice_rotates_once(api: Api):
    key = (await create(api, {"name": "ci"})).json()["data"]
    headers = {"authorization": f"Bearer {api.management}", "idempotency-key": "r1"}
    answers = await asyncio.gather(
        *(api.client.post(f"/api/v1/keys/{key['hash']}/rotate", headers=headers, json={}) for _ in range(5))
    )
    again = await api.client.post(f"/api/v1/keys/{key['hash']}/rotate", headers=headers, json={})
    assert {answer.status_code for answer in (*answers, again)} == {200}
    assert len({answer.json()["data"]["hash"] for answer in (*answers, again)}) == 1
    assert len([answer for answer in answers if answer.json()["key"] is not None]) == 1
    assert await count(api, "audit_events", "action = 'key.rotated'") == 1
