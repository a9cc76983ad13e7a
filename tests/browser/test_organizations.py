"""Organizations in a real browser: the switcher by keyboard and without JavaScript, and every page of their management looked at."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from bursar.cli._main import _operate
from tests.support.browser import axe, console_errors, cookies_of, open_page
from tests.support.server import RunningServer

pytestmark = pytest.mark.browser

ORGANIZATIONS = 14


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Ana is an admin of Acme and of many more; somebody has a request open."""
    with RunningServer(args=["--pace", "0"]) as running:
        for number in range(ORGANIZATIONS):
            operate(
                running, "organizations.add", name=f"Unit {number:02} of Acme Holding International", slug=f"unit-{number:02}",
                admin="ana@example.com",
            )  # fmt: skip
        operate(
            running, "credits.grant", organization=None, email="ana@example.com", amount="9", reason="Hello", transfer=None
        )  # fmt: skip
        yield running


def operate(server: RunningServer, operation: str, **arguments: object) -> None:
    _operate(server.data_dir, as_json=True, operation=operation, **arguments)


@pytest.fixture(scope="module")
def cookies(server: RunningServer, browser: Browser) -> dict[str, list]:
    """Of the admin and of the operator."""
    return {role: cookies_of(browser, server, role) for role in ("admin", "operator")}


def switcher(page: Page):
    return page.locator(".b-switch summary")


def test_with_many_organizations_one_is_found_by_typing_and_the_page_is_kept(
    server: RunningServer, browser: Browser, cookies
):
    with open_page(browser, base_url=server.base_url) as page:
        errors = console_errors(page)
        page.context.add_cookies(cookies["admin"])
        page.goto("/orgs/unit-11/credits")
        switcher(page).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_label("Find an organization")).to_be_focused()
        expect(page.get_by_role("link", name="Unit 11")).to_be_in_viewport()
        expect(page.get_by_role("link", name="Create organization")).to_be_in_viewport()
        page.keyboard.type("nothing")
        expect(page.get_by_text("None is called like that.")).to_be_visible()
        page.keyboard.press("Escape")
        expect(switcher(page)).to_be_focused()
        page.keyboard.press("Enter")
        page.get_by_label("Find an organization").fill("unit 07")
        expect(page.locator(".b-switch li:visible")).to_have_count(1)
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("/orgs/unit-07/credits"))
        assert errors == []


def test_the_switcher_works_without_javascript_at_390_pixels(server: RunningServer, browser: Browser, cookies):
    with open_page(browser, viewport="phone", java_script_enabled=False, base_url=server.base_url) as page:
        page.context.add_cookies(cookies["admin"])
        page.goto("/personal/chat")
        switcher(page).click()
        expect(page.get_by_label("Find an organization")).to_be_hidden()
        page.get_by_role("link", name="Unit 13").click()
        expect(page).to_have_url(re.compile("/orgs/unit-13/chat"))


def test_credits_are_asked_for_answered_and_moved_on_the_pages(server: RunningServer, browser: Browser, cookies):
    with open_page(browser, base_url=server.base_url) as page:
        page.context.add_cookies(cookies["admin"])
        page.goto("/personal/credits")
        page.get_by_label("Organization", exact=True).select_option(label="Acme Robotics")
        page.get_by_label("Amount in US dollars", exact=True).fill("2")
        page.get_by_role("button", name="Ask to move").click()
        expect(page.get_by_text("Waits for the operator")).to_be_visible()
    with open_page(browser, base_url=server.base_url) as page:
        page.context.add_cookies(cookies["operator"])
        page.goto("/operator")
        page.get_by_role("link", name="Credit moves 1 to answer", exact=True).click()
        page.get_by_role("button", name="Move $2.00").click()
        expect(page.get_by_text("$2.00 was moved.")).to_be_visible()
        expect(page.get_by_text("Nothing to answer")).to_be_visible()


@pytest.mark.parametrize(("color_scheme", "viewport"), [("light", "desktop"), ("dark", "phone")])
def test_every_page_is_accessible_and_as_wide_as_its_window(
    server: RunningServer, browser: Browser, cookies, color_scheme: str, viewport: str
):
    pages = {
        "admin": (
            *("/personal/credits", "/orgs/acme/credits", "/orgs/acme/settings", "/orgs/acme/settings/delete"),
            *("/orgs/unit-01/settings/delete", "/orgs/unit-01/overview", "/settings/preferences/organizations/new"),
        ),
        "operator": tuple(f"/operator{path}" for path in ("", "/organizations", "/users", "/credit-moves", "/mail")),
    }
    with open_page(browser, color_scheme=color_scheme, viewport=viewport, base_url=server.base_url) as page:
        errors = console_errors(page)
        for role, paths in pages.items():
            page.context.clear_cookies()
            page.context.add_cookies(cookies[role])
            for path in paths:
                page.goto(path)
                assert axe(page) == [], path
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
        switcher(page).click()
        assert axe(page) == []
        assert errors == []
