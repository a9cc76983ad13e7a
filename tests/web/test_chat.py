"""Chat calls the gateway for whoever is signed in: billed to the context that the URL names, and to nobody else."""

import html
import json
import re

import pytest
from sqlalchemy import select, update

from bursar import ledger
from bursar.activity import tables as activity_tables
from bursar.kernel.ids import OwnerId
from bursar.organizations import tables as organization_tables
from bursar.storage import SYSTEM, Scope
from tests.web.cast import ORIGIN, text_of

pytestmark = pytest.mark.anyio

ACME = "/orgs/acme/chat/completions"


async def ask(browser, path=ACME, text="Hello", *, token=None, headers=None, **more):
    """As the page's script does."""
    body = {"model": "demo/echo-1", "stream": True, "messages": [{"role": "user", "content": text}], **more}
    sent = {"origin": ORIGIN, "sec-fetch-site": "same-origin", "x-csrf-token": token or await browser.token()}
    return await browser.http.post(path, json=body, headers=sent | (headers or {}))


async def generations(house):
    async with house.database.snapshot(SYSTEM) as snapshot:
        return await snapshot.all(select(activity_tables.generations).order_by(activity_tables.generations.c.id))


async def spent(house, owner):
    async with house.database.snapshot(Scope(OwnerId(owner))) as snapshot:
        return (await ledger.balance(snapshot, OwnerId(owner))).spent


async def end_membership(house, user):
    memberships = organization_tables.memberships
    async with house.database.begin(SYSTEM) as tx:
        await tx.execute(update(memberships).where(memberships.c.user_id == user.id).values(ended_at=tx.now))


@pytest.mark.parametrize("who", ["ana", "max_"])
async def test_an_answer_is_streamed_and_billed_once_to_the_organization_of_the_url(house, acme, who, request):
    user = request.getfixturevalue(who)
    await house.grant(user.id, "5")
    answer = await ask(await house.signed_in(user))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    usage = json.loads(events[-2])["usage"]
    (row,) = await generations(house)
    assert (row.owner_id, row.user_id, row.key_id) == (acme.id, user.id, None)
    assert (row.app_title, row.status, row.id) == ("Chat", "ok", answer.headers["x-generation-id"])
    assert row.cost_nanos == round(usage["cost"] * 10**9) > 0
    assert await spent(house, acme.id) == row.cost_nanos
    assert await spent(house, user.id) == 0
    async with house.database.snapshot(SYSTEM) as snapshot:
        books = await ledger.verify(snapshot)
    assert (books.drift, books.open_holds, books.spent) == (0, 0, row.cost_nanos)


async def test_in_the_personal_context_the_person_pays(house, max_, acme):
    await house.grant(max_.id, "5")
    assert (await ask(await house.signed_in(max_), "/personal/chat/completions")).status_code == 200
    assert await spent(house, acme.id) == 0
    assert await spent(house, max_.id) > 0


async def test_without_personal_credits_the_organization_is_never_asked_instead(house, max_, acme):
    answer = await ask(await house.signed_in(max_), "/personal/chat/completions")
    assert answer.status_code == 402
    assert await generations(house) == []


async def refused(house, answer, status):
    """In the gateway's envelope, with nothing asked and nothing charged."""
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == status
    assert answer.headers["content-security-policy"]
    assert await generations(house) == []
    return answer.json()["error"]["message"]


async def test_a_stranger_finds_no_such_organization(house, sam, acme):
    browser = await house.signed_in(sam)
    foreign = await refused(house, await ask(browser), 404)
    assert foreign == await refused(house, await ask(browser, "/orgs/no-such/chat/completions"), 404)


async def test_who_left_the_organization_is_refused_from_that_moment_on(house, max_, acme):
    browser = await house.signed_in(max_)
    assert (await ask(browser)).status_code == 200
    await end_membership(house, max_)
    before = len(await generations(house))
    answer = await ask(browser)
    assert answer.status_code == 404
    assert len(await generations(house)) == before


