"""Two people in one organization, in a real browser: invite, accept, switch, keys of one's own and of all, a refusal that names the
admins, leaving. Once with the mouse on a phone, once with the keyboard alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal, Protocol

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import axe, console_errors, open_page
from tests.support.server import RunningServer

pytestmark = pytest.mark.browser

PASSWORD = "a long enough password"
TABS_MAX = 80
_numbers = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(args=["--pace", "0"]) as running:
        yield running


class Hand(Protocol):
    """How somebody works the page."""

    def press(self, target: Locator) -> None: ...

    def write(self, field: Locator, text: str) -> None: ...


class Mouse:
    def __init__(self, page: Page) -> None:
        self._page = page

    def press(self, target: Locator) -> None:
        target.click()

    def write(self, field: Locator, text: str) -> None:
        field.fill(text)


class Keyboard:
    """Nothing but Tab, Enter, Space and letters; what cannot be reached so fails."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def press(self, target: Locator) -> None:
        self._reach(target)
        self._page.keyboard.press("Space" if target.get_attribute("type") == "radio" else "Enter")

    def write(self, field: Locator, text: str) -> None:
        self._reach(field)
        self._page.keyboard.type(text)

    def _reach(self, target: Locator) -> None:
        expect(target).to_be_attached()
        for _ in range(TABS_MAX):
            if target.evaluate("element => element === document.activeElement"):
                return
            self._page.keyboard.press("Tab")
        raise AssertionError(f"{target} cannot be reached with the Tab key")


@dataclass
class Person:
    """`email` is the signed-in address, empty for somebody new."""

    email: str
    page: Page
    hand: Hand
    errors: list[str]

    def press(self, role: str, name: str | re.Pattern[str]) -> None:
        self.hand.press(self.page.get_by_role(role, name=name).first)

    def write(self, label: str, text: str) -> None:
        self.hand.write(self.page.get_by_label(label, exact=True).first, text)

    def open_menu(self) -> None:
        """The navigation, which on a phone hides behind a button."""
        button = self.page.get_by_role("button", name="Navigation")
        if button.is_visible():
            self.hand.press(button)

    def go(self, name: str) -> None:
        self.open_menu()
        self.hand.press(self.page.locator("#nav").get_by_role("link", name=name, exact=True))

    def switch_to(self, name: str) -> None:
        self.hand.press(self.page.locator("details.b-switch > summary"))
        self.hand.press(self.page.get_by_role("navigation", name="Contexts").get_by_role("link", name=name).first)

    def look(self, heading: str) -> None:
        """At the page of this heading, once it is there: it is accessible, and as wide as its window."""
        expect(self.page.get_by_role("heading", level=1, name=heading)).to_be_visible()
        self.page.wait_for_load_state()
        assert axe(self.page) == [], self.page.url
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), self.page.url


def mail_to(page: Page, server: RunningServer, email: str, word: str = "") -> str:
    """The latest mail to this address with this word in it, as the console mailer printed it; waits for it."""
    for _ in range(200):
        for mail in reversed(re.findall(rf"--- mail to {re.escape(email)}:.*?\n---\n", server.stderr(), re.DOTALL)):
            if word in mail:
                return str(mail)
        page.wait_for_timeout(50)
    raise AssertionError(f"no mail to {email} with {word}")


def mailed_link(page: Page, server: RunningServer, email: str) -> str:
    found = re.search(r"https?://\S+token=\S+", mail_to(page, server, email))
    assert found is not None
    return found.group()


