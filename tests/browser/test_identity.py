"""Signing in as people do it, in a real browser: a second factor, and every page of one's own security in light, dark and on a phone."""

import re
import time
from collections.abc import Iterator

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import axe, console_errors, open_page, sign_in
from tests.support.server import RunningServer

pytestmark = pytest.mark.browser

PASSWORD = "a long enough password"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(args=["--pace", "0"]) as running:
        yield running


def looks_right(page: Page, path: str) -> None:
    assert axe(page) == [], path
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path


def test_somebody_sets_up_a_second_factor_and_signs_in_with_it(server: RunningServer, browser: Browser):
    with open_page(browser, base_url=server.base_url) as page:
        errors = console_errors(page)
        sign_in(page, server, "member")
        page.goto("/settings/preferences")
        page.get_by_role("link", name="Choose one").click()
        expect(page.locator('input[name="password"]')).to_have_attribute("type", "password")
        expect(page.locator('input[name="password"]')).to_have_attribute("autocomplete", "new-password")
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_role("button", name="Set password").click()
        expect(page.get_by_role("status").first).to_contain_text("Your password is changed")
        page.get_by_role("link", name="Set up").click()
        secret = page.locator(".b-copy code").inner_text().replace(" ", "")
        totp = pyotp.TOTP(secret)
        used = int(time.time()) // 30
        page.get_by_label("Six digits").fill(totp.at(used * 30))
        page.get_by_role("button", name="Turn on").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Your second factor is on")
        looks_right(page, "recovery codes")
        codes = page.locator(".b-copy code").inner_text().split()
        assert len(codes) == 10
        with page.expect_download() as started:
            page.get_by_role("link", name="Download").click()
        assert codes[0] in started.value.path().read_text()
        page.goto("/settings/second-factor")
        looks_right(page, "second factor")
        page.get_by_label("Your menu").click()
        page.get_by_role("button", name="Sign out").click()

        page.get_by_label("E-mail").fill(server.user("member")["email"])
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(re.compile("/sign-in/code"))
        looks_right(page, "sign-in code")
        page.get_by_label("Code").fill(codes[0])
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").first).to_contain_text("9 left")
        assert errors == []


def test_pages_of_ones_own_security_are_accessible_quiet_and_as_wide_as_their_window(
    server: RunningServer, browser: Browser
):
    signed_out = ("/sign-in", "/forgot-password")
    signed_in = [
        f"/settings/{name}" for name in ("preferences", "email", "password", "second-factor", "delete-account")
    ]
    with open_page(browser, base_url=server.base_url) as page:
        errors = console_errors(page)
        for paths in (signed_out, signed_in):
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                for width in (1280, 390):
                    page.set_viewport_size({"width": width, "height": 844})
                    for path in paths:
                        page.goto(path)
                        looks_right(page, f"{path} {scheme} {width}")
            if paths is signed_out:
                sign_in(page, server, "admin")
        assert errors == []
