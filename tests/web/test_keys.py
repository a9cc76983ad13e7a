"""Keys: the secret once, members their own, admins all."""

import asyncio
import re
from datetime import UTC, datetime, time, timedelta

import pytest

from bursar import actions, keys, ledger
from bursar.access import Actor, Role
from bursar.identity import PROVED_FOR
from bursar.kernel.ids import OwnerId
from bursar.keys import KEY_PREFIX, KeyKind
from bursar.storage import SYSTEM
from tests.web.cast import ORIGIN, PASSWORD, House, hidden_fields, text_of

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


async def test_a_form_sent_several_times_at_once_makes_one_key_whichever_worker_gets_it(house, ana, acme):
    another = House(house.database)
    here, there = await house.signed_in(ana), another.browser()
    there.http.cookies = here.http.cookies
    fields = hidden_fields((await here.get("/orgs/acme/keys")).text, "/orgs/acme/keys")
    fields |= {"name": "only-one", "kind": "inference"}
    answers = await asyncio.gather(*(browser.post("/orgs/acme/keys", fields) for browser in (here, there) * 3))
    assert sorted(answer.status_code for answer in answers) == [200] + [303] * 5
    assert (await here.get("/orgs/acme/keys")).text.count('data-name="only-one"') == 1
    await another.close()


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


@pytest.mark.parametrize("deed", ["", "disable", "enable", "delete", "rotate", "end-grace"])
async def test_a_member_cannot_touch_a_colleagues_key(house, ana, max_, acme, deed):
    key = await house.add_key(acme.id, ana, "anas-key")
    browser = await house.signed_in(max_)
    token = await browser.token()
    address = f"/orgs/acme/keys/{key.id}/{deed}".rstrip("/")
    fields = {"csrf": token, "name": "mine", "limit": "", "grace": "0", "form_id": "x"}
    assert (await browser.post(address, fields)).status_code == 404
    if deed not in ("disable", "enable"):
        assert (await browser.get(address)).status_code == 404


async def test_a_member_is_not_offered_management_keys_and_is_told_whom_to_ask(house, max_, acme):
    browser = await house.signed_in(max_)
    assert "Create management key" not in text_of(await browser.get("/orgs/acme/keys"))
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


async def test_a_key_that_expires_says_when_and_then_that_it_has(house, ana, acme):
    browser = await house.signed_in(ana)
    fields = {"name": "for a week", "kind": "inference", "expires": "7"}
    page = text_of(await browser.send("/orgs/acme/keys", "/orgs/acme/keys", **fields))
    week = house.clock.now() + timedelta(days=7)
    assert f"Expires {week:%b} {week.day}" in page
    last = house.clock.now().date() + timedelta(days=2)
    fields = {"name": "till then", "kind": "inference", "expires": "date", "expires_on": last.isoformat()}
    await browser.send("/orgs/acme/keys", "/orgs/acme/keys", **fields)
    async with house.database.snapshot(SYSTEM) as snapshot:
        found = {key.name: key for key in await keys.list_keys(snapshot, OwnerId(acme.id))}
    assert found["till then"].expires_at == datetime.combine(last + timedelta(days=1), time(), UTC)
    await house.add_key(acme.id, ana, "old", expires_at=house.clock.now() + timedelta(seconds=0.2))
    await asyncio.sleep(0.3)
    page = text_of(await browser.get("/orgs/acme/keys"))
    assert "Expired just now" in page
    assert "Rotate old" not in page


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"expires": "hourly"}, "expires"),
        ({"expires": "date", "expires_on": ""}, "expires_on"),
        ({"expires": "date", "expires_on": "2027-02-30"}, "expires_on"),
        ({"expires": "date", "expires_on": "2020-01-01"}, "expires_on"),
        ({"expires": "date", "expires_on": "9999-12-31"}, "expires_on"),
    ],
)
async def test_an_expiry_that_is_none_is_said_beside_the_field_and_nothing_typed_is_lost(
    house, ana, acme, wrong, field
):
    browser = await house.signed_in(ana)
    answer = await browser.send("/orgs/acme/keys", "/orgs/acme/keys", name="typed", kind="inference", **wrong)
    assert answer.status_code == 400
    assert f'id="{field}-error"' in answer.text
    assert 'value="typed"' in answer.text
    async with house.database.snapshot(SYSTEM) as snapshot:
        assert not await keys.list_keys(snapshot, OwnerId(acme.id))


async def test_a_key_gets_a_new_secret_once_and_the_old_one_is_ended_early(house, ana, acme):
    key = await house.add_key(acme.id, ana, "production-api")
    browser, address = await house.signed_in(ana), f"/orgs/acme/keys/{key.id}"
    asked = await browser.get(f"{address}/rotate")
    assert "Rotate the key production-api?" in text_of(asked)
    fields = hidden_fields(asked.text, f"{address}/rotate")
    for wrong in ("", "12", "never"):
        back = await browser.follow(await browser.post(f"{address}/rotate", fields | {"grace": wrong}))
        assert "Choose how long the old secret still works." in text_of(back)
    shown = await browser.post(f"{address}/rotate", fields | {"grace": "3600"})
    assert shown.status_code == 200
    (secret,) = set(SECRET.findall(shown.text))
    assert house.checker.is_ours(secret)
    assert "production-api has a new secret" in text_of(shown)
    assert "The old one works until" in text_of(shown)
    again = await browser.follow(await browser.post(f"{address}/rotate", fields | {"grace": "3600"}))
    assert "was rotated already" in text_of(again)
    assert not SECRET.search(again.text)
    assert "Old secret ends in 1 h" in text_of(await browser.get("/orgs/acme/keys"))
    assert "It ends now if you go on" in text_of(await browser.get(f"{address}/rotate"))
    ended = await browser.follow(await browser.send(f"{address}/end-grace", f"{address}/end-grace"))
    assert "The old secret of production-api is refused from now on." in text_of(ended)
    assert "ends in" not in text_of(ended)
    twice = await browser.post(f"{address}/end-grace", {"csrf": fields["csrf"]})
    assert twice.status_code == 409