async def test_whoever_is_signed_out_is_told_so(house, ana, acme):
    browser = await house.signed_in(ana)
    token = await browser.token()
    await browser.send("/settings/preferences", "/sign-out")
    assert "Sign in again" in await refused(house, await ask(browser, token=token), 401)
    assert "Sign in again" in await refused(house, await ask(house.browser(), token="x"), 401)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-csrf-token": ""},
        {"x-csrf-token": "salt.tag"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
async def test_another_site_cannot_chat_for_somebody(house, ana, acme, headers):
    await refused(house, await ask(await house.signed_in(ana), headers=headers), 403)


async def test_somebody_elses_token_is_no_good(house, ana, sam, acme):
    other = await house.signed_in(sam)
    await refused(house, await ask(await house.signed_in(ana), token=await other.token()), 403)


async def test_an_api_key_in_the_request_changes_nothing(house, ana, max_, acme):
    key = await house.add_key(max_.id, max_, "mine")
    answer = await ask(await house.signed_in(ana), headers={"authorization": f"Bearer {key.id}", "x-api-key": "x"})
    assert answer.status_code == 200
    (row,) = await generations(house)
    assert (row.owner_id, row.key_id) == (acme.id, None)


async def test_what_the_gateway_refuses_arrives_as_it_said_it(house, ana, acme):
    message = await refused(house, await ask(await house.signed_in(ana), model="no/such"), 400)
    assert "no/such" in message


async def test_the_receipt_of_an_answer_says_what_activity_says(house, ana, max_, sam, acme):
    browser = await house.signed_in(max_)
    generation = (await ask(browser)).headers["x-generation-id"]
    receipt = (await browser.get(f"/orgs/acme/chat/answers/{generation}")).json()
    (row,) = await generations(house)
    assert receipt["cost_nanos"] == row.cost_nanos
    assert (receipt["tokens_in"], receipt["tokens_out"]) == (row.prompt_tokens, row.completion_tokens)
    assert (receipt["model"], receipt["provider"], receipt["finish"]) == ("demo/echo-1", "demo", "stop")
    page = await browser.get(receipt["url"].partition("#")[0])
    assert f'id="{generation}"' in page.text
    for path in (f"/personal/chat/answers/{generation}", "/orgs/acme/chat/answers/nonsense"):
        nothing = await browser.get(path)
        assert (nothing.status_code, nothing.content) == (204, b"")
    assert (await (await house.signed_in(sam)).get(f"/orgs/acme/chat/answers/{generation}")).status_code == 404


async def test_chat_shows_in_the_activity_under_its_own_name_and_can_be_filtered(house, ana, acme):
    key = await house.add_key(acme.id, ana, "production-api")
    await house.add_generation(acme.id, ana, key, model="demo/with-key")
    browser = await house.signed_in(ana)
    assert (await ask(browser)).status_code == 200
    everything = (await browser.get("/orgs/acme/activity")).text
    assert '<option value="chat">Chat</option>' in everything
    only = (await browser.get("/orgs/acme/activity?key=chat")).text.partition('id="requests-title"')[2]
    assert "demo/echo-1" in only
    assert "demo/with-key" not in only
    assert ",Chat," in (await browser.get("/orgs/acme/activity.csv?key=chat")).text
    assert 'href="/orgs/acme/activity?period=30d&amp;key=chat"' in (await browser.get("/orgs/acme/overview")).text


async def plain(browser, message="Hello", base="/orgs/acme", **fields):
    """The page's form, as a browser without scripts sends it."""
    return await browser.send(f"{base}/chat", f"{base}/chat", model="demo/echo-1", message=message, **fields)


def said(response):
    """What stands in the conversation, and not in the templates of the script."""
    log = response.text.partition('id="chat-log"')[2].partition("</ol>")[0]
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", log).split()))


async def test_without_scripts_a_form_gives_a_whole_answer_and_its_cost(house, max_, acme):
    response = await plain(await house.signed_in(max_), "Tell me about leases", system="Be brief.", max_tokens="20")
    assert response.status_code == 200
    (row,) = await generations(house)
    assert (row.owner_id, row.user_id, row.key_id) == (acme.id, max_.id, None)
    assert (row.streamed, row.app_title, row.completion_tokens) == (False, "Chat", 20)
    assert await spent(house, acme.id) == row.cost_nanos > 0
    page = text_of(response)
    assert "Tell me about leases" in page
    assert f"{row.prompt_tokens} → 20 tokens" in page
    assert f'href="/orgs/acme/activity?at={row.id}#{row.id}"' in response.text
    assert "Be brief." in response.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"message": "  "}, "Write a message first."),
        ({"max_tokens": "many"}, "A whole number, like 1000."),
        ({"max_tokens": "0"}, "A whole number, like 1000."),
        ({"temperature": "hot"}, "A number from 0 to 2, like 0.7."),
        ({"temperature": "2.1"}, "A number from 0 to 2, like 0.7."),
        ({"temperature": "NaN"}, "A number from 0 to 2, like 0.7."),
    ],
)
async def test_what_is_wrong_with_the_form_stands_beside_its_field_and_costs_nothing(house, ana, acme, fields, said):
    response = await plain(await house.signed_in(ana), **{"message": "Hello there", **fields})
    assert response.status_code == 400
    assert said in text_of(response)
    assert fields.get("message") or "Hello there</textarea>" in response.text
    assert await generations(house) == []


async def test_the_form_needs_its_token(house, ana, acme):
    browser = await house.signed_in(ana)
    fields = {"model": "demo/echo-1", "message": "Hello", "csrf": "salt.tag"}
    assert (await browser.post("/orgs/acme/chat", fields)).status_code == 403
    assert await generations(house) == []


async def test_a_member_without_credits_is_told_which_admin_to_ask_and_an_admin_where_to_buy(house, ana, max_):
    made = await house.add_organization("Empty", "empty", ana, max_)
    page = await plain(await house.signed_in(max_), base="/orgs/empty")
    assert page.status_code == 402
    assert "Only an admin can add credits. Ask Ana Ruiz ( ana@example.com )." in said(page)
    assert "/credits#buy" not in page.text
    page = await plain(await house.signed_in(ana), base="/orgs/empty")
    assert page.status_code == 402
    assert "Insufficient credits: $0.00 are available. Add credits or choose a cheaper model." in said(page)
    assert 'href="/orgs/empty/credits#buy"' in page.text
    assert "Hello</textarea>" in page.text
    assert await spent(house, made.id) == 0


async def test_an_answer_is_shown_as_text_whatever_is_in_it(house, ana, acme):
    response = await plain(await house.signed_in(ana), "<script>alert(1)</script>")
    assert response.status_code == 200
    assert "<script>alert(1)</script>" not in response.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in response.text


@pytest.mark.parametrize(
    ("query", "chosen"),
    [("", "demo/echo-1"), ("?model=demo/scholar-1", "demo/scholar-1"), ("?model=no/such", "demo/echo-1")],
)
async def test_every_model_that_chats_can_be_chosen_with_its_price_beside_it(house, max_, acme, query, chosen):
    response = await (await house.signed_in(max_)).get(f"/orgs/acme/chat{query}")
    assert f'value="{chosen}" checked' in response.text
    assert response.text.count(" checked>") == 1
    assert 'value="demo/embed-1"' not in response.text
    page = text_of(response)
    for price in ("$0.15 in · $0.60 out", "$3.00 in · $15.00 out", "$0.01 per request", "Free"):
        assert price in page
