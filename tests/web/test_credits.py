"""Credits: who sees and who buys, and that a purchase is paid once."""

import re

import pytest

from bursar import actions, ledger
from bursar.access import Actor
from bursar.kernel.ids import OwnerId
from bursar.storage import SYSTEM
from tests.web.cast import House, hidden_fields, text_of

pytestmark = pytest.mark.anyio

CREDITS = "/orgs/acme/credits"
BUY = f"{CREDITS}/purchases"
DOLLAR = 1_000_000_000


async def balance(house, owner):
    async with house.database.snapshot(SYSTEM) as snapshot:
        return (await ledger.balance(snapshot, OwnerId(owner))).available


async def test_a_sandbox_purchase_credits_once_though_its_button_is_pressed_twice(house, ana, acme):
    browser = await house.signed_in(ana)
    bought = await browser.send(CREDITS, BUY, amount="25")
    checkout = bought.headers["location"]
    page = await browser.follow(bought)
    assert "Sandbox: no card is charged, no money moves" in text_of(page)
    fields = hidden_fields(page.text, checkout) | {"outcome": "pay"}
    first, second = await browser.post(checkout, fields), await browser.post(checkout, fields)
    assert first.headers["location"] == second.headers["location"] == CREDITS
    assert "$25.00 of credits were added." in text_of(await browser.follow(second))
    assert await balance(house, acme.id) == 125 * DOLLAR
    assert (await browser.get(checkout)).status_code == 303


async def test_a_double_click_on_buy_is_one_purchase(house, ana, acme):
    browser = await house.signed_in(ana)
    fields = hidden_fields((await browser.get(CREDITS)).text, BUY) | {"amount": "50"}
    first, second = await browser.post(BUY, fields), await browser.post(BUY, fields)
    assert first.headers["location"] == second.headers["location"]
    changed = await browser.post(BUY, fields | {"amount": "100"})
    assert changed.status_code == 409
    assert "already started with another amount" in text_of(changed)


async def test_a_purchase_is_cancelled_and_nothing_is_added(house, ana, acme):
    browser = await house.signed_in(ana)
    checkout = (await browser.send(CREDITS, BUY, amount="25")).headers["location"]
    back = await browser.follow(await browser.send(checkout, checkout, outcome="cancel"))
    assert "nothing was charged" in text_of(back)
    assert await balance(house, acme.id) == 100 * DOLLAR


@pytest.mark.parametrize("amount", ["", "three", "4.99", "25001", "10.001", "nan", "-5"])
async def test_an_amount_that_cannot_be_bought_is_named_beside_its_field(house, ana, acme, amount):
    browser = await house.signed_in(ana)
    response = await browser.send(CREDITS, BUY, amount="custom", custom_amount=amount)
    assert response.status_code == 400
    assert 'id="custom_amount-error"' in response.text


async def test_another_amount_is_bought_to_the_cent(house, ana, acme):
    browser = await house.signed_in(ana)
    page = await browser.follow(await browser.send(CREDITS, BUY, amount="custom", custom_amount="12.34"))
    assert "Pay $12.34" in text_of(page)


async def test_a_member_sees_the_balance_and_whom_to_ask(house, max_, acme):
    page = text_of(await (await house.signed_in(max_)).get(CREDITS))
    assert "$100.00" in page
    assert "Only an admin can buy credits. Your admins: Ana Ruiz ( ana@example.com )" in page
    assert "Statement" not in page


async def test_a_member_who_tries_to_buy_is_refused_and_told_whom_to_ask(house, max_, acme):
    browser = await house.signed_in(max_)
    response = await browser.post(BUY, {"csrf": await browser.token(), "amount": "25"})
    assert response.status_code == 403
    assert "Only an admin can buy credits. Your admins: Ana Ruiz ( ana@example.com )" in text_of(response)


async def test_a_member_or_stranger_cannot_pay_a_purchase_of_the_organization(house, ana, max_, sam, acme):
    checkout = (await (await house.signed_in(ana)).send(CREDITS, BUY, amount="25")).headers["location"]
    for user, status in ((max_, 403), (sam, 404)):
        browser = await house.signed_in(user)
        assert (await browser.get(checkout)).status_code == status
        response = await browser.post(checkout, {"csrf": await browser.token(), "outcome": "pay"})
        assert response.status_code == status
    assert await balance(house, acme.id) == 100 * DOLLAR


async def test_where_nothing_is_sold_the_page_says_which_setting_would(database, house, ana, acme):
    shop = House(database, processor=None, sandbox=None)
    browser = await shop.signed_in(ana)
    assert "BURSAR_PAYMENTS" in text_of(await browser.get(CREDITS))
    refused = await browser.post(BUY, {"csrf": await browser.token(), "purchase_id": "pur_" + "0" * 26, "amount": "25"})
    assert refused.status_code == 403
    assert "turned off" in text_of(refused)
    assert (await browser.get("/sandbox/checkout/pur_" + "0" * 26)).status_code == 404


