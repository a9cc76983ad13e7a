"""Against whoever guesses: equal answers whether or not an address exists, and waits that keep nobody out."""

import re
from datetime import timedelta

import pytest

from bursar import identity
from bursar.actions import request_reset
from bursar.identity import AttemptKind
from bursar.storage import SYSTEM
from tests.web.cast import PASSWORD, FastPasswords, House, text_of

pytestmark = pytest.mark.anyio

FREE = AttemptKind.SIGN_IN.value.free
NEW_PASSWORD = "quite another password"


@pytest.fixture
async def house(fixed_database):
    made = House(fixed_database)
    yield made
    await made.close()


def without_tokens(response, email):
    """Status, headers and page, without what is random in them and without the address that was typed."""
    headers = sorted((name, value) for name, value in response.headers.items() if name != "set-cookie")
    cookies = sorted(line.partition("=")[0] for line in response.headers.get_list("set-cookie"))
    page = re.sub(r'name="csrf" value="[^"]*"', "", response.text).replace(email, "ADDRESS")
    headers = [(name, value) for name, value in headers if name != "content-length"]
    return response.status_code, headers, cookies, page


class Counting(FastPasswords):
    """Counts the work that Argon2 would do."""

    def __init__(self):
        super().__init__()
        self.work = []

    async def hash(self, password):
        self.work.append("hash")
        return await super().hash(password)

    async def verify(self, password, hashed):
        self.work.append("verify")
        return await super().verify(password, hashed)


FORMS = {
    "/sign-in": {"password": NEW_PASSWORD},
    "/sign-up": {"name": "Somebody Else", "password": NEW_PASSWORD},
    "/forgot-password": {},
}


@pytest.mark.parametrize("form", FORMS)
async def test_the_answer_and_the_work_are_the_same_whether_or_not_an_address_exists(fixed_database, form):
    passwords = Counting()
    house = House(fixed_database, passwords=passwords)
    ana = await house.add_user("Ana Ruiz")
    await house.add_user("Uma Unverified", verified=False)
    answers, work = [], []
    for email in (ana.email, "nobody@example.com", "uma@example.com"):
        passwords.work.clear()
        browser = house.browser()
        response = await browser.send(form, form, email=email, **FORMS[form])
        answers.append(without_tokens(response, email))
        if response.status_code == 303:
            answers[-1] += without_tokens(await browser.follow(response), email)
        work.append(list(passwords.work))
    assert answers[0] == answers[1] == answers[2]
    assert work[0] == work[1] == work[2]
    assert work[0] == {"/sign-in": ["verify"], "/sign-up": ["hash"], "/forgot-password": []}[form]
    await house.close()


async def test_asking_for_a_reset_takes_the_same_time_whether_or_not_an_address_exists(database):
    """The real clock: both answers come when the time for them has come, not when the work is done."""
    house = House(database)
    ana = await house.add_user("Ana Ruiz")
    took = []
    for email in (ana.email, "nobody@example.com"):
        began = house.clock.monotonic()
        await request_reset(house.database, email=email, public_url="https://testserver", address=None)
        took.append(house.clock.monotonic() - began)
    assert min(took) >= 0.29
    await house.close()


@pytest.mark.parametrize("email", ["ana@example.com", "nobody@example.com"])
async def test_after_some_wrong_passwords_one_waits_and_the_right_one_is_taken_then(house, fixed_clock, ana, email):
    browser = house.browser()
    for _ in range(FREE):
        assert (await browser.sign_in(email, "a wrong password")).status_code == 401
    for tried in ("a wrong password", PASSWORD):
        waiting = await browser.sign_in(email, tried)
        assert waiting.status_code == 429
        assert waiting.headers["retry-after"] == "1"
        assert "There were too many attempts that failed. Wait a second, then try again." in text_of(waiting)
        assert f'value="{email}"' in waiting.text
    fixed_clock.advance(timedelta(seconds=1))
    assert (await browser.sign_in(email)).status_code == (303 if email == ana.email else 401)


async def test_a_success_forgets_what_failed_before(house, fixed_clock, ana):
    browser = house.browser()
    for _ in range(FREE):
        await browser.sign_in(ana.email, "a wrong password")
    fixed_clock.advance(timedelta(seconds=1))
    await browser.sign_in(ana.email)
    for _ in range(FREE):
        assert (await house.browser().sign_in(ana.email, "a wrong password")).status_code == 401


