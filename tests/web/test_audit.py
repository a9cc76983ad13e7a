"""The audit log's pages: for admins and, of one's own account, for everybody; readable, filtered by the URL, downloadable."""

import csv
import io
import re
from datetime import timedelta

import pytest

from bursar import actions, audit
from bursar.access import Actor
from bursar.actions import KeyChanges
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import parse_credits
from bursar.ledger import Period
from bursar.storage import Scope
from tests.web.cast import House, text_of

pytestmark = pytest.mark.anyio


async def set_limit(house: House, acme, ana, key, amount: str) -> None:
    await actions.update_key(
        house.database,
        Actor.person(ana.id, "192.0.2.9"),
        owner=OwnerId(acme.id),
        key=key.id,
        changes=KeyChanges(limit=parse_credits(amount), period=Period.DAILY),
    )


async def said(browser, path: str) -> list[str]:
    """The sentences shown, newest first."""
    page = await browser.get(path)
    assert page.status_code == 200, text_of(page)
    found = re.findall(r'<span class="b-told">(.*?)</span>\s*<time', page.text, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", "", each).split()) for each in found]


async def rows_of(browser, path: str) -> list[dict[str, str]]:
    answer = await browser.get(path)
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_an_admin_reads_who_changed_what_when_and_from_where(house, ana, acme):
    key = await house.add_key(acme.id, ana, "app")
    await set_limit(house, acme, ana, key, "5")
    await set_limit(house, acme, ana, key, "10")
    browser = await house.signed_in(ana)
    sentences = await said(browser, "/orgs/acme/audit")
    assert sentences[0] == "Ana Ruiz changed the limit of key app from $5.00 to $10.00 daily"
    assert sentences[1] == "Ana Ruiz set the limit of key app to $5.00 daily"
    assert sentences[2] == "Ana Ruiz created the API key app"
    assert "The operator granted $100.00 of credits: to start with" in sentences
    page = await browser.get("/orgs/acme/audit")
    assert re.search(r'<time datetime="[^"]+" title="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC">just now</time>', page.text)
    text = text_of(page)
    assert "192.0.2.9" in text
    assert "Amount $5.00 → $10.00" in text
    assert 'href="/orgs/acme/audit" aria-current="page"' in page.text


async def test_the_filters_are_in_the_url_and_the_csv_holds_exactly_what_they_leave(house, ana, max_, acme):
    await house.add_key(acme.id, ana, "app")
    theirs = await house.add_key(acme.id, max_, "notebook")
    await set_limit(house, acme, ana, theirs, "5")
    browser = await house.signed_in(ana)
    for query, count in (
        ("kind=keys", 2),
        ("kind=limits", 1),
        (f"kind=keys&actor={max_.id}", 1),
        ("actor=operator", 2),
    ):
        sentences = await said(browser, f"/orgs/acme/audit?{query}")
        rows = await rows_of(browser, f"/orgs/acme/audit.csv?{query}")
        assert len(sentences) == len(rows) == count, query
        assert [row["what"] for row in rows] == sentences
    assert await said(browser, f"/orgs/acme/audit?kind=keys&actor={max_.id}") == [
        "Max Weber created the API key notebook"
    ]
    [row] = await rows_of(browser, "/orgs/acme/audit.csv?kind=limits")
    assert (row["action"], row["actor_kind"], row["address"]) == ("limit.set", "user", "192.0.2.9")
    assert row["subject_id"] == theirs.id
    page = await browser.get(f"/orgs/acme/audit?actor={max_.id}&period=7d")
    assert f'<option value="{max_.id}" selected>Max Weber</option>' in page.text
    assert '<option value="7d" selected>' in page.text
    # what makes no sense is as if it were not there
    assert len(await said(browser, "/orgs/acme/audit?kind=x&actor='&period=9y&page=!!")) == 6


async def test_a_period_leaves_out_what_was_before(fixed_database, fixed_clock):
    house = House(fixed_database)
    ana = await house.add_user("Ana Ruiz")
    await house.add_key(ana.id, ana, "old")
    fixed_clock.advance(timedelta(days=8))
    await house.add_key(ana.id, ana, "new")
    browser = await house.signed_in(ana)
    assert len(await said(browser, "/personal/audit?kind=keys&period=7d")) == 1
    assert len(await said(browser, "/personal/audit?kind=keys&period=30d")) == 2
    await house.close()


async def test_the_pages_go_on_by_keyset_and_back(house, ana, acme):
    for number in range(60):
        await house.add_key(acme.id, ana, f"key {number:02}")
    browser = await house.signed_in(ana)
    first = await browser.get("/orgs/acme/audit?kind=keys")
    older = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert older is not None
    second = await browser.get(older[1].replace("&amp;", "&"))
    newer = re.search(r'rel="prev" href="([^"]+)"', second.text)
    assert newer is not None
    shown = [re.findall(r"created the API key (key \d\d)", page.text) for page in (first, second)]
    assert sorted({*shown[0], *shown[1]}) == [f"key {number:02}" for number in range(60)]
    assert (len(shown[0]), len(shown[1])) == (50, 10)
    back = await browser.get(newer[1].replace("&amp;", "&"))
    assert re.findall(r"created the API key (key \d\d)", back.text) == shown[0]
    assert len(await rows_of(browser, "/orgs/acme/audit.csv?kind=keys")) == 60


async def test_a_member_is_told_whom_to_ask_and_a_stranger_nothing(house, ana, max_, sam, acme):
    browser = await house.signed_in(max_)
    for path in ("/orgs/acme/audit", "/orgs/acme/audit.csv"):
        refused = await browser.get(path)
        assert refused.status_code == 403
        assert "ana@example.com" in text_of(refused)
    assert "/orgs/acme/audit" not in (await browser.get("/orgs/acme/overview")).text, "no link that would be refused"
    # the switcher of the personal log leads to where they may go
    assert 'href="/orgs/acme/overview"' in (await browser.get("/personal/audit")).text
    for path in ("/orgs/acme/audit", "/orgs/acme/audit.csv", "/orgs/nobodys/audit"):
        assert (await (await house.signed_in(sam)).get(path)).status_code == 404


async def test_everybody_reads_their_own_and_nobody_elses(house, ana, max_, acme):
    await house.add_key(ana.id, ana, "mine")
    browser = await house.signed_in(max_)
    sentences = await said(browser, "/personal/audit")
    assert sentences == ["Max Weber signed in by password"]
    assert "mine" not in (await browser.get("/personal/audit.csv")).text


async def test_nothing_found_says_so_and_how_to_see_more(house, ana, acme):
    browser = await house.signed_in(ana)
    page = text_of(await browser.get("/orgs/acme/audit?kind=limits"))
    assert "No events match these filters" in page
    assert "Clear filters" in page
    assert "Export CSV" not in page


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(A1)"])
async def test_a_name_that_is_a_formula_is_harmless_in_the_csv(house, ana, acme, name):
    key = await house.add_key(acme.id, ana, name)
    async with house.database.begin(Scope(OwnerId(acme.id))) as tx:
        await audit.record(tx, Actor.person(ana.id), OwnerId(acme.id), "key.deleted", key.id, name=name)
    browser = await house.signed_in(ana)
    for row in await rows_of(browser, "/orgs/acme/audit.csv"):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values()), row
    for row in await rows_of(browser, f"/orgs/acme/audit.csv?actor={ana.id}"):
        assert row["actor"] == "Ana Ruiz"


