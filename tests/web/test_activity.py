"""The feed, its filters in the URL, its fragment, and its CSV."""

import csv
import io
import json

import pytest

from bursar.activity import GenerationStatus, UsageSource
from bursar.catalog import Pricing, store_prices
from bursar.kernel.money import parse_price
from bursar.storage import SYSTEM
from tests.web.cast import text_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def busy(house, ana, max_, acme):
    """Two keys, two models, one request of ten days ago."""
    one, two = await house.add_key(acme.id, ana, "production-api"), await house.add_key(acme.id, max_, "ci-evals")
    await house.add_generation(acme.id, ana, one)
    await house.add_generation(acme.id, max_, two, model="demo/other-2")
    await house.add_generation(acme.id, max_, two, model="demo/old-3", days_ago=10)
    return one, two


def table(response):
    return response.text.partition('id="requests-title"')[2]


async def test_everyone_in_the_organization_sees_its_activity(house, max_, busy):
    page = table(await (await house.signed_in(max_)).get("/orgs/acme/activity"))
    assert all(word in page for word in ("demo/echo-1", "demo/other-2", "demo/old-3", "Ana Ruiz", "production-api"))


async def test_the_activity_is_filtered_by_key_model_and_period(house, ana, busy):
    browser = await house.signed_in(ana)
    by_key = table(await browser.get(f"/orgs/acme/activity?key={busy[1].id}"))
    assert "demo/other-2" in by_key
    assert "demo/old-3" in by_key
    assert "demo/echo-1" not in by_key
    by_model = table(await browser.get("/orgs/acme/activity?model=demo/echo-1"))
    assert "demo/echo-1" in by_model
    assert "demo/other-2" not in by_model
    lately = table(await browser.get("/orgs/acme/activity?period=7d"))
    assert "demo/old-3" not in lately
    assert "2 requests, newest first" in text_of(await browser.get("/orgs/acme/activity?period=1d"))


@pytest.mark.parametrize("query", ["key=nonsense", "period=99y", "metric=joy", "page=!!", "page=bwA"])
async def test_what_makes_no_sense_in_the_url_is_as_if_it_were_not(house, ana, busy, query):
    response = await (await house.signed_in(ana)).get(f"/orgs/acme/activity?{query}")
    assert response.status_code == 200
    assert "3 requests, newest first" in text_of(response)


async def test_htmx_gets_a_part_of_the_page_and_caches_can_tell(house, ana, busy):
    browser = await house.signed_in(ana)
    whole, part = await browser.get("/orgs/acme/activity"), await browser.get("/orgs/acme/activity", HX_Request="true")
    assert "<!doctype html>" in whole.text
    assert "<!doctype html>" not in part.text
    assert "Requests" in text_of(part)
    assert whole.headers["vary"] == part.headers["vary"] == "HX-Request, HX-Request-Type, Cookie"
    restored = await browser.get("/orgs/acme/activity", HX_Request="true", HX_Request_Type="full")
    assert "<!doctype html>" in restored.text


async def test_htmx_is_sent_to_sign_in_when_the_session_ended(house, acme):
    response = await house.browser().get("/orgs/acme/activity", HX_Request="true")
    assert response.headers["hx-redirect"] == "/sign-in?next=%2Forgs%2Facme%2Factivity"


@pytest.mark.parametrize("metric", ["spend", "tokens", "requests"])
async def test_the_chart_draws_every_metric(house, ana, busy, metric):
    response = await (await house.signed_in(ana)).get(f"/orgs/acme/activity?metric={metric}")
    assert response.text.count('class="b-bar"') == 30
    assert "demo/old-3" in response.text


async def test_long_lists_page_by_keyset(house, ana, acme):
    for number in range(51):
        await house.add_generation(acme.id, ana, model=f"demo/number-{number}")
    browser = await house.signed_in(ana)
    first = await browser.get("/orgs/acme/activity")
    older = first.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    second = await browser.get(older)
    assert table(first).count("<small>Demo</small>") == 50
    assert table(second).count("<small>Demo</small>") == 1
    assert 'rel="prev" href="' in second.text


async def test_the_csv_holds_exactly_what_is_filtered(house, ana, busy):
    browser = await house.signed_in(ana)
    response = await browser.get(f"/orgs/acme/activity.csv?key={busy[1].id}&period=30d")
    assert response.headers["content-type"].startswith("text/csv")
    assert 'filename="bursar-activity-acme-30d-' in response.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["model"] for row in rows] == ["demo/other-2", "demo/old-3"]
    assert rows[0]["cost_usd"] == "0.001594321"
    assert rows[0]["api_key"] == "ci-evals"
    assert rows[0]["member"] == "Max Weber"
    lately = await browser.get(f"/orgs/acme/activity.csv?key={busy[1].id}&period=7d")
    assert len(list(csv.DictReader(io.StringIO(lately.text)))) == 1


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
async def test_a_name_that_is_a_formula_is_harmless_in_the_csv(house, ana, acme, name):
    key = await house.add_key(acme.id, ana, name)
    await house.add_generation(acme.id, ana, key)
    response = await (await house.signed_in(ana)).get("/orgs/acme/activity.csv")
    assert next(csv.DictReader(io.StringIO(response.text)))["api_key"] == f"'{name}"


