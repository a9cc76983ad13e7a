"""Credits: who sees and who buys, and that a purchase is paid once."""

import pytest

from bursar import ledger
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


async def test_a_person_buys_for_themselves_and_is_told_how_credits_move(house, ana, acme):
    browser = await house.signed_in(ana)
    page = await browser.get("/personal/credits")
    assert "mailto:help@example.com?subject=Move%20credits%20to%20Acme%20Robotics" in page.text
    checkout = (await browser.send("/personal/credits", "/personal/credits/purchases", amount="10")).headers["location"]
    assert (await browser.send(checkout, checkout, outcome="pay")).headers["location"] == "/personal/credits"
    assert await balance(house, ana.id) == 10 * DOLLAR
