"""From nothing to signed in and verified, and every way that does not work."""

import re
from urllib.parse import quote

import pytest

from tests.web.cast import ORIGIN, PASSWORD, House, text_of

pytestmark = pytest.mark.anyio

LEA = {"name": "Lea Novak", "email": "lea@example.com", "password": PASSWORD}


async def test_a_person_signs_up_verifies_and_only_then_creates_an_organization(house):
    lea = house.browser()
    asked = await lea.follow(await lea.send("/sign-up", "/sign-up", **LEA))
    assert "Check your mail" in text_of(asked)
    assert "lea@example.com" in text_of(asked)
    verify = await house.link()

    await lea.sign_in("lea@example.com")
    token = await lea.token()
    new = {"csrf": token, "name": "Novak Labs", "slug": "novak-labs"}
    refused = await lea.post("/settings/preferences/organizations", new)
    assert refused.status_code == 403
    assert "Verify your e-mail address" in text_of(refused)

    page = await lea.get(verify)
    assert "Confirm that lea@example.com is yours" in text_of(page)
    assert "Password" not in text_of(page)  # they are signed in here with it
    verified = await lea.follow(await lea.send(verify, "/verify"))
    assert verified.status_code == 303
    assert "is verified" in text_of(await lea.follow(verified))

    made = await lea.send("/settings/preferences/organizations/new", "/settings/preferences/organizations", **new)
    assert made.headers["location"] == "/orgs/novak-labs/overview"
    assert "Novak Labs is ready. You are its admin." in text_of(await lea.follow(made))


async def test_a_verification_link_is_not_spent_by_opening_it_and_works_once(house):
    lea = house.browser()
    await lea.send("/sign-up", "/sign-up", **LEA)
    verify = await house.link()
    for _ in range(2):
        assert (await lea.get(verify)).status_code == 200
    assert (await lea.send(verify, "/verify", password=PASSWORD)).status_code == 303
    again = await lea.get(verify)
    assert again.status_code == 400
    assert "This link no longer works" in text_of(again)


async def test_signing_up_with_an_address_that_is_taken_answers_the_same(house, ana):
    lea = house.browser()
    response = await lea.send("/sign-up", "/sign-up", **{**LEA, "email": ana.email})
    assert response.headers["location"] == "/check-mail"
    assert [mail["subject"] for mail in await house.mails()] == ["You already have a Bursar account"]


async def test_what_is_wrong_stands_beside_its_field_and_what_was_typed_is_kept(house):
    response = await house.browser().send("/sign-up", "/sign-up", **{**LEA, "password": "short"})
    assert response.status_code == 400
    assert 'id="password-error"' in response.text
    assert 'value="Lea Novak"' in response.text
    assert "short" not in response.text.replace("shortcut", "")


async def test_closed_sign_up_says_whom_to_ask_and_takes_no_form(database):
    house = House(database, sign_up_is_open=False)
    page = await house.browser().get("/sign-up")
    assert page.status_code == 403
    assert "help@example.com" in text_of(page)
    visitor = house.browser()
    token = await visitor.token("/sign-in")
    assert (await visitor.post("/sign-up", {**LEA, "csrf": token})).status_code == 403
    assert await house.mails() == []


async def test_the_verification_mail_is_sent_again(house):
    await house.add_user("Lea Novak", verified=False)
    lea = house.browser()
    await lea.sign_in("lea@example.com")
    response = await lea.send("/settings/preferences", "/verify/resend")
    assert "on its way to lea@example.com" in text_of(await lea.follow(response))
    assert (await house.link()).startswith("/verify?token=")


async def test_a_person_who_was_added_sets_a_password_and_signs_in_with_it(house):
    from bursar import actions
    from bursar.access import Actor

    await actions.add_user(
        house.database, Actor.operator(), email="lea@example.com", name="Lea Novak", public_url=ORIGIN
    )
    lea, link = house.browser(), await house.link()
    short = await lea.send(link, "/set-password", password="short")
    assert short.status_code == 400
    assert 'id="password-error"' in short.text
    landed = await lea.send(link, "/set-password", password=PASSWORD)
    assert landed.headers["location"] == "/sign-in"  # a link that was mailed never signs in
    assert "Your password is set." in text_of(await lea.follow(landed))
    signed_in = await lea.send("/sign-in", "/sign-in", email="lea@example.com", password=PASSWORD)
    assert "Lea Novak" in text_of(await lea.follow(await lea.follow(signed_in)))


