"""Another password, another address and the way back, and the end of an account."""

from datetime import timedelta

import pytest

from bursar import actions, audit, identity, ledger, reports
from bursar.access import Actor, Role
from bursar.actions import InvalidSignIn
from bursar.identity import LINK_LIFETIME, PROVED_FOR, LinkPurpose
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import OwnerId
from bursar.storage import SYSTEM
from bursar.web import _session
from tests.web.cast import ORIGIN, PASSWORD, House, text_of

pytestmark = pytest.mark.anyio

PREFERENCES = "/settings/preferences"
NEW_PASSWORD = "quite another password"


@pytest.fixture
async def house(fixed_database):
    made = House(fixed_database)
    yield made
    await made.close()


async def is_in(browser):
    return (await browser.get("/personal/overview")).status_code == 200


async def mail_to(house, address):
    """The newest mail to an address that was not looked at yet."""
    return [mail for mail in await house.mails() if mail["to"] == address][-1]


def path_in(mail):
    return mail["link"].removeprefix(ORIGIN)


# The password.


async def test_a_password_is_changed_by_who_knows_it_and_ends_every_other_session(house, fixed_clock, ana):
    browser, elsewhere = await house.signed_in(ana), await house.signed_in(ana)
    old = browser.http.cookies[_session.SESSION]
    page = "/settings/password"
    for present, new, field in (
        ("not it", NEW_PASSWORD, "current_password"),
        (PASSWORD, "short", "password"),
        (PASSWORD, "liverpool2024!", "password"),
    ):
        wrong = await browser.send(page, page, current_password=present, password=new)
        assert wrong.status_code == 400
        assert f'id="{field}-error"' in wrong.text
    assert await is_in(elsewhere)
    done = await browser.send(page, page, current_password=PASSWORD, password=NEW_PASSWORD)
    assert "Your password is changed." in text_of(await browser.follow(done))
    assert browser.http.cookies[_session.SESSION] != old
    assert [await is_in(each) for each in (browser, elsewhere)] == [True, False]
    assert (await house.browser().sign_in(ana.email)).status_code == 401
    assert (await house.browser().sign_in(ana.email, NEW_PASSWORD)).status_code == 303
    assert "Your password was changed." in (await mail_to(house, ana.email))["text"]


async def test_a_link_that_was_mailed_before_sets_no_password_any_more(house, ana):
    browser = await house.signed_in(ana)
    await house.browser().send("/forgot-password", "/forgot-password", email=ana.email)
    link = await house.link()
    page = "/settings/password"
    await browser.send(page, page, current_password=PASSWORD, password=NEW_PASSWORD)
    assert (await house.browser().get(link)).status_code == 400


async def test_all_that_changes_how_one_signs_in_asks_who_it_is(house, fixed_clock, ana):
    browser = await house.signed_in(ana)
    fixed_clock.advance(PROVED_FOR)
    for page in ("password", "email", "second-factor", "delete-account"):
        asked = await browser.get(f"/settings/{page}")
        assert asked.headers["location"] == f"/confirm?next=%2Fsettings%2F{page}"


# The address.


async def asked_for(house, browser, email):
    page = "/settings/email"
    sent = await browser.send(page, page, email=email)
    assert sent.status_code == 303, text_of(sent)
    return sent


async def changed(house, browser, email, old):
    """To `email`; the path of the link that undoes it."""
    await asked_for(house, browser, email)
    link = path_in(await mail_to(house, email))
    done = await house.browser().send(link, "/change-email")
    assert done.status_code == 303, text_of(done)
    return path_in(await mail_to(house, old))


async def test_an_address_is_changed_once_the_new_ones_mail_was_read(house, ana):
    browser = await house.signed_in(ana)
    page = "/settings/email"
    for wrong in ("nonsense", " ANA@example.com"):
        assert 'id="email-error"' in (await browser.send(page, page, email=wrong)).text
    sent = await asked_for(house, browser, "Ana@New.example")
    assert "until then your address stays" in text_of(await browser.follow(sent))
    assert (await house.browser().sign_in(ana.email)).status_code == 303
    link = path_in(await mail_to(house, "Ana@New.example"))
    reader = house.browser()
    assert "Ana@New.example replaces ana@example.com" in text_of(await reader.get(link))
    assert (await reader.send(link, "/change-email")).headers["location"] == "/sign-in"
    assert (await reader.get(link)).status_code == 400
    assert (await house.browser().sign_in(ana.email)).status_code == 401
    assert (await house.browser().sign_in("ana@new.example")).status_code == 303
    assert await is_in(browser)
    async with house.database.snapshot(SYSTEM) as snapshot:
        assert (await identity.get_user(snapshot, ana.id)).is_verified
        events = {event.action: event for event in await audit.list_events(snapshot, OwnerId(ana.id))}
    assert {"user.email_change_asked", "user.email_changed"} <= events.keys()
    assert (await mail_to(house, "ana@example.com"))["subject"] == "Your e-mail address for Bursar was changed"


