"""The catalogue's pages: search, filters and order in the URL, and a model's providers with what they do to prompts."""

import re

import pytest

from bursar.catalog import Catalog, Endpoint, Model, Pricing, Provider, endpoint_id
from bursar.kernel.money import parse_price
from tests.web.cast import text_of

pytestmark = pytest.mark.anyio


def priced(prompt="0.000001", completion="0.000002", **more):
    return Pricing(parse_price(prompt), parse_price(completion), **more)


def serve(model, provider, pricing, **more):
    return Endpoint(
        id=endpoint_id(model.id, provider.slug, "up"),
        model=model,
        provider=provider,
        upstream_model="up",
        pricing=pricing,
        context_length=model.context_length,
        **more,
    )


@pytest.fixture
def catalog(house):
    """Two providers; a model at both, one that is free, one that reads images, one nobody prices; sixty of one kind."""
    alpha = Provider("alpha", "Alpha Cloud", "openai", base_url="a", training=False, retention_days=0)
    beta = Provider("beta", "Beta Labs", "openai", base_url="b", training=True, retention_days=30)
    prime = Model("acme/prime", "Prime", created=1_700_000_000, context_length=200_000, description="Reasons well.")
    gift = Model("acme/gift", "Gift", created=1_760_000_000, context_length=8_000)
    sight = Model("acme/sight", "Sight", context_length=128_000, input_modalities=("text", "image"))
    unpriced = Model("acme/unpriced", "Unpriced")
    many = [Model(f"bulk/model-{number:02}", f"Bulk {number:02}", context_length=4_000) for number in range(60)]
    cache = {"input_cache_read": parse_price("0.0000001")}
    house.catalog = Catalog(
        [alpha, beta],
        [prime, gift, sight, unpriced, *many],
        [
            serve(prime, alpha, priced("0.00000015", "0.0000006", **cache), quantization="fp8"),
            serve(prime, beta, priced("0.0000003", "0.0000009"), max_completion_tokens=4_096),
            serve(gift, alpha, priced("0", "0")),
            serve(sight, beta, priced("0.0000375", "0.00007")),
            serve(unpriced, alpha, None),
            *(serve(model, beta, priced()) for model in many),
        ],
    )


def listed(response):
    return re.findall(r'<span class="b-id"><code>([^<]+)', response.text)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=prime", ["acme/prime"]),
        ("q=WELL+reasons", ["acme/prime"]),
        ("q=acme", ["acme/gift", "acme/prime", "acme/sight"]),
        ("q=nothing+like+it", []),
        ("modality=reads-image", ["acme/sight"]),
        ("provider=alpha", ["acme/gift", "acme/prime"]),
        ("free=1", ["acme/gift"]),
        ("context=128000", ["acme/prime", "acme/sight"]),
        ("q=acme&sort=price", ["acme/gift", "acme/prime", "acme/sight"]),
        ("q=acme&sort=context", ["acme/prime", "acme/sight", "acme/gift"]),
        ("q=acme&sort=newest", ["acme/gift", "acme/prime", "acme/sight"]),
        ("provider=alpha&context=128000&q=prime", ["acme/prime"]),
    ],
)
async def test_the_catalogue_is_searched_filtered_and_ordered_by_its_url(house, max_, acme, catalog, query, found):
    response = await (await house.signed_in(max_)).get(f"/orgs/acme/models?{query}")
    assert response.status_code == 200
    assert listed(response) == found


@pytest.mark.parametrize("query", ["modality=joy", "context=7", "sort=luck", "page=x", "page=-1", "free=maybe"])
async def test_what_makes_no_sense_in_the_url_is_as_if_it_were_not(house, max_, acme, catalog, query):
    browser = await house.signed_in(max_)
    odd, none = await browser.get(f"/orgs/acme/models?{query}"), await browser.get("/orgs/acme/models")
    assert odd.status_code == 200
    assert listed(odd) == listed(none)


async def test_a_long_catalogue_is_paged_and_the_pages_keep_the_filters(house, max_, acme, catalog):
    browser = await house.signed_in(max_)
    first = await browser.get("/orgs/acme/models?provider=beta&sort=newest")
    assert "62 models" in text_of(first)
    (following,) = re.findall(r'rel="next" href="([^"]+)"', first.text)
    assert following == "/orgs/acme/models?provider=beta&amp;sort=newest&amp;page=2"
    second = await browser.get(following.replace("&amp;", "&"))
    assert len(listed(first)) == 50
    assert len(set(listed(first)) | set(listed(second))) == 62
    assert listed(await browser.get("/orgs/acme/models?provider=beta&sort=newest&page=99")) == listed(second)


async def test_a_model_without_a_price_is_not_listed_and_its_page_says_why(house, max_, acme, catalog):
    browser = await house.signed_in(max_)
    assert listed(await browser.get("/orgs/acme/models?q=unpriced")) == []
    page = await browser.get("/orgs/acme/models/acme/unpriced")
    assert "No provider of this model has a price yet" in text_of(page)
    assert "chat?model=" not in page.text


async def test_a_models_page_shows_every_provider_its_prices_limits_and_data_policy(house, max_, acme, catalog):
    house.health.measured(house.catalog.offers_for("acme/prime")[0].id, 90, 2)
    for _ in range(5):
        house.health.failed(house.catalog.offers_for("acme/prime")[1].id)
    response = await (await house.signed_in(max_)).get("/orgs/acme/models/acme/prime")
    page = text_of(response)
    alpha, _, beta = page.partition("Alpha Cloud")[2].partition("Beta Labs")
    assert "Input $0.15 Output $0.60 Cache read $0.10" in alpha
    assert "fp8 Does not train on prompts Keeps prompts Not at all ZDR Yes Answers 45 tok/s" in alpha
    assert "Input $0.30 Output $0.90 Context 200K Answer 4K" in beta
    assert "Unknown May train on prompts Keeps prompts 30 days ZDR No Resting, tried again in" in beta
    assert 'href="/orgs/acme/chat?model=acme/prime"' in response.text
    assert '"model": "acme/prime"' in page


async def test_a_model_that_makes_embeddings_is_called_there_and_not_tried_in_chat(house, max_, acme):
    browser = await house.signed_in(max_)
    page = await browser.get("/orgs/acme/models/demo/embed-1")
    assert "/api/v1/embeddings" in page.text
    assert "chat?model=" not in page.text
    assert "chat?model=demo/embed-1" not in (await browser.get("/orgs/acme/models")).text


async def test_a_mistyped_model_is_404_and_says_which_may_be_meant(house, max_, acme):
    page = await (await house.signed_in(max_)).get("/orgs/acme/models/demo/eco-1")
    assert page.status_code == 404
    assert "Did you mean demo/echo-1" in text_of(page)


async def test_htmx_gets_a_part_of_the_catalogue(house, max_, acme):
    browser = await house.signed_in(max_)
    whole, part = await browser.get("/orgs/acme/models"), await browser.get("/orgs/acme/models", HX_Request="true")
    assert "<!doctype html>" in whole.text
    assert "<!doctype html>" not in part.text
    assert whole.headers["vary"] == part.headers["vary"] == "HX-Request, HX-Request-Type, Cookie"
    assert listed(whole) == listed(part)


async def test_an_empty_catalogue_says_what_to_do(house, max_, acme):
    house.catalog = Catalog([], [], [])
    browser = await house.signed_in(max_)
    for page in ("models", "chat"):
        response = await browser.get(f"/orgs/acme/{page}")
        assert response.status_code == 200
        assert "No models yet" in text_of(response)
