"""Organizations, memberships, invitations and leaving over the API: what the pages do, with a management key."""

import asyncio
import re
from typing import Any

import httpx2
import pytest

from bursar import actions, identity, organizations, storage
from bursar.access import Actor, Role
from bursar.identity import User
from bursar.kernel.ids import OwnerId
from bursar.keys import KeyKind
from bursar.storage import SYSTEM
from tests.api.conftest import Api

pytestmark = pytest.mark.anyio


async def ask(
    api: Api, method: str, path: str, body: Any = None, key: str | None = None, **headers: str
) -> httpx2.Response:
    sent = {"authorization": f"Bearer {key or api.management}", **{n.replace("_", "-"): v for n, v in headers.items()}}
    return await api.client.request(method, f"/api/v1{path}", headers=sent, json=body)


async def done(api: Api, method: str, path: str, body: Any = None, key: str | None = None, **headers: str) -> Any:
    answer = await ask(api, method, path, body, key, **headers)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


async def key_of(api: Api, user: User, owner: str | None = None, kind: KeyKind = KeyKind.MANAGEMENT) -> str:
    """A key that the person made: of their own account, or of an organization."""
    return await api.world.make_key(owner=OwnerId(owner or user.id), creator=user.id, kind=kind)


async def promote(api: Api, user: User) -> None:
    await done(api, "PATCH", f"/memberships/{user.id}", {"role": "admin"})


async def mails(api: Api) -> list[dict[str, Any]]:
    return [message.payload for message in await storage.take(api.world.database)]


async def test_a_person_creates_organizations_and_lists_theirs(api: Api):
    cast = api.world.cast
    key = await key_of(api, cast.stranger)
    assert (await done(api, "GET", "/organizations", key=key))["data"] == []
    made = (await done(api, "POST", "/organizations", {"name": "Sasha Labs"}, key))["data"]
    assert (made["slug"], made["role"], made["seats"]) == (
        "sasha-labs",
        "admin",
        {"members": 1, "pending": 0, "maximum": 10},
    )
    assert (await done(api, "GET", "/organizations", key=key))["data"] == [made]
    assert (await done(api, "GET", f"/organizations/{made['id']}", key=key))["data"] == made
    taken = await ask(api, "POST", "/organizations", {"name": "Other", "slug": "sasha-labs"}, key)
    assert (taken.status_code, "is taken" in taken.text) == (400, True)
    # an organization's key does nothing for a person, and knows of itself alone
    assert (await ask(api, "POST", "/organizations", {"name": "Other"})).status_code == 403
    [acme] = (await done(api, "GET", "/organizations"))["data"]
    assert (acme["id"], acme["name"]) == (cast.acme.id, "Acme Robotics")


async def test_a_body_that_is_no_text_is_400(api: Api):
    headers = {
        "authorization": f"Bearer {await key_of(api, api.world.cast.stranger)}",
        "content-type": "application/json",
    }
    for body in (b"\xff", b"{", b"[]"):
        answer = await api.client.post("/api/v1/organizations", headers=headers, content=body)
        assert answer.status_code == 400, (body, answer.text)


async def test_an_organization_that_is_created_twice_under_one_name_is_one(api: Api):
    key = await key_of(api, api.world.cast.stranger)
    body = {"name": "Sasha Labs", "slug": "labs"}
    answers = await asyncio.gather(
        *(ask(api, "POST", "/organizations", body, key, idempotency_key="o1") for _ in range(5))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["data"]["id"] for answer in answers}) == 1
    assert len((await done(api, "GET", "/organizations", key=key))["data"]) == 1


async def test_somebody_whose_address_is_not_verified_creates_none(api: Api):
    async with api.world.database.begin(SYSTEM) as tx:
        user = await identity.add_user(tx, email="new@example.com", name="New", password_hash="x")
    refused = await ask(api, "POST", "/organizations", {"name": "Mine"}, await key_of(api, user))
    assert refused.status_code == 403
    assert "Verify" in refused.json()["error"]["message"]


async def test_what_is_named_changes_and_the_rest_stays(api: Api):
    acme = api.world.cast.acme
    path = f"/organizations/{acme.id}"
    changed = (await done(api, "PATCH", path, {"name": "Acme GmbH", "billing_email": "money@acme.example"}))["data"]
    assert (changed["name"], changed["slug"], changed["billing_email"]) == ("Acme GmbH", "acme", "money@acme.example")
    changed = (await done(api, "PATCH", path, {"slug": "acme-gmbh", "billing_email": None}))["data"]
    assert (changed["name"], changed["slug"], changed["billing_email"]) == ("Acme GmbH", "acme-gmbh", None)
    for body in ({}, {"slug": "Not A Slug"}, {"name": ""}, {"billing_email": "nobody"}, {"name": None, "slug": "x"}):
        assert (await ask(api, "PATCH", path, body)).status_code == 400, body
    events = (await done(api, "GET", "/audit-events?kind=organization"))["data"]
    assert events[0]["changes"]["slug"] == {"before": "acme", "after": "acme-gmbh"}


