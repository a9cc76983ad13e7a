"""The second factor: set up, asked for, lost and found again; every code works once."""

import asyncio
import html
import re
from datetime import timedelta

import pyotp
import pytest

from bursar import actions, audit, identity
from bursar.access import Actor
from bursar.identity import PROVED_FOR, AttemptKind
from bursar.kernel.ids import OwnerId
from bursar.storage import SYSTEM
from bursar.web import _session
from tests.storage.at_rest import everything_stored
from tests.web.cast import PASSWORD, House, text_of

pytestmark = pytest.mark.anyio

PAGE = "/settings/second-factor"
NEW_PASSWORD = "quite another password"


@pytest.fixture
async def house(fixed_database):
    made = House(fixed_database)
    yield made
    await made.close()


class App:
    """Somebody's authenticator app."""

    def __init__(self, page, clock):
        secret = re.search(r"<code>([A-Z2-7 ]{39})</code>", page.text).group(1)
        self.totp, self.clock = pyotp.TOTP(secret.replace(" ", "")), clock

    def code(self, steps=0):
        return self.totp.at(self.clock.now() + timedelta(seconds=30 * steps))


async def turned_on(house, browser, clock):
    app = App(await browser.get(PAGE), clock)
    done = await browser.send(PAGE, f"{PAGE}/on", code=app.code())
    assert done.status_code == 200, text_of(done)
    clock.advance(timedelta(seconds=30))
    return app, re.findall(r"\b[a-z2-7]{6}(?:-[a-z2-7]{6}){3}\b", html.unescape(done.text.split("download=")[0]))


async def half_way(house, ana, next_path=""):
    """Whose password was typed."""
    browser = house.browser()
    page = f"/sign-in?next={next_path}" if next_path else "/sign-in"
    sent = await browser.send(page, "/sign-in", email=ana.email, password=PASSWORD)
    assert sent.headers["location"] == "/sign-in/code"
    assert _session.SESSION not in browser.http.cookies
    return browser


async def enter(browser, code):
    return await browser.send("/sign-in/code", "/sign-in/code", code=code)


async def actions_of(house, ana):
    async with house.database.snapshot(SYSTEM) as snapshot:
        return [event.action for event in await audit.list_events(snapshot, OwnerId(ana.id))]


async def test_it_is_set_up_with_the_code_of_the_app_and_asked_for_from_then_on(house, fixed_clock, ana):
    browser, elsewhere = await house.signed_in(ana), await house.signed_in(ana)
    old = browser.http.cookies[_session.SESSION]
    page = await browser.get(PAGE)
    assert "<svg" in page.text
    app = App(page, fixed_clock)
    assert App(await browser.get(PAGE), fixed_clock).totp.secret == app.totp.secret  # a reload shows the same
    wrong = await browser.send(PAGE, f"{PAGE}/on", code="000000")
    assert wrong.status_code == 400
    assert App(wrong, fixed_clock).totp.secret == app.totp.secret
    assert (await house.browser().sign_in(ana.email)).headers["location"] == "/"  # not in force yet
    done = await browser.send(PAGE, f"{PAGE}/on", code=app.code())
    assert "Your second factor is on" in text_of(done)
    assert browser.http.cookies[_session.SESSION] != old
    assert (await elsewhere.get("/personal/overview")).status_code == 303
    assert (await browser.get("/personal/overview")).status_code == 200
    fixed_clock.advance(timedelta(seconds=30))
    late = await half_way(house, ana, "/personal/keys")
    assert (await late.get("/personal/overview")).headers["location"].startswith("/sign-in")
    assert (await enter(late, "123")).status_code == 400
    landed = await enter(late, f" {app.code()[:3]} {app.code()[3:]} ")
    assert landed.headers["location"] == "/personal/keys"
    assert (await late.follow(landed)).status_code == 200
    assert "user.second_factor_on" in await actions_of(house, ana)
    assert "Your second factor is on" in [mail["text"] for mail in await house.mails()][-1]


