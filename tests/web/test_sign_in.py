"""Signing in and out, and where one lands."""

import pytest

from bursar.web import _session
from tests.web.cast import PASSWORD, Browser, text_of

pytestmark = pytest.mark.anyio


async def test_the_front_page_leads_to_sign_in_and_later_to_the_last_context(house, ana, acme):
    browser = house.browser()
    assert (await browser.get("/")).headers["location"] == "/sign-in"
    await browser.sign_in(ana.email)
    assert (await browser.get("/")).headers["location"] == "/personal/overview"
    await browser.get("/orgs/acme/keys")
    assert (await browser.get("/")).headers["location"] == "/orgs/acme/overview"


async def test_a_wrong_password_and_an_unknown_address_read_the_same(house, ana):
    wrong = await house.browser().sign_in(ana.email, "not the password")
    unknown = await house.browser().sign_in("nobody@example.com", "not the password")
    assert wrong.status_code == unknown.status_code == 401
    assert "The e-mail address or the password is wrong." in text_of(wrong)
    assert text_of(wrong) == text_of(unknown)
    assert f'value="{ana.email}"' in wrong.text


async def test_the_session_cookie_is_closed_to_scripts_and_other_sites(house, ana):
    response = await house.browser().sign_in(ana.email)
    cookie = next(c for c in response.headers.get_list("set-cookie") if c.startswith(_session.SESSION))
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= parts
    assert not any(part.startswith("domain") for part in parts)


async def test_signing_in_again_makes_a_new_session_and_ends_the_one_before(house, ana):
    browser = await house.signed_in(ana)
    old = browser.http.cookies[_session.SESSION]
    token = await browser.token()
    response = await browser.post("/sign-in", {"csrf": token, "email": ana.email, "password": PASSWORD})
    assert response.status_code == 303
    assert browser.http.cookies[_session.SESSION] != old
    thief = house.browser()
    thief.http.cookies.set(_session.SESSION, old)
    assert (await thief.get("/personal/overview")).headers["location"].startswith("/sign-in")


async def test_signing_out_ends_the_session_and_not_only_the_cookie(house, ana):
    browser = await house.signed_in(ana)
    session = browser.http.cookies[_session.SESSION]
    response = await browser.send("/settings/preferences", "/sign-out")
    assert "You are signed out." in text_of(await browser.follow(response))
    browser.http.cookies.set(_session.SESSION, session)
    assert (await browser.get("/personal/overview")).status_code == 303


async def test_a_page_asked_for_signed_out_comes_after_signing_in(house, ana, acme):
    browser = house.browser()
    asked = await browser.get("/orgs/acme/activity?period=7d")
    page = asked.headers["location"]
    response = await browser.send(page, "/sign-in", email=ana.email, password=PASSWORD)
    assert response.headers["location"] == "/orgs/acme/activity?period=7d"


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "/a\nb"])
async def test_signing_in_never_leads_to_another_site(house, ana, elsewhere):
    response = await house.browser().send("/sign-in", "/sign-in", next=elsewhere, email=ana.email, password=PASSWORD)
    assert response.headers["location"] == "/"


async def test_plain_http_from_another_host_is_named_as_the_reason(house):
    elsewhere = Browser(house.app, "http://bursar.internal:8484")
    page = await elsewhere.get("/sign-in")
    assert "Sign-in cannot work at this address." in text_of(page)
    assert "https://testserver" in text_of(page)
    tried = await elsewhere.post("/sign-in", {"email": "a@example.com"}, {"origin": "http://bursar.internal:8484"})
    assert tried.status_code == 403
    assert "plain HTTP" in text_of(tried)


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8484", "http://localhost:8484", "http://[::1]:8484"])
async def test_plain_http_on_this_machine_is_fine(house, base_url):
    assert "Sign-in cannot work" not in text_of(await Browser(house.app, base_url).get("/sign-in"))


async def test_a_form_sent_after_the_session_ended_changes_nothing_and_leads_back(house, ana):
    browser = await house.signed_in(ana)
    token = await browser.token()
    del browser.http.cookies[_session.SESSION]
    response = await browser.post(
        "/settings/preferences",
        {"csrf": token, "name": "Other"},
        {"referer": "https://testserver/settings/preferences"},
    )
    assert response.headers["location"] == "/sign-in?next=%2Fsettings%2Fpreferences"
    assert "nothing was changed" in text_of(await browser.follow(response))
    assert "Other" not in text_of(await (await house.signed_in(ana)).get("/settings/preferences"))


async def test_the_theme_is_turned_without_scripts(house, ana):
    browser = await house.signed_in(ana)
    response = await browser.send("/settings/preferences", "/theme", theme="dark")
    assert response.headers["location"] == "/settings/preferences"
    assert 'data-theme="dark"' in (await browser.follow(response)).text