async def test_an_organization_goes_only_when_it_is_named_and_its_credits_are_settled(api: Api):
    cast = api.world.cast
    path = f"/organizations/{cast.acme.id}"
    assert (await ask(api, "DELETE", path)).status_code == 400
    assert (await ask(api, "DELETE", f"{path}?confirmation=other")).status_code == 400
    refused = await ask(api, "DELETE", f"{path}?confirmation=acme")
    assert (refused.status_code, "left" in refused.text) == (409, True)
    await actions.settle_organization(
        api.world.database, Actor.operator(), organization=cast.acme.id, to=None, reason="test"
    )
    assert await done(api, "DELETE", f"{path}?confirmation=acme") == {"deleted": True}
    assert (await ask(api, "GET", "/organizations")).status_code == 401, "the key went with it"


async def test_members_are_listed_in_openrouters_shape_and_in_ours(api: Api):
    cast = api.world.cast
    listed = await done(api, "GET", "/organization/members?offset=0&limit=50")
    assert listed == {
        "data": [
            {
                "id": cast.admin.id,
                "email": "ana@example.com",
                "first_name": "Ana",
                "last_name": "Test",
                "role": "org:admin",
            },
            {
                "id": cast.member.id,
                "email": "tomas@example.com",
                "first_name": "Tomas",
                "last_name": "Test",
                "role": "org:member",
            },
        ],
        "total_count": 2,
    }
    ours = await done(api, "GET", "/memberships?offset=1&limit=1")
    assert ours["total_count"] == 2
    [row] = ours["data"]
    assert (row["user_id"], row["name"], row["role"]) == (cast.member.id, "Tomas Test", "member")
    assert (await ask(api, "GET", "/organization/members?limit=101")).status_code == 400


async def test_the_settings_hold_openrouters_one(api: Api):
    acme = api.world.cast.acme
    assert await done(api, "GET", "/organization/settings") == {
        "data": {"id": acme.id, "is_filtered_model_catalog_enabled": False}
    }
    on = {"is_filtered_model_catalog_enabled": True}
    assert (await done(api, "PATCH", "/organization/settings", on))["data"] == {"id": acme.id, **on}
    assert (await done(api, "GET", "/organization/settings"))["data"] == {"id": acme.id, **on}
    event = (await done(api, "GET", "/audit-events?action=organization.changed"))["data"][0]
    assert event["changes"] == {"is_catalog_filtered": {"before": False, "after": True}}
    for body in ({}, {"is_filtered_model_catalog_enabled": "yes"}, {"is_filtered_model_catalog_enabled": None}):
        assert (await ask(api, "PATCH", "/organization/settings", body)).status_code == 400


async def test_an_admin_promotes_and_demotes_and_the_last_one_stays(api: Api):
    cast = api.world.cast
    row = (await done(api, "PATCH", f"/memberships/{cast.member.id}", {"role": "admin"}))["data"]
    assert (row["user_id"], row["role"]) == (cast.member.id, "admin")
    theirs = await key_of(api, cast.member, cast.acme.id)
    assert (await done(api, "PATCH", f"/memberships/{cast.admin.id}", {"role": "member"}, theirs))["data"][
        "role"
    ] == "member"
    assert (await ask(api, "GET", "/keys")).status_code == 401, "the key of who is no admin any more"
    refused = await ask(api, "PATCH", f"/memberships/{cast.member.id}", {"role": "member"}, theirs)
    assert refused.status_code == 409
    assert "admin" in refused.json()["error"]["message"]
    for user, body, status in (
        (cast.stranger.id, {"role": "admin"}, 404),
        ("user_x", {"role": "admin"}, 404),
        (cast.admin.id, {"role": "owner"}, 400),
        (cast.admin.id, {}, 400),
    ):
        assert (await ask(api, "PATCH", f"/memberships/{user}", body, theirs)).status_code == status, (user, body)