async def test_a_failed_request_says_so_and_an_unused_owner_is_told_what_to_do(house, ana, acme):
    await house.add_generation(
        acme.id, ana, cost=0, status=GenerationStatus.FAILED, finish_reason=None, error_status=502
    )
    browser = await house.signed_in(ana)
    assert "error" in text_of(await browser.get("/orgs/acme/activity"))
    empty = text_of(await browser.get("/personal/activity"))
    assert "No requests yet" in empty
    assert "Send the first request" in empty


async def test_the_overview_starts_with_three_steps_and_then_shows_what_is_spent(house, ana, max_, acme):
    browser = await house.signed_in(ana)
    fresh = text_of(await browser.get("/orgs/acme/overview"))
    assert "Three steps to the first request of Acme Robotics" in fresh
    assert "https://testserver/api/v1/chat/completions" in fresh
    assert "demo/echo-1" in fresh
    key = await house.add_key(acme.id, ana, "production-api")
    await house.add_generation(acme.id, ana, key, cost=1_000_000_000)
    page = await browser.get("/orgs/acme/overview")
    assert "Three steps" not in text_of(page)
    assert "about 693 days left" in text_of(page)
    assert f'href="/orgs/acme/activity?period=30d&amp;key={key.id}"' in page.text


async def test_a_request_has_a_page_with_its_receipt(house, ana, max_, acme):
    prices = Pricing(parse_price("0.0000000375"), parse_price("0.00000015"))
    async with house.database.begin(SYSTEM) as tx:
        await store_prices(tx, [prices])
    made = {
        "price_version": prices.version,
        "usage_source": UsageSource.COUNTED,
        "prompt_tokens": 101,
        "completion_tokens": 20,
    }
    tried = [
        {
            "endpoint_id": "x",
            "provider_name": "<b>Beta</b>",
            "model": "demo/echo-1",
            "status": 502,
            "latency_ms": 7,
            "error": "It is down.",
        }
    ]
    row = await house.add_generation(acme.id, ana, cost=6_788, attempts=json.dumps(tried), **made)
    browser = await house.signed_in(max_)
    assert f'href="/orgs/acme/activity/{row.id}"' in (await browser.get("/orgs/acme/activity")).text
    response = await browser.get(f"/orgs/acme/activity/{row.id}")
    page = text_of(response)
    for said in (
        "Bursar counted what arrived", prices.version, "101", "$0.0375", "$0.0000037875", "$0.15", "$0.000003", "Rounded up, once",
        "$0.0000000005", "Charged", "$0.000006788", "It is down.", "counted", "Ana Ruiz",
    ):  # fmt: skip
        assert said in page, said
    assert "&lt;b&gt;Beta" in response.text


async def test_a_request_from_before_prices_were_kept_says_that_it_has_no_receipt(house, ana, acme):
    row = await house.add_generation(acme.id, ana, usage_source=UsageSource.REPORTED)
    page = text_of(await (await house.signed_in(ana)).get(f"/orgs/acme/activity/{row.id}"))
    assert "No receipt" in page
    assert "$0.001594321" in page or "$0.00159" in page


@pytest.mark.parametrize("name", ["gen-1", "x", "gen-01m87mtnwkcd90qmz0p561kng5", "%00"])
async def test_a_request_that_is_none_of_the_owners_is_404(house, ana, acme, name):
    theirs = (await house.add_generation(ana.id, ana, cost=0)).id
    browser = await house.signed_in(ana)
    for each in (name, theirs):
        assert (await browser.get(f"/orgs/acme/activity/{each}")).status_code == 404
    assert (await browser.get(f"/personal/activity/{theirs}")).status_code == 200


async def test_the_csv_says_whose_counts_they_are_and_every_class(house, ana, acme):
    tokens = {"cache_write_tokens": 5, "cache_write_1h_tokens": 3, "audio_tokens": 11, "image_output_tokens": 13}
    await house.add_generation(acme.id, ana, usage_source=UsageSource.ESTIMATED, **tokens)
    response = await (await house.signed_in(ana)).get("/orgs/acme/activity.csv")
    [row] = csv.DictReader(io.StringIO(response.text))
    assert row["usage_source"] == "estimated"
    assert {name: int(row[name]) for name in tokens} == tokens
    assert "estimated" in text_of(await (await house.signed_in(ana)).get("/orgs/acme/activity"))