async def test_a_one_time_link_leads_into_the_only_organization(house, ana, acme):
    from bursar import actions

    url = await actions.make_sign_in_link(house.database, ana.id, public_url=ORIGIN)
    link = url.removeprefix(ORIGIN)
    browser = house.browser()
    assert "Welcome, Ana Ruiz" in text_of(await browser.get(link))
    response = await browser.send(link, "/link")
    assert response.headers["location"] == "/orgs/acme/overview"
    assert (await browser.follow(response)).status_code == 200
    assert (await house.browser().get(link)).status_code == 400


async def test_a_one_time_link_leads_home_for_somebody_in_two_organizations(house, ana, acme):
    from bursar import actions

    await house.add_organization("Beta", "beta", ana)
    url = await actions.make_sign_in_link(house.database, ana.id, public_url=ORIGIN)
    response = await house.browser().send(url.removeprefix(ORIGIN), "/link")
    assert response.headers["location"] == "/personal/overview"


async def test_the_first_operator_comes_by_the_printed_link(house):
    from bursar import actions

    url = await actions.invite_operator(house.database, public_url=ORIGIN)
    link = url.removeprefix(ORIGIN)
    lea = house.browser()
    landed = await lea.follow(await lea.follow(await lea.send(link, "/become-operator", **LEA)))
    assert "You are the operator of this installation." in text_of(landed)
    assert (await lea.get("/operator/mail")).status_code == 200
    assert (await house.browser().get(link)).status_code == 400


async def test_where_somebody_wanted_to_go_survives_signing_up_verifying_and_signing_in(house):
    lea, wanted = house.browser(), "/personal/models?sort=price"
    page = await lea.get(f"/sign-in?next={quote(wanted)}")
    sign_up = re.search(r'href="(/sign-up[^"]*)"', page.text).group(1)
    await lea.send(sign_up, "/sign-up", **LEA)
    verify = await house.link()
    elsewhere = house.browser()  # the mail is read on a phone
    verified = await elsewhere.send(verify, "/verify", password=PASSWORD)
    assert verified.headers["location"] == f"/sign-in?next={quote(wanted, safe='')}"
    landed = await elsewhere.send(verified.headers["location"], "/sign-in", email=LEA["email"], password=PASSWORD)
    assert landed.headers["location"] == wanted


async def test_it_survives_choosing_a_password_too_and_never_leads_to_another_site(house):
    lea = house.browser()
    await lea.send("/sign-up?next=/personal/keys", "/sign-up", **LEA)
    verify = await house.link()
    assert "The one you chose when you signed up" in text_of(await lea.get(verify))
    wrong = await lea.send(verify, "/verify", password="not the one I chose")
    assert wrong.status_code == 400
    assert 'id="password-error"' in wrong.text
    chosen = await lea.send(verify, "/verify/new-password")
    assert chosen.headers["location"].startswith("/set-password?token=")
    done = await lea.send(chosen.headers["location"], "/set-password", password="quite another password")
    assert done.headers["location"] == "/sign-in?next=%2Fpersonal%2Fkeys"
    eve = house.browser()
    await eve.send("/sign-up", "/sign-up", **{**LEA, "email": "eve@example.com", "next": "//evil.example"})
    assert (await eve.send(await house.link(), "/verify", password=PASSWORD)).headers["location"] == "/sign-in"


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("Password2026", "most common in leaked lists"),
        ("qwertyuiop[]", "keys beside each other"),
        ("LeaNovak2026", "a name or an address that others know"),
        ("lealealealea", "repeats the same few characters"),
    ],
)
async def test_a_password_that_is_guessed_first_is_refused_and_the_form_says_why(house, password, why):
    response = await house.browser().send("/sign-up", "/sign-up", **{**LEA, "password": password})
    assert response.status_code == 400
    assert why in text_of(response)
    assert await house.mails() == []