async def test_a_key_has_a_page_with_what_it_spent_where_its_name_and_limit_change(house, ana, acme):
    key = await house.add_key(acme.id, ana, "production-api")
    await house.grant(acme.id, "10")
    await house.add_generation(acme.id, ana, key, cost=2_500_000_000)
    browser, address = await house.signed_in(ana), f"/orgs/acme/keys/{key.id}"
    page = text_of(await browser.get(address))
    for each in ("Spend today", "This week", "This month", "In all", "by Ana"):
        assert each in page
    assert page.count("$2.50") == 4
    saved = await browser.send(address, address, name="renamed", limit="12.5", limit_reset="weekly")
    page = (await browser.follow(saved)).text
    assert "The key renamed is saved." in page
    assert 'value="12.50"' in page
    assert "of $12.50" in text_of(await browser.get(address))
    wrong = await browser.send(address, address, name="kept", limit="lots", limit_reset="weekly")
    assert wrong.status_code == 400
    assert 'id="limit-error"' in wrong.text
    assert 'value="kept"' in wrong.text
    assert 'value="lots"' in wrong.text
    await browser.send(address, address, name="renamed", limit="", limit_reset="weekly")
    assert "of $12.50" not in text_of(await browser.get(address))


async def test_management_keys_stand_apart_and_have_no_limit(house, ana, acme):
    browser = await house.signed_in(ana)
    answer = await browser.send("/orgs/acme/keys", "/orgs/acme/keys", name="terraform", kind="management", limit="5")
    assert "A management key manages keys" in text_of(answer)
    page = (await browser.get("/orgs/acme/keys")).text
    apart = page[page.index('id="management"') :]
    assert 'data-name="terraform"' in apart
    assert 'data-name="terraform"' not in page[: page.index('id="management"')]
    async with house.database.snapshot(SYSTEM) as snapshot:
        (key,) = await keys.list_keys(snapshot, OwnerId(acme.id))
        assert await ledger.list_limits(snapshot, OwnerId(acme.id)) == []
    assert "Spend today" not in text_of(await browser.get(f"/orgs/acme/keys/{key.id}"))


@pytest.fixture
async def house_of_fixed_time(fixed_database):
    made = House(fixed_database)
    yield made
    await made.close()


@pytest.mark.parametrize("deed", ["create", "rotate"])
async def test_the_secret_of_a_management_key_is_made_only_by_somebody_who_just_proved_who_it_is(
    house_of_fixed_time, fixed_clock, deed
):
    house = house_of_fixed_time
    ana = await house.add_user("Ana Ruiz")
    acme = await house.add_organization("Acme", "acme", ana)
    key = await house.add_key(acme.id, ana, "terraform", KeyKind.MANAGEMENT)
    browser = await house.signed_in(ana)
    fixed_clock.advance(PROVED_FOR)
    page, action = "/orgs/acme/keys", "/orgs/acme/keys"
    fields = {"name": "second", "kind": "management", "expires": "30"}
    if deed == "rotate":
        page = action = f"/orgs/acme/keys/{key.id}/rotate"
        fields = {"grace": "0"}
    fields = hidden_fields((await browser.get(page)).text, action) | fields
    asked = await browser.post(action, fields)
    assert asked.status_code == 403
    assert "Confirm that it is you" in text_of(asked)
    assert not SECRET.search(asked.text)
    proved = hidden_fields(asked.text, action) | {"step_up_password": PASSWORD}
    made = await browser.post(action, proved)
    assert made.status_code == 200
    assert len(set(SECRET.findall(made.text))) == 1
    async with house.database.snapshot(SYSTEM) as snapshot:
        found = {key.name: key for key in await keys.list_keys(snapshot, OwnerId(acme.id))}
    if deed == "create":
        assert found["second"].expires_at == (fixed_clock.now() + timedelta(days=30)).replace(microsecond=0)
    else:
        assert found["terraform"].hash != key.hash


async def test_a_member_who_was_an_admin_has_no_management_keys(house, ana, max_, acme):
    tom = await house.add_user("Tom Weber")
    await actions.add_member(house.database, Actor.operator(), organization=acme.id, user=tom.id, role=Role.ADMIN)
    key = await house.add_key(acme.id, tom, "terraform", KeyKind.MANAGEMENT)
    await actions.change_role(
        house.database, Actor.person(ana.id), organization=acme.id, member=tom.id, role=Role.MEMBER, public_url=ORIGIN
    )
    browser = await house.signed_in(tom)
    page = await browser.get("/orgs/acme/keys")
    assert f"/keys/{key.id}" not in page.text
    token = await browser.token()
    for deed in ("enable", "disable", "delete"):
        assert (await browser.post(f"/orgs/acme/keys/{key.id}/{deed}", {"csrf": token})).status_code == 403
