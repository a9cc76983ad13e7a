"""Where a person is signed in: seen, ended one by one or all at once, and ended by themselves."""

from datetime import timedelta

import pytest

from bursar import actions
from bursar.access import Actor
from bursar.identity import PROVED_FOR, SEEN_EVERY, SESSION_IDLE_LIFETIME, SESSION_LIFETIME, SESSIONS_MAX
from bursar.storage import SYSTEM
from bursar.web._agents import device
from tests.web.cast import PASSWORD, House, hidden_fields, text_of

pytestmark = pytest.mark.anyio

PREFERENCES = "/settings/preferences"
LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/604.1"
EDGE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36 Edg/142.0"


@pytest.fixture
async def house(fixed_database):
    made = House(fixed_database)
    yield made
    await made.close()


async def signed_in(house, user, agent):
    browser = house.browser()
    browser.http.headers["user-agent"] = agent
    await browser.sign_in(user.email)
    return browser


async def is_in(browser):
    return (await browser.get("/personal/overview")).status_code == 200


async def ids(house, user):
    from bursar import identity

    async with house.database.snapshot(SYSTEM) as snapshot:
        return {session.user_agent: session.id for session in await identity.list_sessions(snapshot, user)}


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (LINUX, "Firefox on Linux"),
        (PHONE, "Safari on iPhone"),
        (EDGE, "Edge on Windows"),
        ("Something (Android 16)", "A browser on Android"),
        ("", "An unknown browser"),
    ],
)
def test_a_browser_is_named_in_words(agent, words):
    assert device(agent) == words


async def test_the_list_says_where_and_since_when_and_marks_this_one(house, fixed_clock, ana, sam):
    laptop, phone = await signed_in(house, ana, LINUX), await signed_in(house, ana, PHONE)
    await signed_in(house, sam, EDGE)
    fixed_clock.advance(timedelta(hours=2))
    words = text_of(await laptop.get(PREFERENCES))
    assert "Firefox on Linux 127.0.0.1 · signed in 2 h ago This browser" in words
    assert "Safari on iPhone 127.0.0.1 · signed in 2 h ago · last seen 2 h ago" in words
    assert "Edge on Windows" not in words
    await phone.get(PREFERENCES)
    assert "last seen just now" in text_of(await laptop.get(PREFERENCES))


async def test_one_is_ended_or_all_others_and_a_strangers_is_not_there(house, ana, sam):
    laptop, phone, old = [await signed_in(house, ana, agent) for agent in (LINUX, PHONE, EDGE)]
    stranger = await signed_in(house, sam, LINUX)
    named, of_sam = await ids(house, ana), await ids(house, sam)
    token = await laptop.token()
    ended = await laptop.send(PREFERENCES, f"/settings/sessions/{named[PHONE]}/end")
    assert "You are signed out there." in text_of(await laptop.follow(ended))
    assert [await is_in(each) for each in (laptop, phone, old, stranger)] == [True, False, True, True]
    foreign = await laptop.post(f"/settings/sessions/{of_sam[LINUX]}/end", {"csrf": token})
    absent = await laptop.post("/settings/sessions/ses_none/end", {"csrf": token})
    assert foreign.status_code == absent.status_code == 404
    assert text_of(foreign) == text_of(absent)
    others = await laptop.send(PREFERENCES, "/settings/sessions/end-others")
    assert "You are signed out in one other place." in text_of(await laptop.follow(others))
    assert [await is_in(each) for each in (laptop, old, stranger)] == [True, False, True]


async def test_a_session_that_stands_idle_ends_and_one_in_use_lasts_to_its_end(house, fixed_clock, ana):
    used, idle = await signed_in(house, ana, LINUX), await signed_in(house, ana, PHONE)
    half = SESSION_IDLE_LIFETIME / 2
    elapsed = timedelta(0)
    while elapsed + half < SESSION_LIFETIME:
        fixed_clock.advance(half)
        elapsed += half
        assert await is_in(used)
        if elapsed == SESSION_IDLE_LIFETIME:
            assert not await is_in(idle)
    fixed_clock.advance(SESSION_LIFETIME - elapsed)
    assert not await is_in(used)


async def test_being_seen_is_written_every_few_minutes_only(house, fixed_clock, ana):
    browser = await signed_in(house, ana, LINUX)

    async def seen_at():
        from bursar import identity

        async with house.database.snapshot(SYSTEM) as snapshot:
            return (await identity.list_sessions(snapshot, ana))[0].seen_at

    start = await seen_at()
    fixed_clock.advance(SEEN_EVERY - timedelta(microseconds=1))
    await browser.get("/personal/overview")
    assert await seen_at() == start
    fixed_clock.advance(timedelta(microseconds=1))
    await browser.get("/personal/overview")
    assert await seen_at() == start + SEEN_EVERY


async def test_ending_a_session_asks_who_it_is(house, fixed_clock, ana):
    laptop, phone = await signed_in(house, ana, LINUX), await signed_in(house, ana, PHONE)
    fixed_clock.advance(PROVED_FOR)
    named = await ids(house, ana)
    path = f"/settings/sessions/{named[PHONE]}/end"
    token = await laptop.token()
    asked = await laptop.post(path, {"csrf": token})
    assert asked.status_code == 403
    assert await is_in(phone)
    done = await laptop.post(path, {**hidden_fields(asked.text, path), "step_up_password": PASSWORD})
    assert done.status_code == 303
    assert not await is_in(phone)


async def test_the_operator_signs_somebody_out_everywhere(house, ana, sam):
    both, stranger = [await signed_in(house, ana, agent) for agent in (LINUX, PHONE)], await signed_in(house, sam, EDGE)
    _, count = await actions.sign_out_user(house.database, Actor.operator(), email="ANA@example.com")
    assert count == 2
    assert [await is_in(each) for each in (*both, stranger)] == [False, False, True]


async def test_one_session_too_many_ends_the_one_that_was_not_used_for_longest(house, fixed_clock, ana, sam):
    first, stranger = await signed_in(house, ana, LINUX), await signed_in(house, sam, EDGE)
    for _ in range(SESSIONS_MAX - 1):
        fixed_clock.advance(timedelta(seconds=1))
        last = await signed_in(house, ana, PHONE)
    assert [await is_in(each) for each in (first, last, stranger)] == [True, True, True]
    fixed_clock.advance(timedelta(seconds=1))
    await signed_in(house, ana, PHONE)
    assert [await is_in(each) for each in (first, last, stranger)] == [False, True, True]
