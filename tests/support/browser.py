"""Debian's Chromium, driven by Playwright's synchronous interface.

While a browser of this kind is open, its thread has a running event loop, so tests written with `async def` cannot run in the
same process meanwhile. Give the `browser` fixture module scope, and keep asynchronous tests out of modules that use it.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Cookie, Page, expect, sync_playwright

from tests.support.server import RunningServer

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VIEWPORTS = {"desktop": (1280, 900), "phone": (390, 844)}
WAIT_MILLISECONDS_MAX = 10_000

_REPORT_POLICY_VIOLATIONS = """
addEventListener("securitypolicyviolation", event => console.error(
  `CSP: ${event.effectiveDirective} refused ${event.blockedURI || "inline"} at ${event.sourceFile || location.href}:${event.lineNumber}`))
"""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """One headless Chromium; each test takes its own context from it through `open_page`."""
    program = shutil.which("chromium") or CHROMIUM
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser,
    *,
    viewport: Literal["desktop", "phone"] = "desktop",
    color_scheme: Literal["light", "dark"] = "light",
    java_script_enabled: bool = True,
    base_url: str | None = None,
) -> Iterator[Page]:
    """A page in a context of its own (no cookies); with `base_url`, `page.goto("/path")` works. Waits are bounded at 10 s."""
    width, height = VIEWPORTS[viewport]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=color_scheme,
        java_script_enabled=java_script_enabled,
        base_url=base_url,
        locale="en-US",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    context.set_default_timeout(WAIT_MILLISECONDS_MAX)
    try:
        yield context.new_page()
    finally:
        context.close()


def sign_in(page: Page, server: RunningServer, role: str) -> None:
    """By the one-time link of the demo's first person with that role; it works once."""
    page.goto(server.user(role)["sign_in_url"])
    page.get_by_role("button", name=re.compile("Sign in")).click()
    expect(page).to_have_url(re.compile("/overview"))


def cookies_of(browser: Browser, server: RunningServer, role: str) -> list[Cookie]:
    """Of that person, signed in: for contexts that begin there."""
    with open_page(browser, base_url=server.base_url) as page:
        sign_in(page, server, role)
        return page.context.cookies()


def console_errors(page: Page) -> list[str]:
    """A list that grows with each console error, uncaught exception, failed load and policy violation of the page.

    Call it before the first `goto`; `assert errors == []` at the end.
    """
    found: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            found.append(f"{message.text} ({message.location.get('url', '')}:{message.location.get('lineNumber', '')})")

    page.on("console", heard)
    page.on("pageerror", lambda error: found.append(f"uncaught: {error}"))
    page.add_init_script(_REPORT_POLICY_VIOLATIONS)
    return found


def axe(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it stands, one line per rule: `assert axe(page) == []`. Needs JavaScript on."""
    lines = []
    for violation in Axe().run(page).response["violations"]:
        targets = [" ".join(map(str, node["target"])) for node in violation["nodes"]]
        more = f" and {len(targets) - 5} more" if len(targets) > 5 else ""
        lines.append(f"{violation['id']} ({violation['impact']}): {violation['help']}: {', '.join(targets[:5])}{more}")
    return lines