async def test_an_address_of_somebody_else_answers_the_same_and_gets_nothing(house, ana, sam):
    browser = await house.signed_in(ana)
    answers = [
        text_of(await browser.follow(await asked_for(house, browser, email)))
        for email in ("sam@example.com", "nobody@example.com")
    ]
    assert answers[0].replace("sam@", "nobody@") == answers[1]
    assert [mail["to"] for mail in await house.mails()] == ["nobody@example.com"]


async def test_an_address_that_somebody_signs_up_with_meanwhile_stays_theirs(house, ana):
    browser = await house.signed_in(ana)
    await asked_for(house, browser, "lea@example.com")
    link = path_in(await mail_to(house, "lea@example.com"))
    await house.add_user("Lea Novak")
    refused = await browser.send(link, "/change-email")
    assert "Your address stays as it was." in text_of(refused)
    assert (await house.browser().sign_in(ana.email)).status_code == 303


async def test_whoever_had_the_address_takes_it_back_however_a_thief_went_on(house, fixed_clock, ana):
    thief, own = await house.signed_in(ana), await house.signed_in(ana)
    undo = await changed(house, thief, "thief@evil.example", ana.email)
    await changed(house, thief, "thief@other.example", "thief@evil.example")
    page = "/settings/password"
    await thief.send(page, page, current_password=PASSWORD, password=NEW_PASSWORD)
    fixed_clock.advance(timedelta(days=6))
    squatter = {"email": ana.email, "name": "Eve", "password": "a password of somebody", "public_url": ORIGIN}
    await actions.sign_up(house.database, house.passwords, **squatter, address=None, is_open=True)
    with pytest.raises(InvalidSignIn):  # nobody else gets the address so long
        await actions.sign_in(
            house.database,
            house.passwords,
            email=ana.email,
            password=squatter["password"],
            address=None,
            user_agent=None,
        )
    reader = house.browser()
    back = await reader.send(undo, "/undo-email-change")
    assert back.headers["location"].startswith("/set-password?token=")
    await reader.send(back.headers["location"], "/set-password", password="my very own password")
    assert [await is_in(each) for each in (thief, own)] == [False, False]
    assert (await house.browser().sign_in("thief@other.example", NEW_PASSWORD)).status_code == 401
    assert (await reader.sign_in(ana.email, "my very own password")).status_code == 303
    assert (await reader.get(undo)).status_code == 400


async def test_the_way_back_ends_after_a_week_and_the_address_is_free(house, fixed_clock, ana):
    undo = await changed(house, await house.signed_in(ana), "ana@new.example", ana.email)
    fixed_clock.advance(LINK_LIFETIME[LinkPurpose.UNDO_EMAIL])
    assert (await house.browser().get(undo)).status_code == 400
    again = await house.add_user("Ana Other")
    assert again.email == "ana@example.com"


# The end.

DELETE = "/settings/delete-account"


