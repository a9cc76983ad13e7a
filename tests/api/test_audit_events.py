"""`/audit-events`: the log of the key's owner, newest first, with filters and a cursor."""

from typing import Any

import pytest

from bursar import actions
from bursar.access import Actor
from bursar.kernel.ids import OwnerId
from tests.api.conftest import Api

pytestmark = pytest.mark.anyio


async def make(api: Api, **body: Any) -> str:
    headers = {"authorization": f"Bearer {api.management}"}
    answer = await api.client.post("/api/v1/keys", headers=headers, json={"name": "app", **body})
    return str(answer.json()["data"]["hash"])


async def change(api: Api, key: str, **body: Any) -> None:
    headers = {"authorization": f"Bearer {api.management}"}
    assert (await api.client.patch(f"/api/v1/keys/{key}", headers=headers, json=body)).status_code == 200


async def events(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = await api.get(f"/audit-events{query}", api.management)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def test_an_event_says_who_did_what_to_what_and_how_it_was_before(api: Api):
    key = await make(api, limit=5, limit_reset="daily")
    await change(api, key, limit=10)
    event = (await events(api, "?kind=limits"))[0]
    cast = api.world.cast
    assert event["action"] == "limit.set"
    assert event["sentence"] == "Ana Test (key test) changed the limit of key app from $5.00 to $10.00 daily"
    assert event["changes"]["amount_nanos"] == {"before": 5_000_000_000, "after": 10_000_000_000}
    assert (event["actor"]["kind"], event["actor"]["user_id"]) == ("key", cast.admin.id)
    assert event["actor"]["address"] == "127.0.0.1"
    assert event["actor"]["key_id"].startswith("key_")
    assert event["context_id"] == cast.acme.id
    assert event["subject"]["name"] == "key app"
    assert event["at"].endswith("Z")


async def test_the_cursor_leads_through_all_of_it_once(api: Api):
    for number in range(5):
        await make(api, name=f"key {number}")
    seen, cursor = [], ""
    while True:
        answer = (await api.get(f"/audit-events?kind=keys&limit=2{cursor}", api.management)).json()
        seen += [event["id"] for event in answer["data"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert len(seen) == len(set(seen)) == 7
    assert seen == sorted(seen, reverse=True)


async def test_the_filters_leave_what_they_say(api: Api):
    key = await make(api)
    await change(api, key, disabled=True)
    assert [event["action"] for event in await events(api, "?action=key.disabled")] == ["key.disabled"]
    assert {event["actor"]["kind"] for event in await events(api, "?actor=operator")} == {"operator"}
    newest = (await events(api))[0]
    assert await events(api, "?since=2999-01-01T00:00:00Z") == []
    assert newest in await events(api, "?until=2999-01-01T00:00:00Z")
    assert await events(api, "?until=2000-01-01T00:00:00Z") == []
    assert newest in await events(api, "?since=0001-01-01T00:00:00%2B23:59&until=9999-12-31T23:59:59-23:59")
    assert await events(api, "?actor=user_00000000000000000000000000") == []


@pytest.mark.parametrize(
    "query",
    [
        "?kind=x",
        "?limit=0",
        "?limit=101",
        "?cursor=x",
        "?cursor=",
        "?since=yesterday",
        "?since=2026-01-01T00:00:00",
        "?until=0.5",
        "?until=2026-02-30T00:00:00Z",
    ],
)
async def test_what_makes_no_sense_is_refused_and_named(api: Api, query: str):
    answer = await api.get(f"/audit-events{query}", api.management)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].startswith(query[1:].partition("=")[0])


async def test_another_owners_events_are_not_in_it_and_api_keys_do_not_read_it(api: Api):
    stranger = api.world.cast.stranger
    await actions.rename_user(api.world.database, Actor.person(stranger.id), stranger.id, "Sasha Secret")
    assert "Sasha" not in str(await events(api, "?limit=100"))
    assert OwnerId(stranger.id) not in str(await events(api, "?limit=100"))
    assert (await api.get("/audit-events", api.key)).status_code == 403
    assert (await api.get("/audit-events")).status_code == 401
