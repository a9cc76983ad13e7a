"""The operator's console: what it lists, what it changes, and that it is nobody else's."""

import re

import pytest

from bursar import actions, ledger, payments
from bursar.access import Actor
from bursar.kernel.ids import OwnerId, new_credit_move_id, new_purchase_id
from bursar.kernel.money import Nanos
from bursar.processors import EventKind
from bursar.storage import SYSTEM
from tests.web.cast import text_of

pytestmark = pytest.mark.anyio

PAGES = ("", "/organizations", "/users", "/credit-moves", "/mail", "/books", "/audit")
MOVES = "/operator/credit-moves"
DOLLAR = 1_000_000_000


@pytest.fixture
async def olga(house):
    return await house.add_user("Olga Operator", operator=True)


async def ask_to_move(house, person, organization, amount="5", note="For the demo"):
    return await actions.request_credit_move(
        house.database,
        Actor.person(person.id),
        owner=OwnerId(person.id),
        move=new_credit_move_id(house.clock.now()),
        organization=organization.id,
        amount=amount,
        note=note,
        public_url="https://testserver",
        support_email=None,
    )


async def balances(house, *owners):
    async with house.database.snapshot(SYSTEM) as snapshot:
        found = await ledger.balances(snapshot, [OwnerId(owner.id) for owner in owners])
    return [found[OwnerId(owner.id)].total // DOLLAR for owner in owners]


async def test_every_page_leads_to_every_other_and_is_the_operators_alone(house, olga, ana, acme):
    operator, admin = await house.signed_in(olga), await house.signed_in(ana)
    for path in PAGES:
        page = await operator.get(f"/operator{path}")
        assert page.status_code == 200, path
        for other in PAGES:
            assert f'href="/operator{other}"' in page.text, (path, other)
        assert f'href="/operator{path}" aria-current="page"' in page.text
        assert (await admin.get(f"/operator{path}")).status_code == 403
    assert 'href="/operator"' not in (await admin.get("/personal/overview")).text
    for path in (f"/operator/organizations/{acme.id}/seats", f"{MOVES}/mov_01j8zzzzzzzzzzzzzzzzzzzzzz"):
        assert (await admin.post(path, {"csrf": await admin.token(), "seats": "99"})).status_code == 403


async def test_organizations_are_found_and_paged_with_members_seats_and_balance(house, olga, ana, sam, acme):
    for number in range(52):
        await house.add_organization(f"Unit {number:02}", f"unit-{number:02}", sam)
    browser = await house.signed_in(olga)
    first = await browser.get("/operator/organizations")
    assert "53 on this installation" in text_of(first)
    assert "Unit 51" in text_of(first)
    assert "Acme Robotics" not in text_of(first)
    older = re.search(r'rel="next" href="([^"]+)"', first.text).group(1).replace("&amp;", "&")
    assert "Acme Robotics /orgs/acme just now 2 of 10 $100.00 Seats" in text_of(await browser.get(older))
    for search in ("ACME", "robot", "cme"):
        found = text_of(await browser.get(f"/operator/organizations?q={search}"))
        assert "Acme Robotics" in found
        assert "Unit" not in found
    for nothing in ("%25", "_", "no such"):
        assert "No organization is called like that" in text_of(
            await browser.get(f"/operator/organizations?q={nothing}")
        )
    assert (await browser.get("/operator/organizations?at=nonsense")).status_code == 200


async def test_users_are_listed_with_their_address_organizations_and_balance(house, olga, ana, acme):
    await house.add_user("Uwe Unverified", verified=False)
    await house.grant(ana.id, "3")
    browser = await house.signed_in(olga)
    page = text_of(await browser.get("/operator/users"))
    assert "Ana Ruiz ana@example.com Verified just now Signed out 1 $3.00" in page
    assert "Uwe Unverified uwe@example.com Not verified" in page
    assert "Olga Operator Operator olga@example.com Verified just now just now 0 $0.00" in page
    found = text_of(await browser.get("/operator/users?q=UWE@"))
    assert "Uwe Unverified" in found
    assert "Ana Ruiz" not in found


async def test_seats_are_raised_and_never_lowered_below_those_in_use(house, olga, ana, acme):
    browser = await house.signed_in(olga)
    seats = f"/operator/organizations/{acme.id}/seats"
    assert "2 of 10 in use" in text_of(await browser.get(seats))
    page = await browser.follow(await browser.send(seats, seats, seats="25"))
    assert "Acme Robotics has 25 seats now." in text_of(page)
    for wrong in ("1", "many", "", "100001"):
        refused = await browser.send(seats, seats, seats=wrong)
        assert refused.status_code == 400
        assert 'id="seats-error"' in refused.text
        assert not wrong or f'value="{wrong}"' in refused.text
    assert "2 of 25 in use" in text_of(await (await house.signed_in(ana)).get("/orgs/acme/settings"))
    for nobody in ("org_01j8zzzzzzzzzzzzzzzzzzzzzz", "acme"):
        assert (await browser.get(f"/operator/organizations/{nobody}/seats")).status_code == 404


async def test_a_request_is_carried_out_once_and_everybody_sees_it(house, olga, max_, acme):
    await house.grant(max_.id, "20")
    move = await ask_to_move(house, max_, acme)
    browser = await house.signed_in(olga)
    page = await browser.get(MOVES)
    assert "$5.00 from Max Weber to Acme Robotics max@example.com, who has $20.00 ." in text_of(page)
    assert "For the demo" in text_of(page)
    assert "Credit moves 1 to answer" in text_of(await browser.get("/operator"))
    done = await browser.send(MOVES, f"{MOVES}/{move.id}", answer="carry-out", note="Have fun")
    assert "$5.00 was moved." in text_of(await browser.follow(done))
    assert await balances(house, max_, acme) == [15, 105]
    again = await browser.post(f"{MOVES}/{move.id}", {"csrf": await browser.token(), "answer": "carry-out"})
    assert again.status_code == 409
    assert "This request was carried out before." in text_of(again)
    assert await balances(house, max_, acme) == [15, 105]
    assert "Max Weber to Acme Robotics Have fun just now Moved Olga Operator $5.00" in text_of(await browser.get(MOVES))
    theirs = text_of(await (await house.signed_in(max_)).get("/personal/credits"))
    assert "Acme Robotics Have fun just now Moved $5.00" in theirs
    assert "Credits moved From Max Weber to Acme Robotics −$5.00" in theirs


async def test_a_refusal_needs_a_reason_which_the_person_reads(house, olga, max_, acme):
    await house.grant(max_.id, "20")
    move = await ask_to_move(house, max_, acme)
    browser = await house.signed_in(olga)
    refused = await browser.send(MOVES, f"{MOVES}/{move.id}", answer="refuse", note="")
    assert refused.status_code == 400
    assert f'id="note-error-{move.id}"' in refused.text
    neither = await browser.send(MOVES, f"{MOVES}/{move.id}", answer="maybe", note="Hm")
    assert neither.status_code == 400
    assert 'value="Hm"' in neither.text
    done = await browser.send(MOVES, f"{MOVES}/{move.id}", answer="refuse", note="Promotional credits stay.")
    assert "$5.00 was not moved" in text_of(await browser.follow(done))
    assert "Refused $5.00" in text_of(page := await (await house.signed_in(max_)).get("/personal/credits"))
    assert "Promotional credits stay." in text_of(page)
    assert await balances(house, max_, acme) == [20, 100]


async def test_what_cannot_be_moved_any_more_says_so_and_moves_nothing(house, olga, max_, acme):
    await house.grant(max_.id, "20")
    move = await ask_to_move(house, max_, acme, "20")
    async with house.database.begin(SYSTEM) as tx:
        await ledger.write_off(tx, OwnerId(max_.id), Nanos(DOLLAR), reason="for tests", by=None)
    browser = await house.signed_in(olga)
    cannot = await browser.send(MOVES, f"{MOVES}/{move.id}", answer="carry-out", note="Sure")
    assert cannot.status_code == 409
    assert "Only $19.000000000 is left of the $20.00 that was asked for." in text_of(cannot)
    assert 'value="Sure"' in cannot.text
    assert await balances(house, max_, acme) == [19, 100]
    for nobody in ("mov_01j8zzzzzzzzzzzzzzzzzzzzzz", "nonsense"):
        answer = await browser.post(f"{MOVES}/{nobody}", {"csrf": await browser.token(), "answer": "carry-out"})
        assert answer.status_code == 404


async def test_credits_that_reached_an_organization_after_its_end_wait_on_the_console(house, olga, ana, acme):
    purchase = new_purchase_id(house.clock.now())
    await actions.start_purchase(
        house.database, house.sandbox, Actor.person(ana.id), owner=OwnerId(acme.id), purchase=purchase, amount="25"
    )
    await actions.settle_organization(
        house.database, Actor.operator(), organization=acme.id, to=None, reason="for tests"
    )
    await actions.delete_organization(house.database, Actor.person(ana.id), organization=acme.id, confirmation="acme")
    browser = await house.signed_in(olga)
    assert "credits left" not in text_of(await browser.get("/operator"))
    event = house.sandbox.event(EventKind.PAID, purchase, Nanos(25 * DOLLAR))
    assert (await actions.receive_event(house.database, house.sandbox, *event)).state is payments.PurchaseState.PAID
    assert "1 deleted organization has credits left" in text_of(await browser.get("/operator"))
    page = text_of(await browser.get("/operator/organizations"))
    assert f"bursar organizations settle {acme.id}" in page
    assert "$25.00" in page