async def test_an_account_is_deleted_with_what_is_its_own_and_the_address_is_free(house, ana, max_, acme):
    browser, elsewhere = await house.signed_in(max_), await house.signed_in(max_)
    key = await house.add_key(acme.id, max_, "ci")
    own = await house.add_key(max_.id, max_, "mine")
    words = text_of(await browser.get(DELETE))
    assert "Your personal API key stops working." in words
    assert "You leave Acme Robotics" in words
    wrong = await browser.send(DELETE, DELETE, confirmation="something else")
    assert 'id="confirmation-error"' in wrong.text
    done = await browser.send(DELETE, DELETE, confirmation=" MAX@example.com")
    assert "Your account is deleted." in text_of(await browser.follow(done))
    assert [await is_in(each) for each in (browser, elsewhere)] == [False, False]
    assert (await house.browser().sign_in(max_.email)).status_code == 401
    async with house.database.snapshot(SYSTEM) as snapshot:
        gone = await identity.get_user(snapshot, max_.id)
        assert (gone.name, gone.is_verified) == ("Deleted user", False)
        rows = {row.key.name: row for row in await reports.key_list(snapshot, OwnerId(acme.id), creator=None)}
        assert rows["ci"].key.disabled_at is not None
        assert rows["ci"].key.id == key.id
        assert await reports.key_list(snapshot, OwnerId(max_.id), creator=None) == []
        assert max_.id not in {user.id for user in await identity.list_users(snapshot)}
        assert "user.deleted" in [event.action for event in await audit.list_events(snapshot, OwnerId(max_.id))]
        assert "member.left" in [event.action for event in await audit.list_events(snapshot, OwnerId(acme.id))]
    assert own.id not in text_of(await (await house.signed_in(ana)).get("/orgs/acme/keys"))
    assert "Your account is deleted" in (await mail_to(house, max_.email))["text"]
    again = await house.add_user("Max Other")
    assert again.id != max_.id


async def test_neither_name_nor_address_nor_password_of_a_deleted_person_stays_in_their_row(house, sam):
    browser = await house.signed_in(sam)
    await browser.send(DELETE, DELETE, confirmation=sam.email)
    await house.mails()
    async with house.database.snapshot(SYSTEM) as snapshot:
        users = str(await snapshot.all(identity._users._users.select()))
    assert sam.email not in users
    assert "Sam" not in users
    assert PASSWORD not in users


async def test_the_only_admin_stays_and_is_told_what_to_do(house, ana, max_, acme):
    browser = await house.signed_in(ana)
    solo = await house.add_organization("Solo Works", "solo", ana)
    words = text_of(await browser.get(DELETE))
    assert "You are the only admin of Acme Robotics . Make another member an admin" in words
    assert "You are the last member of Solo Works . Delete the organization first." in words
    refused = await browser.post(DELETE, {"csrf": await browser.token(), "confirmation": ana.email})
    assert refused.status_code == 409
    assert await is_in(browser)
    assert (await house.browser().sign_in(ana.email)).status_code == 303
    async with house.database.snapshot(SYSTEM) as snapshot:
        assert len(await reports.contexts_of(snapshot, ana)) == 3
    assert solo.slug == "solo"


async def test_an_admin_beside_another_goes(house, ana, max_, acme):
    await actions.change_role(
        house.database, Actor.person(ana.id), organization=acme.id, member=max_.id, role=Role.ADMIN, public_url=ORIGIN
    )
    browser = await house.signed_in(ana)
    assert (await browser.send(DELETE, DELETE, confirmation=ana.email)).status_code == 303
    assert (await (await house.signed_in(max_)).get("/orgs/acme/overview")).status_code == 200


async def test_the_only_operator_stays(house):
    olivia = await house.add_user("Olivia Operator", operator=True)
    browser = await house.signed_in(olivia)
    assert "the only operator of this installation" in text_of(await browser.get(DELETE))
    refused = await browser.post(DELETE, {"csrf": await browser.token(), "confirmation": olivia.email})
    assert refused.status_code == 409


async def test_credits_are_given_up_only_by_who_says_so_and_the_books_stay_right(house, sam):
    await house.grant(sam.id, "12.50")
    browser = await house.signed_in(sam)
    assert "I give up $12.50 of personal credits." in text_of(await browser.get(DELETE))
    kept = await browser.send(DELETE, DELETE, confirmation=sam.email)
    assert kept.status_code == 400
    assert 'id="credits-error"' in kept.text
    assert f'value="{sam.email}"' in kept.text
    gone = await browser.send(DELETE, DELETE, confirmation=sam.email, credits="give up")
    assert gone.status_code == 303, text_of(gone)
    async with house.database.snapshot(SYSTEM) as snapshot:
        assert (await ledger.balance(snapshot, OwnerId(sam.id))).total == 0
        assert (await reports.verify_all(snapshot)).drift == 0


async def test_a_confirmation_of_somebody_else_deletes_nobody(house, ana, sam):
    with pytest.raises(InvalidField):
        await actions.delete_account(
            house.database,
            Actor.person(sam.id),
            sam,
            confirmation=ana.email,
            gives_up_credits=True,
            public_url=ORIGIN,
        )
