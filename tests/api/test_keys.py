"""`/keys` with a management key, limits and budgets over the API: OpenRouter's shapes, and who may."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from bursar import ledger, organizations
from bursar.access import Role
from bursar.kernel.ids import OwnerId
from bursar.kernel.secrets import hash_secret
from bursar.keys import KeyKind
from bursar.storage import SYSTEM, Scope
from tests.api.conftest import Api
from tests.gateway.world import Answer

pytestmark = pytest.mark.anyio

KEYS = {
    *("byok_usage", "byok_usage_daily", "byok_usage_monthly", "byok_usage_weekly", "created_at", "creator_user_id"),
    *("disabled", "expires_at", "external_user", "hash", "include_byok_in_limit", "label", "last_used_at", "limit"),
    *("limit_remaining", "limit_reset", "name", "updated_at", "usage", "usage_daily", "usage_monthly", "usage_weekly"),
    *("workspace_id", "rotated_at", "previous_hash", "previous_label", "previous_until"),
}


async def ask(api: Api, method: str, path: str, body: Any = None, key: str | None = None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key or api.management}"}
    return await api.client.request(method, f"/api/v1{path}", headers=headers, json=body)


async def until_refused(api: Api, secret: str, at: datetime) -> Answer:
    """Asks on and on; nothing that was asked after `at` succeeds. (A tenth of a second for two processes' clocks.)"""
    while True:
        asked = api.world.database.clock.now()
        answer = await api.world.chat(key=secret)
        if answer.status != 200:
            assert answer.status == 401
            return answer
        assert asked < at + timedelta(milliseconds=100)
        await asyncio.sleep(0.02)


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
    deleted = (await ask(api, "DELETE", f"/keys/{key['hash']}")).json()
    assert deleted.keys() == {"deleted", "acknowledged", "acknowledged_by", "workers"}
    assert (deleted["deleted"], deleted["acknowledged"]) == (True, True)
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
        {"name": "x", "expires_at": "2027-01-01T00:00Z"},
        {"name": "x", "expires_at": "2027-01-01T00:00:00"},
        {"name": "x", "expires_at": "2027-01-01T00:00:00+01:00"},
        {"name": "x", "expires_at": "2027-02-29T00:00:00Z"},
        {"name": "x", "expires_at": "2026-01-01T00:00:00Z"},
        {"name": "x", "expires_at": 1798761600},
        {"name": "x", "limit": "5"},
        {"name": "x", "limit": True},
        {"name": "x", "creator_user_id": "user_nobody"},
    ],
)
async def test_what_is_wrong_or_would_be_ignored_is_400(api: Api, body: dict[str, Any]):
    refused = await ask(api, "POST", "/keys", body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["code"] == 400


async def test_a_key_that_expires_says_so_is_refused_at_that_second_and_is_hidden(api: Api):
    at = (api.world.database.clock.now() + timedelta(seconds=6)).replace(microsecond=0)
    key, secret = await made(api, expires_at=at.isoformat())
    assert key["expires_at"] == f"{at:%Y-%m-%dT%H:%M:%SZ}"
    assert (await api.data("/key", secret))["expires_at"] == key["expires_at"]
    assert (await api.world.chat(key=secret)).status == 200
    unchanged = await ask(api, "PATCH", f"/keys/{key['hash']}", {"expires_at": None, "name": "other"})
    assert unchanged.json()["data"]["expires_at"] == key["expires_at"]
    lookups = api.world.admission.lookups
    answer = await until_refused(api, secret, at)
    assert api.world.database.clock.now() >= at
    assert api.world.admission.lookups == lookups, "the cache knew"
    assert answer.error["message"].startswith(f"This API key expired at {at:%Y-%m-%d %H:%M:%S} UTC. Create a new key")
    assert (await ask(api, "GET", "/key", key=secret)).status_code == 401
    assert key["hash"] not in (await ask(api, "GET", "/keys")).text
    assert key["hash"] in (await ask(api, "GET", "/keys?include_expired=true")).text
    refused = await ask(api, "POST", f"/keys/{key['hash']}/rotate", {})
    assert refused.status_code == 409
    assert (await ask(api, "DELETE", f"/keys/{key['hash']}")).json()["deleted"] is True


async def test_a_rotated_key_is_the_same_key_and_its_old_secret_works_for_a_while(api: Api):
    key, old = await made(api, name="ci", limit=5, limit_reset="daily")
    spent = (await api.world.chat(key=old)).json["usage"]["cost"]
    rotated = await ask(api, "POST", f"/keys/{key['hash']}/rotate", {"grace_seconds": 3600})
    assert rotated.status_code == 200, rotated.text
    new, now = rotated.json()["key"], rotated.json()["data"]
    assert new != old
    assert new not in rotated.json()["data"].values()
    assert now["hash"] == hash_secret(new) != key["hash"]
    assert (now["previous_hash"], now["previous_label"]) == (key["hash"], key["label"])
    kept = ("name", "limit", "limit_reset", "creator_user_id", "created_at", "expires_at")
    assert [now[each] for each in kept] == [key[each] for each in kept]
    assert now["usage"] == spent
    for secret in (old, new):
        assert (await api.world.chat(key=secret)).status == 200
        assert (await api.data("/key", secret))["usage"] > spent
    # Both hashes find it, and it is one key.
    for each in (key["hash"], now["hash"]):
        found = (await ask(api, "GET", f"/keys/{each}")).json()["data"]
        assert (found["hash"], found["usage"]) == (now["hash"], pytest.approx(3 * spent))
    assert [each["name"] for each in (await ask(api, "GET", "/keys")).json()["data"]] == ["ci", "test"]
    # Without grace the one before ends at once, and so does whatever was before that.
    again = await ask(api, "POST", f"/keys/{key['hash']}/rotate", {"grace_seconds": 0})
    assert (await api.world.chat(key=again.json()["key"])).status == 200
    refused = await api.world.chat(key=new)
    assert refused.status == 401
    assert refused.error["message"].startswith("This API key was rotated, and its old secret ended at ")
    assert "Use the secret that was shown" in refused.error["message"]
    assert (await api.world.chat(key=old)).status == 401
    assert (await ask(api, "GET", f"/keys/{key['hash']}")).status_code == 404
    # Disabling or deleting takes both.
    third = await ask(api, "POST", f"/keys/{now['hash']}/rotate", {"grace_seconds": 60})
    assert (await api.world.chat(key=again.json()["key"])).status == 200
    assert (await ask(api, "PATCH", f"/keys/{now['hash']}", {"disabled": True})).status_code == 404
    path = f"/keys/{third.json()['data']['hash']}"
    assert (await ask(api, "PATCH", path, {"disabled": True})).status_code == 200
    for secret in (again.json()["key"], third.json()["key"]):
        assert (await api.world.chat(key=secret)).status == 401


async def test_the_grace_of_a_rotation_ends_by_the_clock_in_every_cache(api: Api):
    key, old = await made(api)
    assert (await api.world.chat(key=old)).status == 200
    rotated = await ask(api, "POST", f"/keys/{key['hash']}/rotate", {"grace_seconds": 1})
    until = datetime.fromisoformat(rotated.json()["data"]["previous_until"])
    answer = await until_refused(api, old, until)
    assert "was rotated" in answer.error["message"]
    assert (await api.world.chat(key=rotated.json()["key"])).status == 200


@pytest.mark.parametrize("grace", [-1, 604_801, "60", 1.5, None])
async def test_a_grace_out_of_bounds_is_400_and_rotates_nothing(api: Api, grace: Any):
    key, secret = await made(api)
    refused = await ask(api, "POST", f"/keys/{key['hash']}/rotate", {"grace_seconds": grace})
    assert refused.status_code == 400, refused.text
    assert (await api.world.chat(key=secret)).status == 200
    assert (await ask(api, "GET", f"/keys/{key['hash']}")).json()["data"]["rotated_at"] is None


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
    assert (await ask(api, "POST", f"/keys/{key['hash']}/rotate", {}, theirs)).status_code == 404
    assert (await ask(api, "POST", f"/keys/{key['hash']}/rotate", {}, api.key)).status_code == 403
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


async def test_a_management_key_does_what_its_creator_may_do_now_and_no_more(api: Api):
    """Demoting somebody disables the management keys they made. Should one be left all the same, it manages no more."""
    cast = api.world.cast
    async with api.world.database.begin(SYSTEM) as tx:
        await organizations.change_role(tx, cast.acme.id, cast.member.id, Role.ADMIN)
    made = await api.world.make_key(creator=cast.member.id, kind=KeyKind.MANAGEMENT)
    asked = (("GET", "/keys", None), ("POST", "/keys", {"name": "x"}), ("GET", "/credits", None))
    for method, path, body in asked:
        assert (await ask(api, method, path, body, key=made)).status_code in (200, 201)
    async with api.world.database.begin(SYSTEM) as tx:
        await organizations.change_role(tx, cast.acme.id, cast.member.id, Role.MEMBER)
    for method, path, body in asked:
        answer = await ask(api, method, path, body, key=made)
        assert answer.status_code == 403, f"{method} {path}: {answer.text}"
        assert "not an admin" in answer.json()["error"]["message"]
    assert (await ask(api, "GET", "/key", key=made)).status_code == 200