async def test_the_statement_shows_what_came_and_went_with_the_balance_after_it(house, ana, acme):
    await house.add_generation(acme.id, ana, cost=2 * DOLLAR)
    browser = await house.signed_in(ana)
    page = text_of(await browser.get(CREDITS))
    assert "Credits granted to start with +$100.00 $100.00" in page
    assert "−$2.00 $98.00" in page
    assert "Usage 1 request −$2.00" in page
    assert (await browser.get(f"{CREDITS}?month=2001-01")).status_code == 200
    assert (await browser.get(f"{CREDITS}?month=nonsense")).status_code == 200


async def test_a_person_buys_for_themselves(house, ana, acme):
    browser = await house.signed_in(ana)
    checkout = (await browser.send("/personal/credits", "/personal/credits/purchases", amount="10")).headers["location"]
    assert (await browser.send(checkout, checkout, outcome="pay")).headers["location"] == "/personal/credits"
    assert await balance(house, ana.id) == 10 * DOLLAR


# Moving personal credits to an organization.

MINE = "/personal/credits"
ASK = "/personal/credits/moves"


async def ask_to_move(house, browser, acme, **fields):
    return await browser.send(MINE, ASK, **{"organization": acme.id, "move_amount": "5", "note": ""} | fields)


async def test_a_person_asks_sees_the_state_and_withdraws_and_nothing_moves(house, max_, acme):
    await house.grant(max_.id, "20")
    browser = await house.signed_in(max_)
    assert "It never happens by itself." in text_of(await browser.get(MINE))
    page = await browser.follow(await ask_to_move(house, browser, acme, move_amount="7.50", note="For the demo"))
    assert "The operator was asked. Nothing moves until they answer." in text_of(page)
    assert "Acme Robotics just now Waits for the operator $7.50 Withdraw" in text_of(page)
    assert (await balance(house, max_.id), await balance(house, acme.id)) == (20 * DOLLAR, 100 * DOLLAR)
    withdraw = re.search(r'action="(/personal/credits/moves/mov_\w+/withdraw)"', page.text).group(1)
    page = await browser.follow(await browser.send(MINE, withdraw))
    assert "The request is withdrawn." in text_of(page)
    assert "Withdrawn $7.50" in text_of(page)
    again = await browser.follow(await browser.post(withdraw, {"csrf": await browser.token()}))
    assert "This request was withdrawn before." in text_of(again)


async def test_what_is_wrong_with_a_request_is_said_beside_its_field_and_nothing_typed_is_lost(house, max_, acme):
    await house.grant(max_.id, "20")
    browser = await house.signed_in(max_)
    for fields, field in (
        ({"move_amount": "20.01"}, "move_amount"),
        ({"move_amount": "lots"}, "move_amount"),
        ({"organization": "org_none"}, "organization"),
        ({"note": "x" * 501}, "note"),
    ):
        response = await ask_to_move(house, browser, acme, **{"note": "For <the> demo"} | fields)
        assert response.status_code == 400
        assert f'id="{field}-error"' in response.text
        assert field == "note" or "For &lt;the&gt; demo" in response.text
    assert "Waits for the operator" not in text_of(await browser.get(MINE))


async def test_a_double_click_asks_once(house, max_, acme):
    await house.grant(max_.id, "20")
    browser = await house.signed_in(max_)
    fields = hidden_fields((await browser.get(MINE)).text, ASK) | {"organization": acme.id, "move_amount": "5"}
    for _ in range(2):
        page = await browser.follow(await browser.post(ASK, fields))
    assert text_of(page).count("Waits for the operator") == 1
    changed = await browser.post(ASK, fields | {"move_amount": "6"})
    assert changed.status_code == 409
    assert "already made, of something else" in text_of(changed)


async def test_in_an_organization_the_page_says_that_it_is_done_from_the_personal_account(house, ana, max_, acme):
    for person in (ana, max_):
        browser = await house.signed_in(person)
        page = await browser.get(CREDITS)
        assert 'href="/personal/credits#move"' in page.text
        assert ASK not in page.text
    assert (await browser.post("/orgs/acme/credits/moves", {"csrf": await browser.token()})).status_code in (404, 405)


async def test_another_persons_request_answers_like_one_that_is_not_there(house, ana, max_, acme):
    await house.grant(max_.id, "20")
    page = await (browser := await house.signed_in(max_)).follow(await ask_to_move(house, browser, acme))
    withdraw = re.search(r'action="(/personal/credits/moves/mov_\w+/withdraw)"', page.text).group(1)
    other = await house.signed_in(ana)
    answers = [
        await other.post(path, {"csrf": await other.token()})
        for path in (withdraw, "/personal/credits/moves/mov_01j8zzzzzzzzzzzzzzzzzzzzzz/withdraw")
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert text_of(answers[0]) == text_of(answers[1])


async def test_a_member_sees_the_billing_contact(house, ana, max_, acme):
    await actions.update_organization(
        house.database, Actor.person(ana.id), organization=acme.id, billing_email="bills@acme.example"
    )
    page = text_of(await (await house.signed_in(max_)).get(CREDITS))
    assert "Your admins: Ana Ruiz ( ana@example.com ). Billing contact: bills@acme.example" in page
    assert "Billing contact: bills@acme.example" in page
