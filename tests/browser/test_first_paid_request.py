"""The whole walk in a real browser: sign up, verify, create an organization, buy credits, create a key, call a model, see the cost."""

import re
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import axe, console_errors, open_page
from tests.support.server import RunningServer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(args=["--pace", "0"]) as running:
        yield running


def printed_link(server: RunningServer, email: str) -> str:
    """The link in the latest mail to this address that the console mailer printed."""
    mails = re.findall(rf"--- mail to {re.escape(email)}:.*?\n---\n", server.stderr(), re.DOTALL)
    found = re.search(r"https?://\S+token=\S+", mails[-1])
    assert found is not None
    return found.group()


def sign_up_and_in(page: Page, server: RunningServer, name: str, email: str) -> None:
    page.goto("/sign-up")
    page.get_by_label("Name").fill(name)
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill("a long enough password")
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_text(email)).to_be_visible()
    wait_for_mail(page, server, email)
    page.goto(printed_link(server, email))
    page.get_by_label("Password").fill("a long enough password")
    page.get_by_role("button", name=re.compile("Verify")).click()
    expect(page).to_have_url(re.compile("/sign-in"))
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill("a long enough password")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile("/personal/overview"))


def wait_for_mail(page: Page, server: RunningServer, email: str) -> None:
    for _ in range(100):
        if f"--- mail to {email}:" in server.stderr():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"no mail to {email}")


def walk(page: Page, server: RunningServer, email: str, slug: str, *, scripts: bool = True) -> None:
    sign_up_and_in(page, server, "Nora Newcomer", email)

    page.goto("/settings/preferences")
    page.get_by_role("link", name="Create Organization").first.click()
    page.get_by_label("Name", exact=True).fill(f"Nora's {slug}")
    page.locator("input[name=slug]").fill(slug)
    page.get_by_role("button", name=re.compile("Create")).click()
    expect(page).to_have_url(re.compile(f"/orgs/{slug}/overview"))

    page.goto(f"/orgs/{slug}/credits")
    page.get_by_text("$25", exact=True).first.click()
    page.get_by_role("button", name=re.compile("Buy")).click()
    expect(page).to_have_url(re.compile("/sandbox/checkout/"))
    page.get_by_role("button", name=re.compile("Pay")).click()
    expect(page).to_have_url(re.compile(f"/orgs/{slug}/credits"))
    expect(page.locator(".b-balance")).to_contain_text("$25.00")

    page.goto(f"/orgs/{slug}/keys")
    page.locator("#create").get_by_label("Name", exact=True).fill("my laptop")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("You will not see it again")).to_be_visible()
    found = re.search(r"sk-bursar-v1-[\w-]{51}", page.content())
    assert found is not None
    secret = found.group()

    for prompt, key in (("Hello from my laptop", secret), ("Again", secret)):
        answer = httpx2.post(
            f"{server.api_base}/chat/completions",
            headers={"Authorization": f"Bearer {key}"},
            json={"model": "demo/scholar-1", "messages": [{"role": "user", "content": prompt}]},
        )
        assert answer.status_code == 200
        cost = answer.json()["usage"]["cost"]

    page.goto(f"/orgs/{slug}/activity")
    page.get_by_label("API key").select_option(label="my laptop")
    apply = page.get_by_role("button", name="Apply")
    if apply.count() and apply.first.is_visible():
        apply.first.click()
    expect(page).to_have_url(re.compile("key=key_"))
    rows = page.locator("table").last.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("demo/scholar-1")
    expect(rows.first).to_contain_text("my laptop")
    expect(rows.first).to_contain_text(f"{cost:.5f}".rstrip("0")[:6])
    rows.first.get_by_role("link", name="demo/scholar-1").click()
    receipt = page.get_by_role("table")
    expect(receipt).to_contain_text("Reasoning")
    expect(receipt.locator("tfoot")).to_contain_text(f"{cost:.9f}".rstrip("0"))
    if scripts:  # both run in the page
        assert axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.goto(f"/orgs/{slug}/keys")
    assert secret not in page.content()


def test_a_newcomer_makes_a_paid_request_and_sees_what_it_cost(server: RunningServer, browser: Browser):
    with open_page(browser, base_url=server.base_url) as page:
        errors = console_errors(page)
        walk(page, server, "nora@example.com", "nora-desk")
        assert errors == []


def test_the_same_on_a_phone(server: RunningServer, browser: Browser):
    with open_page(browser, viewport="phone", base_url=server.base_url) as page:
        walk(page, server, "phone@example.com", "nora-phone")


def test_the_same_without_javascript(server: RunningServer, browser: Browser):
    with open_page(browser, java_script_enabled=False, base_url=server.base_url) as page:
        walk(page, server, "plain@example.com", "nora-plain", scripts=False)


PAGES = ("overview", "chat", "models", "models/demo/scholar-1", "activity", "keys", "credits")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", ["desktop", "phone"])
def test_every_page_is_accessible_quiet_and_as_wide_as_its_window(
    server: RunningServer, browser: Browser, color_scheme: str, viewport: str
):
    with open_page(browser, color_scheme=color_scheme, viewport=viewport, base_url=server.base_url) as page:
        errors = console_errors(page)
        link = server.user("admin")["sign_in_url"] if (color_scheme, viewport) == ("light", "desktop") else None
        if link is None:
            sign_up_and_in(page, server, "Axel", f"{color_scheme}-{viewport}@example.com")
            base = "/personal"
        else:
            page.goto(link)
            page.get_by_role("button", name=re.compile("Sign in")).click()
            base = "/orgs/acme"
        paths = [f"{base}/{name}" for name in PAGES] + [
            "/settings/preferences",
            "/settings/preferences/organizations/new",
        ]
        for path in [*paths, "/sign-up" if link is None else paths[0]]:
            page.goto(path)
            assert axe(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
        assert errors == []


def test_the_operators_pages_are_accessible_and_as_wide_as_their_window(server: RunningServer, browser: Browser):
    """The demo's first check of the books runs some seconds after its start."""
    link = server.users[0]["sign_in_url"]
    with open_page(browser, viewport="phone", base_url=server.base_url) as page:
        errors = console_errors(page)
        page.goto(link)
        page.get_by_role("button", name=re.compile("Sign in")).click()
        for path, words in (("/operator/mail", "Outgoing mail"), ("/operator/books", "drift 0")):
            for _ in range(40):
                page.goto(path)
                if words in page.content():
                    break
                page.wait_for_timeout(500)
            expect(page.locator("main")).to_contain_text(words)
            assert axe(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
        assert errors == []
