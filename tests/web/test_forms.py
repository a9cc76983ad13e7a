"""Forms that were not shown by us are refused, whichever way they come."""

import pytest

from bursar import identity
from bursar.storage import SYSTEM
from tests.web.cast import text_of

pytestmark = pytest.mark.anyio

PAGE = "/settings/preferences"


async def name_of(house, user):
    async with house.database.snapshot(SYSTEM) as snapshot:
        return (await identity.get_user(snapshot, user.id)).name


@pytest.mark.parametrize("token", [None, "", "x", "salt.tag"])
async def test_a_form_without_its_token_is_refused(house, ana, token):
    browser = await house.signed_in(ana)
    fields = {"name": "Mallory"} | ({} if token is None else {"csrf": token})
    response = await browser.post(PAGE, fields)
    assert response.status_code == 403
    assert "reload the page and try again" in text_of(response)
    assert await name_of(house, ana) == "Ana Ruiz"


async def test_a_form_with_somebody_elses_token_is_refused(house, ana, sam):
    browser, other = await house.signed_in(ana), await house.signed_in(sam)
    response = await browser.post(PAGE, {"name": "Mallory", "csrf": await other.token()})
    assert response.status_code == 403
    assert await name_of(house, ana) == "Ana Ruiz"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_form_from_another_site_is_refused_even_with_the_token(house, ana, headers):
    browser = await house.signed_in(ana)
    response = await browser.post(PAGE, {"name": "Mallory", "csrf": await browser.token()}, headers)
    assert response.status_code == 403
    assert await name_of(house, ana) == "Ana Ruiz"


async def test_signing_in_needs_the_token_of_its_page_too(house, ana):
    browser = house.browser()
    await browser.get("/sign-in")
    response = await browser.post("/sign-in", {"email": ana.email, "password": "whatever it is"})
    assert response.status_code == 403


async def test_the_form_as_shown_is_carried_out(house, ana):
    browser = await house.signed_in(ana)
    response = await browser.send(PAGE, PAGE, name="Ana Maria Ruiz")
    assert "Your profile is saved." in text_of(await browser.follow(response))
    assert await name_of(house, ana) == "Ana Maria Ruiz"


async def test_a_message_is_shown_once(house, ana):
    browser = await house.signed_in(ana)
    await browser.send(PAGE, PAGE, name="Ana Maria Ruiz")
    assert "Your profile is saved." in text_of(await browser.get(PAGE))
    assert "Your profile is saved." not in text_of(await browser.get(PAGE))


async def test_a_message_cannot_be_made_up(house, ana):
    browser = await house.signed_in(ana)
    browser.http.cookies.set("__Host-bursar-flash", "WyJpbmZvIiwiUGF5IG1lIl0.forged")
    assert "Pay me" not in text_of(await browser.get(PAGE))


async def test_two_copies_of_a_page_show_different_tokens(house, ana):
    browser = await house.signed_in(ana)
    assert await browser.token() != await browser.token()


async def test_a_form_that_is_too_large_or_none_is_refused(house, ana):
    browser = await house.signed_in(ana)
    token = await browser.token()
    assert (await browser.post(PAGE, {"csrf": token, "name": "x" * 70_000})).status_code == 413
    json = await browser.http.post(PAGE, json={"csrf": token, "name": "Mallory"})
    assert json.status_code == 400
    assert await name_of(house, ana) == "Ana Ruiz"


async def test_nul_characters_do_not_reach_the_database(house, ana):
    browser = await house.signed_in(ana)
    response = await browser.send(PAGE, PAGE, name="Ana\0 Ruiz")
    assert response.status_code == 303
    assert (await browser.get("/personal/activity?model=%00&key=%00&page=bwA")).status_code == 200
