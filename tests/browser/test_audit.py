"""The audit log in a real browser: read and filtered by keyboard and without scripts, in both themes, on a phone."""

import re
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import axe, console_errors, cookies_of, open_page
from tests.support.server import RunningServer

pytestmark = pytest.mark.browser

AUDIT = "/orgs/acme/audit"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(args=["--pace", "0"]) as running:
        headers = {"Authorization": f"Bearer {running.management_key}"}
        with httpx2.Client(base_url=running.api_base, headers=headers) as client:
            key = client.post("/keys", json={"name": "nightly", "limit": 25, "limit_reset": "monthly"}).json()["data"]
            client.patch(f"/keys/{key['hash']}", json={"limit": 40})
        yield running


@pytest.fixture(scope="module")
def cookies(server: RunningServer, browser: Browser) -> list:
    return cookies_of(browser, server, "admin")


def events(page: Page):
    return page.locator("main ol > li")


def test_an_event_is_unfolded_by_keyboard_and_the_filters_are_in_the_address(
    server: RunningServer, browser: Browser, cookies
):
    with open_page(browser, base_url=server.base_url) as page:
        errors = console_errors(page)
        page.context.add_cookies(cookies)
        page.goto(AUDIT)
        page.get_by_label("What").select_option(label="Limits and budgets")
        expect(page).to_have_url(re.compile("kind=limits"))
        expect(events(page)).to_have_count(2)
        page.reload()
        expect(events(page).first).to_contain_text("changed the limit of key nightly from $25.00 to $40.00 monthly")
        expect(events(page).first.get_by_text("limit.set")).to_be_hidden()
        events(page).first.locator("summary").focus()
        page.keyboard.press("Enter")
        expect(events(page).first.get_by_text("limit.set")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("link", name="Export CSV").click()
        assert re.fullmatch(r"bursar-audit-acme-\d{4}-\d\d-\d\d\.csv", download.value.suggested_filename)
        assert errors == []


def test_the_filters_work_without_javascript(server: RunningServer, browser: Browser, cookies):
    with open_page(browser, java_script_enabled=False, base_url=server.base_url) as page:
        page.context.add_cookies(cookies)
        page.goto(AUDIT)
        page.get_by_label("Who").select_option(label="The operator")
        page.get_by_role("button", name="Apply filters").click()
        expect(events(page).first).to_contain_text("The operator")
        expect(page.get_by_text("created the API key nightly")).to_have_count(0)


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", ["desktop", "phone"])
def test_the_log_is_accessible_and_as_wide_as_its_window(
    server: RunningServer, browser: Browser, cookies, color_scheme: str, viewport: str
):
    with open_page(browser, color_scheme=color_scheme, viewport=viewport, base_url=server.base_url) as page:
        errors = console_errors(page)
        page.context.add_cookies(cookies)
        for path in (AUDIT, f"{AUDIT}?kind=members&period=1d", f"{AUDIT}?kind=account", "/personal/audit"):
            page.goto(path)
            if events(page).count():
                events(page).first.locator("summary").click()
            assert axe(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
        assert errors == []