async def test_a_code_works_once_and_a_little_off_is_near_enough(house, fixed_clock, ana):
    app, _ = await turned_on(house, await house.signed_in(ana), fixed_clock)
    assert (await enter(await half_way(house, ana), app.code())).status_code == 303
    assert (await enter(await half_way(house, ana), app.code())).status_code == 400
    assert (await enter(await half_way(house, ana), app.code(-1))).status_code == 400  # before the last one
    assert (await enter(await half_way(house, ana), app.code(1))).status_code == 303
    fixed_clock.advance(timedelta(minutes=5))
    assert (await enter(await half_way(house, ana), app.code(-2))).status_code == 400
    assert (await enter(await half_way(house, ana), app.code(2))).status_code == 400


async def test_of_ten_that_send_one_code_at_once_one_is_let_in(house, fixed_clock, ana):
    app, codes = await turned_on(house, await house.signed_in(ana), fixed_clock)
    for code in (app.code(), codes[0]):

        async def taken(code=code):
            async with house.database.begin(SYSTEM) as tx:
                return await identity.take_code(tx, ana.id, code)

        results = await asyncio.gather(*(taken() for _ in range(10)))
        assert sorted(result is not None for result in results) == [False] * 9 + [True]


async def test_each_recovery_code_works_once_and_new_ones_replace_the_others(house, fixed_clock, ana):
    browser = await house.signed_in(ana)
    _app, codes = await turned_on(house, browser, fixed_clock)
    assert len(set(codes)) == 10
    landed = await enter(await half_way(house, ana), codes[0].upper().replace("-", " "))
    assert landed.status_code == 303
    assert (await enter(await half_way(house, ana), codes[0])).status_code == 400
    assert "9 of 10 left" in text_of(await browser.get(PAGE))
    renewed = await browser.send(PAGE, f"{PAGE}/codes")
    assert "The earlier ones stopped working" in text_of(renewed)
    assert (await enter(await half_way(house, ana), codes[1])).status_code == 400
    assert codes[1] not in renewed.text


async def test_neither_the_secret_nor_a_recovery_code_is_in_the_database(house, fixed_clock, ana):
    app, codes = await turned_on(house, await house.signed_in(ana), fixed_clock)
    stored = await everything_stored(house.database)
    assert app.totp.secret not in stored
    assert not any(code in stored or code.replace("-", "") in stored for code in codes)


async def test_codes_cannot_be_guessed(house, fixed_clock, ana):
    app, _ = await turned_on(house, await house.signed_in(ana), fixed_clock)
    browser = await half_way(house, ana)
    for _ in range(AttemptKind.PROOF.value.free):
        assert (await enter(browser, "000000")).status_code == 400
    waiting = await enter(await half_way(house, ana), app.code())  # beginning anew changes nothing
    assert waiting.status_code == 429
    fixed_clock.advance(timedelta(seconds=int(waiting.headers["retry-after"])))
    assert (await enter(await half_way(house, ana), app.code())).status_code == 303


async def test_who_stole_the_password_keeps_its_owner_out_of_no_browser_they_know(house, fixed_clock, ana):
    own = await house.signed_in(ana)
    app, _ = await turned_on(house, own, fixed_clock)
    await own.send("/settings/preferences", "/sign-out")
    thief = await half_way(house, ana)
    while (await enter(thief, "000000")).status_code != 429:
        pass
    await own.sign_in(ana.email)
    assert (await enter(own, app.code())).status_code == 303