async def test_a_removed_persons_keys_stop_or_are_handed_over(api: Api):
    cast = api.world.cast
    secret = await key_of(api, cast.member, cast.acme.id, KeyKind.INFERENCE)
    assert (await api.world.chat(key=secret)).status == 200
    gone = await done(api, "DELETE", f"/memberships/{cast.member.id}")
    assert (gone["deleted"], gone["user_id"], gone["keys_handed_over"]) == (True, cast.member.id, [])
    assert [key["is_management_key"] for key in gone["keys_disabled"]] == [False]
    assert (await api.world.chat(key=secret)).status == 401
    assert (await ask(api, "DELETE", f"/memberships/{cast.member.id}")).status_code == 404
    assert (await done(api, "GET", "/memberships"))["total_count"] == 1


async def test_keys_that_are_handed_over_go_on_and_are_the_admins(api: Api):
    cast = api.world.cast
    secret = await key_of(api, cast.member, cast.acme.id, KeyKind.INFERENCE)
    gone = await done(api, "DELETE", f"/memberships/{cast.member.id}?keys=hand_over")
    [handed] = gone["keys_handed_over"]
    assert (await api.world.chat(key=secret)).status == 200
    assert (await done(api, "GET", f"/keys/{handed['hash']}"))["data"]["creator_user_id"] == cast.admin.id
    assert (await ask(api, "DELETE", f"/memberships/{cast.admin.id}?keys=keep")).status_code == 400


async def test_who_leaves_is_out_with_their_keys_and_keeps_their_own_account(api: Api):
    cast = api.world.cast
    personal = await key_of(api, cast.admin)
    refused = await ask(api, "POST", "/organization/leave")
    assert (refused.status_code, "admin" in refused.json()["error"]["message"]) == (409, True)
    itself = await ask(api, "DELETE", f"/memberships/{cast.admin.id}")
    assert (itself.status_code, "Leave" in itself.json()["error"]["message"]) == (409, True)
    await promote(api, cast.member)
    gone = await done(api, "POST", "/organization/leave")
    assert gone["user_id"] == cast.admin.id
    assert any(key["is_management_key"] for key in gone["keys_disabled"])
    assert (await ask(api, "GET", "/memberships")).status_code == 401
    assert (await api.world.chat(key=api.key)).status == 401
    assert (await done(api, "GET", "/organizations", key=personal))["data"] == []
    assert (await done(api, "GET", "/credits", key=personal))["data"]["total_credits"] == 0


async def test_several_are_invited_at_once_and_each_is_told_what_became_of_it(api: Api):
    emails = ["Sasha@example.com", "tomas@example.com", "nobody", "sasha@example.com"]
    answer = await ask(api, "POST", "/invitations", {"emails": emails, "role": "admin"})
    assert answer.status_code == 201
    told = answer.json()["data"]
    assert [each["outcome"] for each in told] == ["invited", "already_member", "bad_address", "already_invited"]
    assert [each["email"] for each in told] == emails
    assert all(each["message"] for each in told[1:])
    invitation = told[0]["invitation"]
    assert (invitation["role"], invitation["state"], invitation["organization_name"]) == (
        "admin",
        "pending",
        "Acme Robotics",
    )
    assert (await done(api, "GET", "/invitations"))["data"] == [invitation]
    [link] = [mail["link"] for mail in await mails(api) if mail["to"].lower() == "sasha@example.com"]
    assert link.startswith("https://bursar.test/invitations/accept?token=")
    assert link.partition("token=")[2] not in answer.text
    for body in (
        {"emails": []},
        {"emails": ["a@example.com"] * 51},
        {"emails": "a@example.com"},
        {},
        {"role": "admin"},
    ):
        assert (await ask(api, "POST", "/invitations", body)).status_code == 400


