"""Every page there is, from the route table: nothing for axe to find, nothing in the console, nothing to scroll sideways for.

Each is opened light on a desktop and dark on a phone; in `make test` one of the two, in turns.
"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from bursar.web._door import Entry, PageRoute
from bursar.web._routes import ROUTES
from tests.cli.support import ask
from tests.support.browser import axe, console_errors, cookies_of, open_page
from tests.support.scale import is_proving
from tests.support.server import RunningServer

pytestmark = pytest.mark.browser

LOOKS = (("desktop", "light"), ("phone", "dark"))
NO_PAGES = ("csv", "/chat/answers/", "/end-grace", "/undo-email-change", "/confirm/link")
"""Files, what scripts read, and pages that are only there after something else: they have tests of their own."""


def pages() -> list[PageRoute]:
    found = [route for route in ROUTES if route.method == "GET" and not route.is_call]
    return [route for route in found if not any(part in route.path for part in NO_PAGES)]


def cases() -> Iterator[tuple[PageRoute, str, str]]:
    for number, route in enumerate(pages()):
        for look in LOOKS if is_proving() else LOOKS[number % 2 :][:1]:
            yield route, *look


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(args=["--pace", "0", "--with-history"]) as running:
        yield running


@pytest.fixture(scope="module")
def cookies(server: RunningServer, browser: Browser) -> dict[str, list]:
    return {"nobody": [], **{role: cookies_of(browser, server, role) for role in ("admin", "operator")}}


@pytest.fixture(scope="module")
def names(server: RunningServer, browser: Browser, cookies: dict[str, list]) -> dict[str, str]:
    """What stands for each parameter of a path."""
    answer = ask(server.api_base, server.api_key)
    named = {"slug": "acme", "author": "demo", "model": "echo-1", "organization": server.organization["id"]}
    named |= {"user": server.user("member")["id"], "generation": answer.headers["x-generation-id"]}
    with open_page(browser, base_url=server.base_url) as page:
        page.context.add_cookies(cookies["admin"])
        page.goto("/orgs/acme/credits")
        page.get_by_role("button", name="Buy credits").click()
        page.wait_for_url(re.compile("/sandbox/checkout/"))
        named["purchase"] = page.url.rpartition("/")[2]
        named["key"], _ = _key(page, "/orgs/acme")
        named["personal key"], secret = _key(page, "/personal")
    free = ask(server.api_base, secret, model="demo/free-1")
    return named | {"personal generation": free.headers["x-generation-id"]}


def _key(page: Page, base: str) -> tuple[str, str]:
    """Its id, and its secret."""
    page.goto(f"{base}/keys")
    page.get_by_label("Name").first.fill("looked at")
    page.get_by_role("button", name="Create key").click()
    secret = re.search(r"sk-bursar-v1-[\w-]{51}", page.locator("main").inner_text())
    assert secret is not None
    page.goto(f"{base}/keys")
    href = page.get_by_role("link", name="looked at").first.get_attribute("href")
    assert href is not None
    return href.rpartition("/")[2], secret.group()


@pytest.mark.parametrize(
    ("route", "viewport", "color_scheme"), list(cases()), ids=lambda each: getattr(each, "path", each)
)
def test_a_page_is_for_everybody(
    browser: Browser,
    server: RunningServer,
    cookies: dict[str, list],
    names: dict[str, str],
    route: PageRoute,
    viewport,
    color_scheme,
):
    who = {Entry.PUBLIC: "nobody", Entry.OPERATOR: "operator"}.get(route.who, "admin")
    own = {"key": names["personal key"], "generation": names["personal generation"]}
    here = names | (own if route.path.startswith("/personal") else {})
    with open_page(browser, viewport=viewport, color_scheme=color_scheme, base_url=server.base_url) as page:
        page.context.add_cookies(cookies[who])
        errors = console_errors(page)
        answer = page.goto(route.path.format(**here))
        assert answer is not None
        assert answer.status < (500 if route.who is Entry.PUBLIC else 400), "it is not the page that was looked at"
        assert axe(page) == [], f"{page.url} ({answer.status})"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
        assert [error for error in errors if answer.status < 400 or "Failed to load resource" not in error] == []
