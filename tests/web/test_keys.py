"""Keys: the secret once, members their own, admins all."""

import re

import pytest

from bursar.keys import KEY_PREFIX
from tests.web.cast import hidden_fields, text_of

pytestmark = pytest.mark.anyio

SECRET = re.compile(re.escape(KEY_PREFIX) + r"[\w-]{51}")


async def test_the_secret_is_shown_once_and_never_again(house, ana, acme):
    browser = await house.signed_in(ana)
    answer = await browser.send("/orgs/acme/keys", "/orgs/acme/keys", name="production-api", kind="inference")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    secrets = set(SECRET.findall(answer.text))
    assert len(secrets) == 1
    assert house.checker.is_ours(secrets.pop())
    for page in ("/orgs/acme/keys", "/orgs/acme/overview", "/settings/preferences"):
        assert not SECRET.search((await browser.get(page)).text)


async def test_reloading_the_answer_makes_no_second_key(house, ana, acme):
    browser = await house.signed_in(ana)
    fields = hidden_fields((await browser.get("/orgs/acme/keys")).text, "/orgs/acme/keys")
    fields |= {"name": "only-one", "kind": "inference"}
    assert (await browser.post("/orgs/acme/keys", fields)).status_code == 200
    again = await browser.follow(await browser.post("/orgs/acme/keys", fields))
    assert "created already" in text_of(again)
    assert not SECRET.search(again.text)
    assert again.text.count('data-name="only-one"') == 1


async def test_a_form_that_failed_may_be_sent_again(house, ana, acme):
    browser = await house.signed_in(ana)
    fields = hidden_fields((await browser.get("/orgs/acme/keys")).text, "/orgs/acme/keys") | {"kind": "inference"}
    empty = await browser.post("/orgs/acme/keys", fields | {"name": " "})
    assert empty.status_code == 400
    assert 'id="name-error"' in empty.text
    assert (await browser.post("/orgs/acme/keys", fields | {"name": "now-named"})).status_code == 200


async def test_a_member_sees_only_their_own_keys_and_an_admin_all(house, ana, max_, acme):
    await house.add_key(acme.id, ana, "anas-key")
    await house.add_key(acme.id, max_, "maxs-key")
    as_member = text_of(await (await house.signed_in(max_)).get("/orgs/acme/keys"))
    as_admin = text_of(await (await house.signed_in(ana)).get("/orgs/acme/keys"))
    assert "maxs-key" in as_member
    assert "anas-key" not in as_member
    assert "maxs-key" in as_admin
    assert "anas-key" in as_admin


@pytest.mark.parametrize("deed", ["disable", "enable", "delete"])
async def test_a_member_cannot_touch_a_colleagues_key(house, ana, max_, acme, deed):
    key = await house.add_key(acme.id, ana, "anas-key")
    browser = await house.signed_in(max_)
    token = await browser.token()
    response = await browser.post(f"/orgs/acme/keys/{key.id}/{deed}", {"csrf": token})
    assert response.status_code == 404
    assert (await browser.get(f"/orgs/acme/keys/{key.id}/delete")).status_code == 404


async def test_a_member_is_not_offered_management_keys_and_is_told_whom_to_ask(house, max_, acme):
    browser = await house.signed_in(max_)
    assert "Management: manages keys" not in text_of(await browser.get("/orgs/acme/keys"))
    refused = await browser.send("/orgs/acme/keys", "/orgs/acme/keys", name="sneaky", kind="management")
    assert refused.status_code == 403
    assert "Only an admin can create and manage management keys." in text_of(refused)
    assert "ana@example.com" in text_of(refused)


async def test_a_key_is_disabled_enabled_and_deleted_after_asking(house, ana, acme):
    key = await house.add_key(acme.id, ana, "production-api")
    browser, address = await house.signed_in(ana), f"/orgs/acme/keys/{key.id}"
    off = await browser.follow(await browser.send("/orgs/acme/keys", f"{address}/disable"))
    assert "The key production-api is disabled" in text_of(off)
    on = await browser.follow(await browser.send("/orgs/acme/keys", f"{address}/enable"))
    assert "works again" in text_of(on)
    asked = await browser.get(f"{address}/delete")
    assert "Delete the key production-api?" in text_of(asked)
    gone = await browser.follow(await browser.send(f"{address}/delete", f"{address}/delete"))
    assert "The key production-api is deleted." in text_of(gone)
    assert (await browser.get(f"{address}/delete")).status_code == 404


async def test_a_key_of_another_context_is_not_found_here(house, ana, acme):
    key = await house.add_key(acme.id, ana, "production-api")
    browser = await house.signed_in(ana)
    assert (await browser.get(f"/personal/keys/{key.id}/delete")).status_code == 404
    assert (await browser.get("/personal/keys/nonsense/delete")).status_code == 404


async def test_a_key_is_created_with_a_limit_and_the_list_shows_how_much_is_used(house, ana, acme):
    browser = await house.signed_in(ana)
    fields = {"name": "limited", "kind": "inference", "limit": "$1,250.50", "limit_reset": "weekly"}
    page = text_of(await browser.send("/orgs/acme/keys", "/orgs/acme/keys", **fields))
    assert "$0.00 of $1,250.50 each week, from Monday" in page


@pytest.mark.parametrize("wrong", ["much", "-5", "1e400", "0.0000000001"])
async def test_a_limit_that_is_no_amount_is_said_beside_the_field(house, ana, acme, wrong):
    browser = await house.signed_in(ana)
    fields = {"name": "limited", "kind": "inference", "limit": wrong, "limit_reset": "monthly"}
    answer = await browser.send("/orgs/acme/keys", "/orgs/acme/keys", **fields)
    assert answer.status_code == 400
    assert 'id="limit-error"' in answer.text