async def test_the_step_between_is_nobody_elses_and_ends_soon(house, fixed_clock, ana, sam):
    app, _ = await turned_on(house, await house.signed_in(ana), fixed_clock)
    assert (await house.browser().get("/sign-in/code")).headers["location"] == "/sign-in"
    forged = house.browser()
    forged.http.cookies.set(_session.SECOND, "W10.forged")
    assert (await forged.get("/sign-in/code")).headers["location"] == "/sign-in"
    late = await half_way(house, ana)
    fixed_clock.advance(timedelta(seconds=_session.SECOND_SECONDS - 1))
    assert (await late.get("/sign-in/code")).status_code == 200
    fixed_clock.advance(timedelta(seconds=1))
    again = await late.get("/sign-in/code")
    assert again.headers["location"] == "/sign-in"
    changed = await half_way(house, ana)
    token = re.search(r'name="csrf" value="([^"]*)"', (await changed.get("/sign-in/code")).text).group(1)
    await house.browser().send("/forgot-password", "/forgot-password", email=ana.email)
    await house.browser().send(await house.link(), "/set-password", password=NEW_PASSWORD)
    refused = await changed.post("/sign-in/code", {"csrf": html.unescape(token), "code": app.code()})
    assert refused.headers["location"] == "/sign-in"
    assert (await changed.get("/personal/overview")).status_code == 303


async def test_a_password_reset_by_mail_leaves_the_second_factor_on(house, fixed_clock, ana):
    app, _ = await turned_on(house, await house.signed_in(ana), fixed_clock)
    await house.browser().send("/forgot-password", "/forgot-password", email=ana.email)
    await house.browser().send(await house.link(), "/set-password", password=NEW_PASSWORD)
    browser = house.browser()
    assert (await browser.sign_in(ana.email, NEW_PASSWORD)).headers["location"] == "/sign-in/code"
    assert (await enter(browser, app.code())).status_code == 303


async def test_it_proves_who_it_is_and_turning_it_off_asks_for_that(house, fixed_clock, ana):
    browser = await house.signed_in(ana)
    app, _ = await turned_on(house, browser, fixed_clock)
    fixed_clock.advance(PROVED_FOR)
    asked = await browser.get(f"{PAGE}/off")
    assert asked.headers["location"].startswith("/confirm?next=")
    assert "Code of your authenticator app" in text_of(await browser.follow(asked))
    wrong = await browser.send("/confirm", "/confirm", step_up_code="000000", step_up_password="")
    assert 'id="step_up_code-error"' in wrong.text
    assert (await browser.send("/confirm", "/confirm", step_up_code=app.code(), step_up_password="")).status_code == 303
    off = await browser.send(f"{PAGE}/off", f"{PAGE}/off")
    assert "Your second factor is off." in text_of(await browser.follow(off))
    assert (await house.browser().sign_in(ana.email)).headers["location"] == "/"
    assert "user.second_factor_off" in await actions_of(house, ana)
    again = await browser.post(f"{PAGE}/off", {"csrf": await browser.token()})
    assert again.status_code == 409


async def test_the_operator_turns_it_off_for_who_lost_it(house, fixed_clock, ana):
    browser = await house.signed_in(ana)
    await turned_on(house, browser, fixed_clock)
    await actions.reset_second_factor(house.database, Actor.operator(), email=ana.email)
    assert (await browser.get("/personal/overview")).status_code == 303
    assert (await house.browser().sign_in(ana.email)).headers["location"] == "/"
    assert "user.second_factor_reset" in await actions_of(house, ana)
    with pytest.raises(actions.NoSecondFactor):
        await actions.reset_second_factor(house.database, Actor.operator(), email=ana.email)


async def test_nobody_sets_one_up_with_an_address_that_is_not_verified(house, fixed_clock):
    """A stranger who signed up with somebody's address would keep its owner out."""
    eve = await house.add_user("Eve Early", verified=False)
    browser = await house.signed_in(eve)
    refused = await browser.get(PAGE)
    assert "Verify your e-mail address before" in text_of(await browser.follow(refused))


async def test_a_secret_that_was_shown_long_ago_is_replaced(house, fixed_clock, ana):
    browser = await house.signed_in(ana)
    first = App(await browser.get(PAGE), fixed_clock)
    fixed_clock.advance(PROVED_FOR)
    await browser.send("/confirm", "/confirm", step_up_password=PASSWORD)
    second = App(await browser.get(PAGE), fixed_clock)
    assert first.totp.secret != second.totp.secret
    assert (await browser.send(PAGE, f"{PAGE}/on", code=first.code())).status_code == 400
