"""What holds for every page: it declares who may enter, keeps to its headers, and fails with a page."""

import logging

import pytest

from bursar import storage
from bursar.access import Permission
from bursar.kernel.errors import TooMany, Unavailable
from bursar.web import _app, _routes
from bursar.web._door import Entry, PageRoute
from tests.web.cast import text_of

pytestmark = pytest.mark.anyio

NOBODY_NEEDS_TO_BE_KNOWN = {
    *("/", "/sign-in", "/sign-in/code", "/link", "/sign-up", "/check-mail", "/become-operator"),
    *("/change-email", "/undo-email-change"),
    *("/verify", "/verify/new-password", "/forgot-password", "/set-password", "/theme"),
    *("/invitations/accept", "/invitations/decline"),
}
HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy", "x-frame-options")


def paths(slug="acme"):
    for route in _routes.ROUTES:
        ids = {
            "key": "key_" + "0" * 26,
            "move": "mov_" + "0" * 26,
            "organization": "org_" + "0" * 26,
            "purchase": "pur_" + "0" * 26,
            "generation": "gen-" + "0" * 26,
            "session": "ses_" + "0" * 26,
            "user": "user_" + "0" * 26,
            "invitation": "inv_" + "0" * 26,
        }
        yield route, route.path.format(slug=slug, author="demo", model="echo-1", **ids)


async def test_every_route_declares_who_may_enter():
    assert _app.checked(_routes.ROUTES) == _routes.ROUTES
    public = {route.path for route in _routes.ROUTES if route.who is Entry.PUBLIC}
    assert public == NOBODY_NEEDS_TO_BE_KNOWN


@pytest.mark.parametrize(
    "route",
    [
        PageRoute("GET", "/new", None),
        PageRoute("GET", "/new", None, Permission.SEE_ACTIVITY),
        PageRoute("GET", "/orgs/{slug}/new", None, Entry.SIGNED_IN),
    ],
)
async def test_the_application_does_not_start_with_a_route_that_does_not(route):
    with pytest.raises(_app.UndeclaredRoute, match="/new"):
        _app.checked([route])


async def test_nobody_enters_a_page_signed_out_that_is_not_public(house, acme):
    browser = house.browser()
    for route, path in paths():
        if route.who is Entry.PUBLIC:
            continue
        response = await browser.get(path) if route.method == "GET" else await browser.post(path, {})
        if route.who is Entry.MONITOR:  # by another rule than signing in: test_books.py
            assert response.status_code == 404, route
        elif route.is_call:
            assert response.status_code == 401, route
            assert "Sign in again" in response.json()["error"]["message"], route
        else:
            assert response.status_code == 303, route
            assert response.headers["location"].startswith("/sign-in"), route


async def test_every_answer_carries_the_security_headers(house, ana, acme):
    for browser in (house.browser(), await house.signed_in(ana)):
        for route, path in paths():
            response = await browser.get(path) if route.method == "GET" else await browser.post(path, {})
            assert all(name in response.headers for name in HEADERS), route
            assert response.headers["cache-control"] == "no-store", route
            assert "unsafe" not in response.headers["content-security-policy"]
        for path in ("/no-such-page", "/static/app.css", "/static/none.css"):
            response = await browser.get(path)
            assert all(name in response.headers for name in HEADERS), path


async def test_no_page_has_inline_script_or_style(house, ana, acme):
    browser = await house.signed_in(ana)
    for route, path in paths():
        if route.method == "GET":
            text = (await browser.get(path)).text
            assert " style=" not in text, route
            assert " onclick=" not in text, route
            assert "<script>" not in text, route


async def test_static_files_are_kept_for_good_when_their_address_has_a_version(house):
    browser = house.browser()
    assert "immutable" in (await browser.get("/static/app.css?v=123")).headers["cache-control"]
    assert (await browser.get("/static/app.css")).headers["cache-control"] == "no-cache"
    assert (await browser.get("/static/../_session.py")).status_code == 404
    assert (await browser.get("/static/%2e%2e/_session.py")).status_code == 404


async def test_a_page_that_is_not_there_and_a_method_that_does_not_fit_have_pages(house, ana):
    for browser in (house.browser(), await house.signed_in(ana)):
        missing = await browser.get("/no-such-page")
        assert missing.status_code == 404
        assert "There is no page at this address." in text_of(missing)
        wrong = await browser.get("/sign-out")
        assert wrong.status_code == 405
        assert wrong.headers["allow"] == "POST"


async def test_a_fault_of_ours_is_a_page_and_a_line_in_the_log_and_no_traceback_is_shown(
    house, ana, monkeypatch, caplog
):
    async def fail(*_):
        raise RuntimeError("secret detail")

    browser = await house.signed_in(ana)
    monkeypatch.setattr("bursar.reports.overview", fail)
    with caplog.at_level(logging.ERROR, "bursar.web"):
        response = await browser.get("/personal/overview")
    assert response.status_code == 500
    assert "Something went wrong" in text_of(response)
    assert "secret detail" not in response.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    "error", [TooMany("Too many.", retry_after_seconds=7), Unavailable("Busy.", retry_after_seconds=7)]
)
async def test_what_passes_by_itself_says_after_how_long(house, ana, monkeypatch, error):
    async def fail(*_):
        raise error

    browser = await house.signed_in(ana)
    monkeypatch.setattr("bursar.reports.overview", fail)
    response = await browser.get("/personal/overview")
    assert response.status_code == error.status
    assert response.headers["retry-after"] == "7"


async def test_a_database_that_is_away_is_a_page_too(house, ana, monkeypatch):
    def away(_scope):
        raise Unavailable("The database does not answer.", remedy="Try again in a few seconds.")

    browser = await house.signed_in(ana)
    monkeypatch.setattr(house.database, "snapshot", away)
    response = await browser.get("/personal/overview")
    assert response.status_code == 503
    assert "The database does not answer. Try again in a few seconds." in text_of(response)
    assert 'href="/personal/overview">Try again' in response.text


async def test_the_outgoing_mail_is_for_the_operator_only(house, ana):
    operator = await house.add_user("Olga Operator", operator=True)
    await house.add_user("Lea Novak", verified=False)
    lea = house.browser()
    await lea.sign_in("lea@example.com")
    await lea.send("/settings/preferences", "/verify/resend")
    [message] = await storage.take(house.database)
    await storage.mark_kept(house.database, message.id)

    page = await (await house.signed_in(operator)).get("/operator/mail")
    assert "lea@example.com" in text_of(page)
    assert message.payload["link"] in text_of(page)
    refused = await (await house.signed_in(ana)).get("/operator/mail")
    assert refused.status_code == 403
    assert "Only the operator" in text_of(refused)
    assert message.payload["link"] not in refused.text
