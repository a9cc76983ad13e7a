"""`/keys` with a management key, limits and budgets over the API: OpenRouter's shapes, and who may."""

from typing import Any

import httpx2
import pytest

from bursar import ledger
from bursar.kernel.ids import OwnerId
from bursar.keys import KeyKind
from bursar.storage import Scope
from tests.api.conftest import Api

pytestmark = pytest.mark.anyio

KEYS = {
    *("byok_usage", "byok_usage_daily", "byok_usage_monthly", "byok_usage_weekly", "created_at", "creator_user_id"),
    *("disabled", "expires_at", "external_user", "hash", "include_byok_in_limit", "label", "last_used_at", "limit"),
    *("limit_remaining", "limit_reset", "name", "updated_at", "usage", "usage_daily", "usage_monthly", "usage_weekly"),
    "workspace_id",
}


async def ask(api: Api, method: str, path: str, body: Any = None, key: str | None = None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key or api.management}"}
    return await api.client.request(method, f"/api/v1{path}", headers=headers, json=body)


async def made(api: Api, **body: Any) -> tuple[dict[str, Any], str]:
    answer = await ask(api, "POST", "/keys", {"name": "made", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()["data"], answer.json()["key"]


async def test_a_key_is_created_with_201_and_its_secret_once_and_works(api: Api):
    key, secret = await made(api, name="ci", limit=0.5, limit_reset="weekly", include_byok_in_limit=True)
    assert key.keys() == KEYS
    assert (key["name"], key["limit"], key["limit_remaining"], key["limit_reset"]) == ("ci", 0.5, 0.5, "weekly")
    assert (key["include_byok_in_limit"], key["disabled"], key["last_used_at"]) == (True, False, None)
    assert key["creator_user_id"] == api.world.cast.admin.id
    answer = await api.world.chat(key=secret)
    assert answer.status == 200
    cost = answer.json["usage"]["cost"]
    again = (await ask(api, "GET", f"/keys/{key['hash']}")).json()["data"]
    assert again["usage"] == again["usage_weekly"] == cost
    assert again["limit_remaining"] == pytest.approx(0.5 - cost)
    assert again["last_used_at"] is not None
    assert secret not in (await ask(api, "GET", "/keys")).text
    itself = await api.data("/key", secret)
    assert (itself["limit"], itself["limit_reset"]) == (0.5, "weekly")
    assert itself["limit_remaining"] == again["limit_remaining"]
    assert [each["scope"] for each in itself["budgets"]] == ["key_limit"]
    assert itself["effective_budget"]["resets_at"].endswith("T00:00:00Z")


async def test_keys_are_listed_newest_first_a_hundred_at_a_time_without_management_keys(api: Api):
    for number in range(101):
        await made(api, name=f"key {number}")
    first = (await ask(api, "GET", "/keys?offset=0")).json()["data"]
    rest = (await ask(api, "GET", "/keys?offset=100")).json()["data"]
    assert [key["name"] for key in first[:2]] == ["key 100", "key 99"]
    assert (len(first), [key["name"] for key in rest]) == (100, ["key 0", "test"])
    assert (await ask(api, "GET", "/keys?offset=200")).json() == {"data": []}


async def test_a_disabled_key_is_hidden_unless_asked_for_and_refused(api: Api):
    key, secret = await made(api)
    changed = await ask(api, "PATCH", f"/keys/{key['hash']}", {"disabled": True})
    assert changed.json()["data"]["disabled"] is True
    assert (await api.world.chat(key=secret)).status == 401
    assert key["hash"] not in (await ask(api, "GET", "/keys")).text
    assert key["hash"] in (await ask(api, "GET", "/keys?include_disabled=true")).text
    assert (await ask(api, "PATCH", f"/keys/{key['hash']}", {"disabled": False})).status_code == 200
    assert (await api.world.chat(key=secret)).status == 200


async def test_what_is_not_named_stays_and_a_limit_is_set_changed_and_removed(api: Api):
    key, secret = await made(api, limit=0)
    assert key["limit"] == 0, "no money, not no limit"
    assert (await api.world.chat(key=secret)).status == 403
    path = f"/keys/{key['hash']}"

    async def change(**body: Any) -> tuple[Any, ...]:
        found = (await ask(api, "PATCH", path, body)).json()["data"]
        return found["name"], found["limit"], found["limit_reset"]

    assert await change(limit=2.5) == ("made", 2.5, None)
    assert (await api.world.chat(key=secret)).status == 200
    assert await change(limit_reset="daily") == ("made", 2.5, "daily")
    assert await change(limit=0.000000001) == ("made", 1e-09, "daily")
    spent = (await ask(api, "GET", path)).json()["data"]
    assert spent["limit_remaining"] == 0
    assert await change(name="renamed") == ("renamed", 1e-09, "daily")
    assert await change(limit=None) == ("renamed", None, None)
    assert (await api.world.chat(key=secret)).status == 200
    nothing = await ask(api, "PATCH", path, {"expires_at": None})
    assert nothing.status_code == 400
    assert nothing.json()["error"]["message"].startswith("No update fields provided.")


async def test_a_key_is_deleted_for_good(api: Api):
    key, secret = await made(api, limit=1)
    assert (await ask(api, "DELETE", f"/keys/{key['hash']}")).json() == {"deleted": True}
    for method in ("GET", "DELETE"):
        assert (await ask(api, method, f"/keys/{key['hash']}")).status_code == 404
    assert (await api.world.chat(key=secret)).status == 401
    async with api.world.database.snapshot(Scope(api.world.cast.owner)) as snapshot:
        assert await ledger.list_limits(snapshot, api.world.cast.owner) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x", "limit": -1},
        {"name": "x", "limit": "NaN"},
        {"name": "x", "limit_reset": "hourly"},
        {"name": "x", "expires_at": "2027-01-01T00:00:00Z"},
        {"name": "x", "limit": "5"},
        {"name": "x", "limit": True},
        {"name": "x", "creator_user_id": "user_nobody"},
    ],
)
async def test_what_is_wrong_or_would_be_ignored_is_400(api: Api, body: dict[str, Any]):
    refused = await ask(api, "POST", "/keys", body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["code"] == 400


async def test_there_is_one_workspace_for_each_owner(api: Api):
    key, _ = await made(api)
    assert (await ask(api, "GET", f"/keys?workspace_id={key['workspace_id']}")).status_code == 200
    other = "5f0f5f0a-3c0e-5b0c-9a4e-b0c5a5b0c5a5"
    assert (await ask(api, "GET", f"/keys?workspace_id={other}")).status_code == 404
    assert (await ask(api, "POST", "/keys", {"name": "x", "workspace_id": other})).status_code == 404


async def test_a_method_that_is_not_there_is_told_which_are(api: Api):
    refused = await ask(api, "PUT", "/keys/x", {})
    assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, PATCH")


async def test_only_a_management_key_manages_and_only_what_is_its_owners(api: Api):
    key, _ = await made(api)
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("DELETE", f"/keys/{key['hash']}")):
        refused = await ask(api, method, path, {"name": "x"} if method == "POST" else None, api.key)
        assert refused.status_code == 403
        assert "Only management keys" in refused.json()["error"]["message"]
    stranger = api.world.cast.stranger.id
    theirs = await api.world.make_key(OwnerId(stranger), stranger, KeyKind.MANAGEMENT)
    for method in ("GET", "PATCH", "DELETE"):
        body = {"limit": 0} if method == "PATCH" else None
        assert (await ask(api, method, f"/keys/{key['hash']}", body, theirs)).status_code == 404
    assert key["hash"] not in (await ask(api, "GET", "/keys", None, theirs)).text
    management = (await api.data("/key", api.management))["label"]
    assert management not in (await ask(api, "GET", "/keys?include_disabled=true")).text