async def test_an_invitation_that_is_sent_twice_under_one_name_goes_out_once(api: Api):
    body = {"emails": ["new@example.com"]}
    answers = await asyncio.gather(*(ask(api, "POST", "/invitations", body, idempotency_key="i1") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert {answer.json()["data"][0]["outcome"] for answer in answers} == {"invited"}
    assert len(await mails(api)) == 1


async def test_who_is_invited_sees_it_and_joins_or_declines(api: Api):
    cast = api.world.cast
    theirs = await key_of(api, cast.stranger)
    assert (await done(api, "GET", "/invitations", key=theirs))["data"] == []
    await done(api, "POST", "/invitations", {"emails": ["sasha@example.com"]})
    [waiting] = (await done(api, "GET", "/invitations", key=theirs))["data"]
    assert (waiting["organization_name"], waiting["invited_by_user_id"]) == ("Acme Robotics", cast.admin.id)
    assert await done(api, "POST", f"/invitations/{waiting['id']}/decline", key=theirs) == {"declined": True}
    assert (await ask(api, "POST", f"/invitations/{waiting['id']}/accept", key=theirs)).status_code == 404
    await done(api, "POST", "/invitations", {"emails": ["sasha@example.com"]})
    [waiting] = (await done(api, "GET", "/invitations", key=theirs))["data"]
    joined = (await done(api, "POST", f"/invitations/{waiting['id']}/accept", key=theirs))["data"]
    assert joined == {"organization_id": cast.acme.id, "name": "Acme Robotics", "slug": "acme", "role": "member"}
    assert [each["id"] for each in (await done(api, "GET", "/organizations", key=theirs))["data"]] == [cast.acme.id]
    assert (await done(api, "GET", "/memberships"))["total_count"] == 3
    # an organization's key answers for nobody
    assert (await ask(api, "POST", f"/invitations/{waiting['id']}/accept")).status_code == 403


async def test_an_invitation_is_revoked_and_not_sent_again_at_once(api: Api):
    [each] = (await done(api, "POST", "/invitations", {"emails": ["new@example.com"]}))["data"]
    path = f"/invitations/{each['invitation']['id']}"
    early = await ask(api, "POST", f"{path}/resend")
    assert early.status_code == 429
    assert 0 < int(early.headers["retry-after"]) <= 300
    assert await done(api, "DELETE", path) == {"deleted": True}
    assert (await ask(api, "DELETE", path)).status_code == 409
    assert (await ask(api, "POST", f"{path}/resend")).status_code == 409
    assert (await done(api, "GET", "/invitations"))["data"] == []


async def test_a_personal_key_has_no_members_and_foreign_ids_answer_like_absent_ones(api: Api):
    cast = api.world.cast
    personal = await key_of(api, cast.admin)
    organization = ("/organization/members", "/organization/settings", "/memberships")
    for path in organization:
        assert (await ask(api, "GET", path, key=personal)).status_code == 404, path
    for method, path, body in (
        ("POST", "/organization/leave", None),
        ("POST", "/invitations", {"emails": ["a@example.com"]}),
        ("PATCH", f"/memberships/{cast.member.id}", {"role": "admin"}),
        ("DELETE", f"/memberships/{cast.member.id}", None),
        ("PATCH", f"/organizations/{cast.acme.id}", {"name": "x"}),
        ("DELETE", f"/organizations/{cast.acme.id}?confirmation=acme", None),
    ):
        assert (await ask(api, method, path, body, personal)).status_code == 404, (method, path)
    async with api.world.database.begin(SYSTEM) as tx:
        other = await organizations.create(tx, name="Other", slug="other", creator=cast.stranger.id)
    await actions.invite_members(
        api.world.database,
        Actor.person(cast.stranger.id),
        organization=other.id,
        addresses=["x@example.com"],
        role=Role.MEMBER,
        public_url="https://bursar.test",
    )
    theirs = await key_of(api, cast.stranger, other.id)
    [foreign] = (await done(api, "GET", "/invitations", key=theirs))["data"]
    absent = {"org": "org_" + "0" * 26, "user": "user_" + "0" * 26, "inv": "inv_" + "0" * 26}
    for method, path, body, ids in (
        ("GET", "/organizations/{}", None, (other.id, absent["org"])),
        ("PATCH", "/organizations/{}", {"name": "x"}, (other.id, absent["org"], "x\0")),
        ("DELETE", "/organizations/{}?confirmation=other", None, (other.id, absent["org"])),
        ("PATCH", "/memberships/{}", {"role": "admin"}, (cast.stranger.id, absent["user"])),
        ("DELETE", "/memberships/{}", None, (cast.stranger.id, absent["user"])),
        ("DELETE", "/invitations/{}", None, (foreign["id"], absent["inv"])),
        ("POST", "/invitations/{}/resend", None, (foreign["id"], absent["inv"])),
        ("POST", "/invitations/{}/decline", None, (foreign["id"], absent["inv"])),
    ):
        key = personal if path.endswith("decline") else None
        answers = [await ask(api, method, path.format(each.replace("\0", "%00")), body, key) for each in ids]
        told = {re.sub(r"\w+_\w{26}", "…", answer.text) for answer in answers}
        assert {answer.status_code for answer in answers} == {404}, (method, path)
        assert len(told) == 1, told


async def test_an_api_key_and_no_key_manage_nothing(api: Api):
    for method, path in (
        ("GET", "/organizations"),
        ("GET", "/memberships"),
        ("GET", "/invitations"),
        ("POST", "/organization/leave"),
        ("GET", "/organization/members"),
    ):
        assert (await ask(api, method, path, key=api.key)).status_code == 403, path
        assert (await api.client.request(method, f"/api/v1{path}")).status_code == 401, path
