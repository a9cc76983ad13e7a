"""Organization settings: who gets in, what is saved, and the end of it."""

from datetime import timedelta

import pytest

from bursar import actions, organizations
from bursar.access import Actor
from bursar.keys import KeyKind
from bursar.storage import SYSTEM
from tests.web.cast import House, hidden_fields, text_of

pytestmark = pytest.mark.anyio

SETTINGS = "/orgs/acme/settings"
DELETE = f"{SETTINGS}/delete"


async def empty(house, organization):
    await actions.settle_organization(
        house.database, Actor.operator(), organization=organization.id, to=None, reason="for tests"
    )


async def test_an_admin_changes_everything_and_the_pages_move_with_the_short_name(house, ana, acme):
    browser = await house.signed_in(ana)
    saved = await browser.send(
        SETTINGS, SETTINGS, name="Acme GmbH", slug="acme-gmbh", billing_email="bills@acme.example"
    )
    assert saved.headers["location"] == "/orgs/acme-gmbh/settings"
    page = await browser.follow(saved)
    assert "The organization is saved. Its pages are at /orgs/acme-gmbh now." in text_of(page)
    for value in ("Acme GmbH", "acme-gmbh", "bills@acme.example"):
        assert f'value="{value}"' in page.text
    assert (await browser.get("/orgs/acme/overview")).status_code == 404
    here = "/orgs/acme-gmbh/settings"
    again = await browser.follow(await browser.send(here, here, name="Acme", slug="acme-gmbh", billing_email=""))
    assert "The organization is saved. Its pages" not in text_of(again)


@pytest.mark.parametrize(
    ("field", "value"), [("name", ""), ("slug", "a b"), ("slug", "globex"), ("billing_email", "nobody")]
)
async def test_what_is_wrong_is_said_beside_its_field_and_nothing_typed_is_lost(house, ana, sam, acme, field, value):
    await house.add_organization("Globex", "globex", sam)
    browser = await house.signed_in(ana)
    typed = {"name": "Acme & Sons", "slug": "acme-sons", "billing_email": "bills@acme.example"} | {field: value}
    response = await browser.send(SETTINGS, SETTINGS, **typed)
    assert response.status_code == 400
    assert f'id="{field}-error"' in response.text
    for name, kept in typed.items():
        assert name == "name" or not kept or f'value="{kept}"' in response.text
    assert "Acme Robotics" in text_of(await browser.get("/orgs/acme/overview"))


async def test_a_member_is_refused_with_the_admins_named_and_a_stranger_finds_nothing(house, max_, sam, acme):
    member = await house.signed_in(max_)
    for path in (SETTINGS, DELETE):
        page = await member.get(path)
        assert page.status_code == 403
        assert "Your admins: Ana Ruiz ( ana@example.com )" in text_of(page)
    assert SETTINGS not in (await member.get("/orgs/acme/overview")).text
    refused = await member.post(SETTINGS, {"csrf": await member.token(), "name": "Mine", "slug": "mine"})
    assert refused.status_code == 403
    stranger = await house.signed_in(sam)
    for path in (SETTINGS, DELETE):
        absent = path.replace("acme", "nowhere")
        assert text_of(await stranger.get(path)) == text_of(await stranger.get(absent))


async def test_seats_are_shown_with_whom_to_ask_for_more(house, ana, acme):
    page = await (await house.signed_in(ana)).get(SETTINGS)
    assert "2 of 10 in use: 2 members." in text_of(page)
    assert "mailto:help@example.com?subject=More%20seats%20for%20Acme%20Robotics" in page.text


async def test_with_credits_left_there_is_no_form_to_delete_and_posting_does_nothing(house, ana, acme):
    browser = await house.signed_in(ana)
    assert "$100.00 of credits are left, so it cannot be deleted yet." in text_of(await browser.get(SETTINGS))
    page = await browser.get(DELETE)
    assert "ask the operator of this installation to settle them" in text_of(page)
    assert f'action="{DELETE}"' not in page.text
    refused = await browser.post(DELETE, {"csrf": await browser.token(), "confirmation": "acme"})
    assert refused.status_code == 409
    assert "$100.00 of credits are left" in text_of(refused)
    assert (await browser.get("/orgs/acme/overview")).status_code == 200


async def test_it_is_deleted_with_its_name_typed_and_the_page_says_what_goes(house, ana, max_, acme):
    await house.add_key(acme.id, max_, "ci")
    await house.add_key(acme.id, ana, "admin's", KeyKind.MANAGEMENT)
    await empty(house, acme)
    browser = await house.signed_in(ana)
    page = await browser.get(DELETE)
    for words in (
        "2 members lose access",
        "2 API keys stop working at once",
        "What stays: its ledger, activity and audit log",
        "Type acme to delete it",
    ):
        assert words in text_of(page)
    wrong = await browser.send(DELETE, DELETE, confirmation="acm")
    assert wrong.status_code == 400
    assert 'value="acm"' in wrong.text
    assert 'id="confirmation-error"' in wrong.text
    done = await browser.send(DELETE, DELETE, confirmation="acme")
    assert done.headers["location"] == "/personal/overview"
    assert "Acme Robotics was deleted." in text_of(await browser.follow(done))
    for person in (ana, max_):
        theirs = await house.signed_in(person)
        assert (await theirs.get("/orgs/acme/overview")).status_code == 404
        assert "Acme" not in text_of(await theirs.get("/personal/overview"))
    async with house.database.snapshot(SYSTEM) as snapshot:
        assert await organizations.list_organizations(snapshot) == []


async def test_deleting_asks_who_it_is_when_that_was_proved_long_ago(fixed_database, fixed_clock):
    house = House(fixed_database)
    ana = await house.add_user("Ana Ruiz")
    await house.add_organization("Acme Robotics", "acme", ana)
    browser = await house.signed_in(ana)
    fields = hidden_fields((await browser.get(DELETE)).text, DELETE) | {"confirmation": "acme"}
    fixed_clock.advance(timedelta(minutes=20))
    asked = await browser.get(DELETE)
    assert asked.status_code == 303
    assert asked.headers["location"].startswith("/confirm")
    refused = await browser.post(DELETE, fields)
    assert refused.status_code == 403
    assert "Confirm that it is you" in text_of(refused)
    async with house.database.snapshot(SYSTEM) as snapshot:
        assert len(await organizations.list_organizations(snapshot)) == 1
    await house.close()