async def test_a_stranger_who_tries_an_address_on_and_on_never_keeps_its_owner_out(house, fixed_clock, ana, sam):
    """In the browser they know, and in one in which they chose a new password by mail."""
    own = await house.signed_in(ana)
    await own.send("/settings/preferences", "/sign-out")
    stranger = house.browser()
    while (await stranger.sign_in(ana.email, "a wrong password")).status_code != 429:
        pass
    assert (await house.browser().sign_in(ana.email)).status_code == 429
    assert (await own.sign_in(ana.email)).status_code == 303
    new = house.browser()
    await new.send("/forgot-password", "/forgot-password", email=ana.email)
    await new.send(await house.link(), "/set-password", password=NEW_PASSWORD)
    while (await stranger.sign_in(ana.email, "a wrong password")).status_code != 429:
        pass
    assert (await new.sign_in(ana.email, NEW_PASSWORD)).status_code == 303


async def test_the_cookie_of_a_known_browser_is_nobodys_free_pass(house, fixed_clock, ana, sam):
    """Whoever has it waits like others, and another person's is worth nothing."""
    own, other = await house.signed_in(ana), await house.signed_in(sam)
    for browser in (own, other):
        await browser.send("/settings/preferences", "/sign-out")
    for browser, free in ((own, AttemptKind.KNOWN_BROWSER.value.free), (other, FREE)):
        answers = [(await browser.sign_in(ana.email, "a wrong password")).status_code for _ in range(free + 1)]
        assert answers == [401] * free + [429]


async def test_one_client_that_tries_many_addresses_waits_and_nobody_else_does(house, fixed_clock, ana):
    own = house.browser("192.0.2.66")
    await own.sign_in(ana.email)
    await own.send("/settings/preferences", "/sign-out")
    stranger = house.browser("192.0.2.66")  # of the same office
    free = AttemptKind.CLIENT.value.free
    answers = [
        (await stranger.sign_in(f"u{number}@example.com", "a wrong password")).status_code for number in range(free)
    ]
    assert set(answers) == {401}
    assert (await stranger.sign_in(ana.email)).status_code == 429
    assert (await stranger.send("/forgot-password", "/forgot-password", email=ana.email)).status_code == 429
    sign_up = {"name": "Lea", "email": "lea@example.com", "password": NEW_PASSWORD}
    assert (await stranger.send("/sign-up", "/sign-up", **sign_up)).status_code == 429
    assert (await own.sign_in(ana.email)).status_code == 303
    assert (await house.browser("192.0.2.77").sign_in(ana.email)).status_code == 303


async def test_behind_a_proxy_that_is_not_trusted_yet_one_stranger_makes_nobody_wait(house, fixed_clock, ana):
    """Everybody seems to be on this machine then."""
    stranger = house.browser("127.0.0.1")
    for number in range(AttemptKind.CLIENT.value.free + 5):
        assert (await stranger.sign_in(f"u{number}@example.com", "a wrong password")).status_code == 401
    assert (await house.browser("::1").sign_in(ana.email)).status_code == 303


async def test_a_forgotten_password_is_replaced_by_mail_which_ends_sessions_and_signs_nobody_in(house, ana):
    thief, browser = await house.signed_in(ana), house.browser()
    page = await browser.get("/sign-in?next=/personal/keys")
    assert "/forgot-password?next=/personal/keys" in page.text
    asked = await browser.send("/forgot-password?next=/personal/keys", "/forgot-password", email=" ANA@example.com")
    assert "on its way to ANA@example.com" in text_of(await browser.follow(asked))
    link = await house.link()
    done = await browser.send(link, "/set-password", password=NEW_PASSWORD)
    assert done.headers["location"] == "/sign-in?next=%2Fpersonal%2Fkeys"
    assert (await browser.get("/personal/overview")).status_code == 303
    assert (await thief.get("/personal/overview")).status_code == 303
    assert (await browser.get(link)).status_code == 400
    assert (await browser.sign_in(ana.email)).status_code == 401
    assert (await browser.sign_in(ana.email, NEW_PASSWORD)).status_code == 303


@pytest.mark.parametrize("email", ["", "x" * 50_000, "an\x00a@example.com", "böse@example.com\r\nBcc: a@b"])
async def test_whatever_is_typed_as_an_address_is_answered_alike(house, email):
    response = await house.browser().send("/forgot-password", "/forgot-password", email=email)
    assert response.headers["location"] == "/check-mail"
    assert all(len(line) < 4096 for line in response.headers.get_list("set-cookie"))
    assert await house.mails() == []


async def test_a_reset_asked_for_by_a_stranger_changes_nothing_until_its_link_is_used(house, ana):
    own = await house.signed_in(ana)
    await house.browser().send("/forgot-password", "/forgot-password", email=ana.email)
    assert (await own.get("/personal/overview")).status_code == 200
    assert (await house.browser().sign_in(ana.email)).status_code == 303
    async with house.database.snapshot(SYSTEM) as snapshot:
        assert await identity.find_password_hash(snapshot, ana.id) == f"plain:{PASSWORD}"
