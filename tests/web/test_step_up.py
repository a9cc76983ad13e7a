"""What is dangerous asks who it is once more: a route says so, the door asks, and what was typed is not lost."""

from datetime import timedelta

import pytest
from starlette.responses import PlainTextResponse

from bursar import audit, identity
from bursar.identity import PROVED_FOR, AttemptKind
from bursar.kernel.ids import OwnerId
from bursar.storage import SYSTEM
from bursar.web import _app, _routes, _session
from bursar.web._door import Entry, PageRoute
from tests.web.cast import ORIGIN, PASSWORD, House, hidden_fields, text_of

pytestmark = pytest.mark.anyio

FORM = "/settings/dangerous"
HERE = {"referer": f"{ORIGIN}/settings/preferences"}


@pytest.fixture
async def house(fixed_database, monkeypatch):
    """With a dangerous form, its deed, and a dangerous call of a script."""
    done = []

    async def show(visit):
        return PlainTextResponse("the form")

    async def do(visit):
        done.append(dict(visit.form))
        return PlainTextResponse("done")

    routes = (
        PageRoute("GET", FORM, show, Entry.SIGNED_IN, step_up=True),
        PageRoute("POST", FORM, do, Entry.SIGNED_IN, step_up=True),
        PageRoute("POST", f"{FORM}/call", do, Entry.SIGNED_IN, is_call=True, step_up=True),
    )
    monkeypatch.setattr(_routes, "ROUTES", (*_routes.ROUTES, *routes))
    made = House(fixed_database)
    made.done = done
    yield made
    await made.close()


async def later(house, fixed_clock, ana, by=PROVED_FOR):
    browser = await house.signed_in(ana)
    fixed_clock.advance(by)
    return browser


async def test_within_the_time_nobody_is_asked_and_after_it_everybody(house, fixed_clock, ana):
    browser = await later(house, fixed_clock, ana, PROVED_FOR - timedelta(microseconds=1))
    assert (await browser.get(FORM)).text == "the form"
    fixed_clock.advance(timedelta(microseconds=1))
    assert (await browser.get(f"{FORM}?a=1")).headers["location"] == "/confirm?next=%2Fsettings%2Fdangerous%3Fa%3D1"


async def test_whoever_opens_a_form_confirms_and_is_there(house, fixed_clock, ana):
    browser = await later(house, fixed_clock, ana)
    asked = (await browser.get(f"{FORM}?a=1")).headers["location"]
    page = await browser.get(asked)
    assert "Confirm that it is you" in text_of(page)
    assert ana.email in text_of(page)
    wrong = await browser.send(asked, "/confirm", step_up_password="not the password")
    assert wrong.status_code == 400
    assert "That is not your password." in text_of(wrong)
    right = await browser.send(asked, "/confirm", step_up_password=PASSWORD)
    assert right.headers["location"] == f"{FORM}?a=1"
    assert (await browser.follow(right)).text == "the form"
    assert (await browser.get(asked)).headers["location"] == f"{FORM}?a=1"  # no second time


async def test_a_form_that_was_sent_is_asked_in_its_place_and_then_done_with_what_was_typed(house, fixed_clock, ana):
    browser = await later(house, fixed_clock, ana)
    sent = {"csrf": await browser.token(), "name": "Größer & <b>", "new_password": "a secret of the form"}
    asked = await browser.post(FORM, sent, HERE)
    assert asked.status_code == 403
    assert house.done == []
    assert "a secret of the form" not in asked.text
    fields = hidden_fields(asked.text, FORM)
    assert fields["name"] == "Größer & <b>"
    wrong = await browser.post(FORM, {**fields, "step_up_password": "no"}, HERE)
    assert hidden_fields(wrong.text, FORM)["name"] == "Größer & <b>"
    assert house.done == []
    right = await browser.post(FORM, {**fields, "step_up_password": PASSWORD}, HERE)
    assert right.text == "done"
    assert [form["name"] for form in house.done] == ["Größer & <b>"]