async def test_markup_in_a_name_stays_text(house, ana, acme):
    await house.add_key(acme.id, ana, "<img src=x onerror=alert(1)>")
    page = await (await house.signed_in(ana)).get("/orgs/acme/audit")
    assert "<img" not in page.text
    assert "&lt;img src=x" in page.text


async def test_the_operator_reads_the_installations_log_and_nobody_else(house, ana, acme):
    operator = await house.signed_in(await house.add_user("Olga Operator", operator=True))
    sentences = await said(operator, "/operator/audit")
    assert "The operator granted $100.00 of credits: to start with in Acme Robotics" in sentences
    assert not any("Ana Ruiz created the organization" in each for each in sentences), "what people do is theirs"
    rows = await rows_of(operator, "/operator/audit.csv?kind=credits")
    assert [row["context_id"] for row in rows] == [acme.id]
    stranger = await house.signed_in(ana)
    for path in ("/operator/audit", "/operator/audit.csv"):
        assert (await stranger.get(path)).status_code == 403
        assert (await house.browser().get(path)).status_code == 303


async def test_htmx_gets_the_part_alone(house, ana, acme):
    part = await (await house.signed_in(ana)).get("/orgs/acme/audit?kind=keys", hx_request="true")
    assert "<html" not in part.text
    assert "<h1>Audit log</h1>" in part.text
