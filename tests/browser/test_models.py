"""The catalogue in a real browser, with some hundred models."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import axe, console_errors, cookies_of, open_page
from tests.support.server import RunningServer

pytestmark = pytest.mark.browser

MODELS = "/orgs/acme/models"
CREDENTIALS = dict.fromkeys(("OPENAI_API_KEY", "OPENROUTER_API_KEY", "ANTHROPIC_API_KEY"), "not a real one")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Known providers make the catalogue long; none of them is called."""
    with RunningServer(args=["--pace", "0", "--real-providers"], env=CREDENTIALS) as running:
        yield running


@pytest.fixture(scope="module")
def cookies(server: RunningServer, browser: Browser) -> list:
    return cookies_of(browser, server, "member")


def rows(page: Page):
    return page.locator("tbody tr")


def test_the_catalogue_is_searched_as_one_types_and_its_address_keeps_what_was_found(
    server: RunningServer, browser: Browser, cookies
):
    with open_page(browser, base_url=server.base_url) as page:
        errors = console_errors(page)
        page.context.add_cookies(cookies)
        page.goto(MODELS)
        expect(rows(page)).to_have_count(50)
        page.get_by_role("link", name="Next").click()
        expect(page).to_have_url(re.compile("page=2"))
        expect(page.get_by_text("Page 2 of")).to_be_visible()
        page.get_by_label("Search").click()
        page.keyboard.type("scholar", delay=30)
        expect(rows(page)).to_have_count(1)
        expect(page.get_by_label("Search")).to_be_focused()
        expect(page.get_by_label("Search")).to_have_value("scholar")
        page.reload()
        expect(rows(page)).to_have_count(1)
        page.get_by_label("Search").fill("")
        page.get_by_label("Free only").check()
        page.get_by_label("Provider").select_option(label="Demo")
        expect(rows(page).first).to_contain_text("demo/free-1")
        expect(rows(page)).to_have_count(1)
        page.get_by_role("link", name="Demo: Free 1", exact=True).click()
        page.get_by_role("link", name="Try in chat", exact=True).click()
        expect(page.locator("#chat-models summary")).to_contain_text("Demo: Free 1Free")
        assert errors == []


def test_an_id_is_copied(server: RunningServer, browser: Browser, cookies):
    with open_page(browser, base_url=server.base_url) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.context.add_cookies(cookies)
        page.goto(f"{MODELS}?q=echo")
        page.get_by_role("button", name="Copy demo/echo-1").click()
        expect(page.locator("#announce")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == "demo/echo-1"


def test_the_filters_work_without_javascript(server: RunningServer, browser: Browser, cookies):
    with open_page(browser, java_script_enabled=False, base_url=server.base_url) as page:
        page.context.add_cookies(cookies)
        page.goto(MODELS)
        page.get_by_label("Search").fill("demo")
        page.get_by_label("What it reads or makes").select_option(label="Makes embeddings")
        page.get_by_role("button", name="Apply filters").click()
        expect(rows(page)).to_have_count(1)
        expect(rows(page)).to_contain_text("demo/embed-1")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", ["desktop", "phone"])
def test_the_catalogue_is_accessible_and_as_wide_as_its_window(
    server: RunningServer, browser: Browser, cookies, color_scheme: str, viewport: str
):
    with open_page(browser, color_scheme=color_scheme, viewport=viewport, base_url=server.base_url) as page:
        errors = console_errors(page)
        page.context.add_cookies(cookies)
        for path in (MODELS, f"{MODELS}?q=no+such+model", f"{MODELS}/openai/gpt-5-mini", f"{MODELS}/demo/embed-1"):
            page.goto(path)
            assert axe(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
        page.goto("/orgs/acme/chat")
        page.locator("#chat-models summary").click()
        page.get_by_label("Search models").fill("gpt-5")
        assert axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert errors == []