async def test_a_script_is_refused_and_told_why(house, fixed_clock, ana):
    browser = await later(house, fixed_clock, ana)
    token = await browser.token()
    refused = await browser.post(f"{FORM}/call", {}, {"x-csrf-token": token})
    assert refused.status_code == 403
    assert "Confirm that it is you first." in refused.json()["error"]["message"]


async def test_a_proof_needs_the_forms_own_token_too(house, fixed_clock, ana):
    browser = await later(house, fixed_clock, ana)
    forged = await browser.post(FORM, {"csrf": "forged", "step_up_password": PASSWORD}, HERE)
    assert forged.status_code == 403
    assert house.done == []
    assert (await browser.get(FORM)).status_code == 303


async def test_proving_changes_the_token_and_forms_in_other_tabs_still_work(house, fixed_clock, ana):
    browser = await later(house, fixed_clock, ana)
    old, other_tab = browser.http.cookies[_session.SESSION], await browser.token()
    await browser.send("/confirm", "/confirm", step_up_password=PASSWORD)
    assert browser.http.cookies[_session.SESSION] != old
    thief = house.browser()
    thief.http.cookies.set(_session.SESSION, old)
    assert (await thief.get("/personal/overview")).headers["location"].startswith("/sign-in")
    assert (await browser.post("/settings/preferences", {"csrf": other_tab, "name": "Ana R."})).status_code == 303
    async with house.database.snapshot(SYSTEM) as snapshot:
        events = [event.action for event in await audit.list_events(snapshot, OwnerId(ana.id))]
    assert "user.proved" in events


async def test_guessing_waits_and_the_right_password_after_the_wait_is_taken(house, fixed_clock, ana):
    browser = await later(house, fixed_clock, ana)
    free = AttemptKind.PROOF.value.free
    for _ in range(free):
        assert (await browser.send("/confirm", "/confirm", step_up_password="no")).status_code == 400
    waiting = await browser.send("/confirm", "/confirm", step_up_password=PASSWORD)
    assert waiting.status_code == 429
    assert "too many attempts" in text_of(waiting)
    fixed_clock.advance(timedelta(seconds=int(waiting.headers["retry-after"])))
    assert (await browser.send("/confirm", "/confirm", step_up_password=PASSWORD)).status_code == 303


async def test_somebody_without_a_password_proves_this_session_by_a_mailed_link(house, fixed_clock):
    from bursar import actions

    async with house.database.begin(SYSTEM) as tx:
        lea = await identity.add_user(tx, email="lea@example.com", name="Lea", password_hash=None, verified=True)

    async def signed_in():
        url = await actions.make_sign_in_link(house.database, lea.id, public_url=ORIGIN)
        browser = house.browser()
        await browser.send(url.removeprefix(ORIGIN), "/link")
        return browser

    here, elsewhere = await signed_in(), await signed_in()
    fixed_clock.advance(PROVED_FOR)
    asked = (await here.get(FORM)).headers["location"]
    assert "You have no password here" in text_of(await here.get(asked))
    sent = await here.send(asked, "/confirm/mail")
    assert "on its way to lea@example.com" in text_of(await here.follow(sent))
    link = await house.link()
    other = await elsewhere.send(link, "/confirm/link")
    assert other.status_code == 400  # it proves the session that asked, no other
    assert (await elsewhere.get(FORM)).status_code == 303
    proved = await here.send(link, "/confirm/link")
    assert proved.headers["location"] == FORM
    assert (await here.follow(proved)).text == "the form"
    assert (await here.get(link)).status_code == 400


def test_a_route_for_everybody_cannot_ask_for_a_proof():
    with pytest.raises(_app.UndeclaredRoute, match="not signed in"):
        _app.checked([PageRoute("GET", "/new", None, Entry.PUBLIC, step_up=True)])