async def test_budgets_of_a_member_and_of_the_organization_bind_and_are_told(api: Api):
    member = api.world.cast.member.id
    key, secret = await made(api, creator_user_id=member)
    assert key["creator_user_id"] == member
    set_ = await ask(api, "PATCH", f"/organization/members/{member}/budget", {"limit": 1, "limit_reset": "monthly"})
    assert set_.json()["data"]["scope"] == "member"
    assert (await api.world.chat(key=secret)).status == 200
    set_ = await ask(api, "PATCH", "/organization/budget", {"limit": 0})
    assert (set_.json()["data"]["scope"], set_.json()["data"]["limit_usd"]) == ("workspace", 0)
    refused = await api.world.chat(key=secret)
    assert refused.status == 403
    assert refused.error["message"].startswith("Organization total budget of $0.00 exceeded.")
    itself = await api.data("/key", secret)
    assert [each["scope"] for each in itself["budgets"]] == ["member", "workspace"]
    assert itself["effective_budget"]["scope"] == "workspace"
    assert itself["limit"] is None
    assert (await ask(api, "PATCH", "/organization/budget", {"limit": None})).json() == {"data": None}
    assert (await api.world.chat(key=secret)).status == 200
    nobody = await ask(api, "PATCH", "/organization/members/user_nobody/budget", {"limit": 1})
    assert nobody.status_code == 404
