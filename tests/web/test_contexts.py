"""The context is in the URL: never another one than it says, and for nobody who does not belong there."""

import pytest
from sqlalchemy import event

from bursar import actions
from bursar.access import Actor, Role
from tests.web.cast import text_of

pytestmark = pytest.mark.anyio

PAGES = ("overview", "chat", "models", "models/demo/echo-1", "activity", "activity.csv", "keys", "credits")


@pytest.mark.parametrize("page", PAGES)
async def test_a_foreign_organization_and_one_that_never_was_answer_alike(house, sam, acme, page):
    browser = await house.signed_in(sam)
    foreign, unknown = await browser.get(f"/orgs/acme/{page}"), await browser.get(f"/orgs/no-such/{page}")
    assert foreign.status_code == unknown.status_code == 404
    assert text_of(foreign) == text_of(unknown)
    assert "Acme" not in foreign.text
    assert 'href="/personal/overview"' in foreign.text


async def test_posting_into_a_foreign_organization_finds_nothing(house, sam, acme):
    browser = await house.signed_in(sam)
    token = await browser.token()
    response = await browser.post("/orgs/acme/keys", {"csrf": token, "name": "mine", "kind": "inference"})
    assert response.status_code == 404


@pytest.mark.parametrize("page", [page for page in PAGES if page != "activity.csv"])
async def test_every_page_opens_for_member_admin_and_person(house, ana, max_, acme, page):
    for user in (ana, max_):
        browser = await house.signed_in(user)
        for base in ("/orgs/acme", "/personal"):
            response = await browser.get(f"{base}/{page}")
            assert response.status_code == 200, text_of(response)


async def test_the_switcher_keeps_the_page_and_shows_roles_and_balances(house, max_, acme):
    response = await (await house.signed_in(max_)).get("/personal/keys")
    assert 'href="/orgs/acme/keys"' in response.text
    assert "Acme Robotics Organization · Member $100.00" in text_of(response)


async def test_the_switcher_reads_all_balances_at_once_however_many_organizations_there_are(house, max_, acme):
    """As many statements with two organizations as with twelve."""

    async def statements() -> int:
        seen = []
        engine = house.database._reader.sync_engine
        heard = lambda *_: seen.append(1)  # noqa: E731
        event.listen(engine, "before_cursor_execute", heard)
        page = await browser.get("/personal/keys")
        event.remove(engine, "before_cursor_execute", heard)
        assert page.text.count('aria-label="Find an organization"') == (1 if "Unit 10" in page.text else 0)
        return len(seen)

    await house.add_organization("Unit 0", "unit-0", max_)
    browser = await house.signed_in(max_)
    await browser.get("/personal/keys")
    few = await statements()
    for number in range(1, 11):
        await house.add_organization(f"Unit {number}", f"unit-{number}", max_)
    assert await statements() == few
    assert "Unit 10 Organization · Admin $0.00" in text_of(await browser.get("/personal/keys"))


async def test_a_page_that_only_organizations_have_leads_to_the_overview_elsewhere(house, ana, max_, acme):
    await house.add_organization("Globex", "globex", max_, ana)
    page = (await (await house.signed_in(ana)).get("/orgs/acme/settings")).text
    assert 'href="/personal/overview"' in page
    assert 'href="/orgs/globex/overview"' in page, "a member has no settings there"
    assert 'href="/orgs/acme/settings"' in page


async def test_a_short_name_is_made_from_the_name_where_none_is_typed(house, ana):
    browser = await house.signed_in(ana)
    new, create = "/settings/preferences/organizations/new", "/settings/preferences/organizations"
    made = await browser.send(new, create, name="Ünit Ätna & Co.", slug="")
    assert made.headers["location"] == "/orgs/unit-atna-co/overview"
    page = await browser.follow(made)
    assert 'href="/orgs/unit-atna-co/members"' in page.text
    taken = await browser.send(new, create, name="Unit Atna Co", slug="")
    assert taken.status_code == 400
    assert 'id="slug-error"' in taken.text
    assert 'value="unit-atna-co"' in taken.text


async def test_the_bare_address_of_a_context_leads_to_its_overview(house, ana, acme):
    browser = await house.signed_in(ana)
    assert (await browser.get("/orgs/acme")).headers["location"] == "/orgs/acme/overview"
    assert (await browser.get("/personal")).headers["location"] == "/personal/overview"


async def test_an_organization_that_was_left_does_not_linger_as_the_last_context(house, ana, acme):
    browser = await house.signed_in(ana)
    browser.http.cookies.set("__Host-bursar-context", "gone")
    assert (await browser.get("/")).headers["location"] == "/personal/overview"
    assert (await browser.get("/settings/preferences")).status_code == 200


async def test_a_name_that_looks_like_markup_is_shown_as_typed(house, ana):
    made = await house.add_organization("<script>alert(1)</script>", "markup", ana)
    await house.grant(made.id, "1")
    response = await (await house.signed_in(ana)).get("/orgs/markup/overview")
    assert "<script>alert(1)" not in response.text
    assert "&lt;script&gt;alert(1)" in response.text


async def test_creating_an_organization_says_what_is_wrong_and_keeps_what_was_typed(house, ana, acme):
    browser = await house.signed_in(ana)
    new, action = "/settings/preferences/organizations/new", "/settings/preferences/organizations"
    taken = await browser.send(new, action, name="Another Acme", slug="acme")
    assert taken.status_code == 400
    assert 'id="slug-error"' in taken.text
    assert 'value="Another Acme"' in taken.text


async def test_a_person_added_as_admin_may_buy(house, ana, sam, acme):
    await actions.add_member(house.database, Actor.operator(), organization=acme.id, user=sam.id, role=Role.ADMIN)
    response = await (await house.signed_in(sam)).get("/orgs/acme/credits")
    assert "Buy credits" in text_of(response)