def enter_by_link(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_role("button", name=re.compile("Sign in")).click()


def create_key(person: Person, name: str) -> None:
    person.go("API keys")
    person.write("Name", name)
    person.press("button", "Create key")
    expect(person.page.get_by_text("You will not see it again")).to_be_visible()


def walk(server: RunningServer, ana: Person, nora: Person) -> None:
    number = next(_numbers)
    email, slug = f"nora{number}@example.com", f"walk-{number}"

    # Ana makes an organization and invites Nora.
    ana.page.goto("/settings/preferences/organizations/new")
    ana.write("Name", f"Walk {number}")
    ana.press("button", "Create Organization")
    expect(ana.page).to_have_url(re.compile(f"/orgs/{slug}/overview"))
    ana.go("Members")
    ana.write("E-mail addresses", f"Nora New <{email}>")
    ana.press("button", "Invite")
    expect(ana.page.get_by_text(f"The invitation to {email} is on its way.")).to_be_visible()
    expect(ana.page.get_by_text("2 of 10 seats")).to_be_visible()
    ana.look("Members")

    # Nora opens the link from her mail, signs up by it, and is in.
    nora.page.goto(mailed_link(nora.page, server, email))
    nora.look(f"Join Walk {number}")
    nora.write("Name", "Nora New")
    nora.write("Password", PASSWORD)
    nora.press("button", "Create account and join")
    expect(nora.page).to_have_url(re.compile(f"/orgs/{slug}/overview"))
    expect(nora.page.get_by_text("You are a member now.")).to_be_visible()

    # Both create keys. Nora sees her own; Ana, the admin, sees all.
    create_key(ana, "ana-production")
    create_key(nora, "nora-laptop")
    nora.go("API keys")
    expect(nora.page.locator("tbody")).to_contain_text("nora-laptop")
    expect(nora.page.locator("tbody")).not_to_contain_text("ana-production")
    ana.go("API keys")
    expect(ana.page.locator("tbody")).to_contain_text("nora-laptop")
    expect(ana.page.locator("tbody")).to_contain_text("ana-production")

    # Nora switches to her personal account, makes a key there, and comes back.
    nora.switch_to("Personal account")
    expect(nora.page).to_have_url(re.compile("/personal/keys"))
    create_key(nora, "nora-personal")
    nora.switch_to(f"Walk {number}")
    expect(nora.page).to_have_url(re.compile(f"/orgs/{slug}/keys"))

    # She is refused what is for admins, and told whom to ask.
    nora.go("Credits")
    expect(nora.page.locator("main")).to_contain_text(ana.email)
    expect(nora.page.get_by_role("button", name=re.compile("Buy"))).to_have_count(0)
    nora.go("Members")
    expect(nora.page.get_by_role("button", name="Invite")).to_have_count(0)
    nora.look("Members")
    nora.page.goto(f"/orgs/{slug}/members/{'user_' + '0' * 26}/remove")
    expect(nora.page.locator("main")).to_contain_text("Only an admin can")
    expect(nora.page.locator("main")).to_contain_text(ana.email)

    # Ana looks at what promoting and removing would mean, and does neither.
    ana.go("Members")
    ana.press("link", "Change role of Nora New")
    ana.look("Role of Nora New")
    ana.press("link", "Cancel")
    ana.press("link", "Remove Nora New")
    expect(ana.page.locator("main")).to_contain_text("nora-laptop")
    ana.look("Remove Nora New?")
    ana.press("link", "Cancel")

    # Nora leaves: what is the organization's is out of reach, what is hers is as it was.
    nora.page.goto(f"/orgs/{slug}/members")
    nora.press("link", "Leave")
    expect(nora.page.locator("main")).to_contain_text("nora-laptop")
    nora.look(f"Leave Walk {number}?")
    nora.press("button", "Leave organization")
    expect(nora.page).to_have_url(re.compile("/personal/overview"))
    nora.go("API keys")
    expect(nora.page.locator("tbody")).to_contain_text("nora-personal")
    gone = nora.page.goto(f"/orgs/{slug}/overview")
    assert gone is not None
    assert gone.status == 404
    expect(nora.page.get_by_role("link", name="Go to your personal account")).to_be_visible()
    ana.go("API keys")
    expect(ana.page.get_by_role("row", name=re.compile("nora-laptop"))).to_contain_text("Disabled")
    assert "nora-laptop" in mail_to(ana.page, server, ana.email, f"left Walk {number}")

    assert ana.errors == []
    assert [error for error in nora.errors if "404" not in error and "403" not in error] == []


def walk_of_two(
    browser: Browser,
    server: RunningServer,
    role: str,
    viewport: Literal["desktop", "phone"],
    color_scheme: Literal["light", "dark"],
    hand: type[Mouse | Keyboard],
) -> None:
    with (
        open_page(browser, viewport=viewport, color_scheme=color_scheme, base_url=server.base_url) as one,
        open_page(browser, viewport=viewport, color_scheme=color_scheme, base_url=server.base_url) as other,
    ):
        user = server.user(role)
        ana = Person(user["email"], one, hand(one), console_errors(one))
        enter_by_link(one, user["sign_in_url"])
        walk(server, ana, Person("", other, hand(other), console_errors(other)))


def test_two_people_with_the_keyboard_alone(server: RunningServer, browser: Browser):
    walk_of_two(browser, server, "admin", "desktop", "light", Keyboard)


def test_two_people_on_a_phone_in_the_dark(server: RunningServer, browser: Browser):
    walk_of_two(browser, server, "operator", "phone", "dark", Mouse)
