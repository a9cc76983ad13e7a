"""Models, endpoints and providers: OpenRouter's shapes, its filters, and what is told to whom."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from bursar.catalog import Catalog, Endpoint, endpoint_id
from tests.api.conftest import Api
from tests.api.test_management import MODEL_KEYS, assert_refused

pytestmark = pytest.mark.anyio

ENDPOINT_KEYS = {
    *("name", "model_id", "model_name", "provider_name", "tag", "context_length", "max_completion_tokens"),
    *("max_prompt_tokens", "quantization", "service_tier", "pricing", "supported_parameters"),
    *("supports_implicit_caching", "supports_diarization", "supports_tool_choice", "native_tools"),
    *("latency_last_30m", "throughput_last_30m", "uptime_last_5m", "uptime_last_30m", "uptime_last_1d"),
}
CHAT = ["demo/echo-1", "demo/flat-1", "demo/free-1", "demo/scholar-1"]


async def ids(api: Api, path: str, key: str | None = None) -> list[str]:
    answer = await api.get(path, key)
    assert answer.status_code == 200, answer.text
    return [model["id"] for model in answer.json()["data"]]


def offer(api: Api, name: str, **more: Any) -> Endpoint:
    """The catalogue gets one more endpoint, like the one of that model but for `more`."""
    [like] = api.world.catalog.offers_for(name)
    made = replace(like, **more)
    made = replace(made, id=endpoint_id(made.model.id, made.provider.slug, made.upstream_model))
    old = api.world.catalog
    models = {model.id: model for model in [*old.models(), made.model]}
    providers = {provider.slug: provider for provider in [*old.providers(), made.provider]}
    api.world.catalog = Catalog(providers.values(), models.values(), [*old.endpoints(), made])
    return made


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", CHAT),
        ("?q=scholar", ["demo/scholar-1"]),
        ("?output_modalities=all", ["demo/echo-1", "demo/embed-1", "demo/flat-1", "demo/free-1", "demo/scholar-1"]),
        ("?output_modalities=embeddings", ["demo/embed-1"]),
        ("?supported_parameters=seed,%20stop", CHAT),
        ("?supported_parameters=tools", []),
        ("?input_modalities=text", CHAT),
        ("?input_modalities=text,image", []),
        ("?context=100000", ["demo/scholar-1"]),
        ("?max_price=0", ["demo/flat-1", "demo/free-1"]),
        ("?min_price=0.15&max_price=0.15", ["demo/echo-1"]),
        ("?min_output_price=1", ["demo/scholar-1"]),
        ("?max_output_price=0.6&min_output_price=0.6", ["demo/echo-1"]),
        ("?model_authors=demo,acme", CHAT),
        ("?model_authors=acme", []),
        ("?providers=Demo", CHAT),
        ("?zdr=true", CHAT),
        ("?min_age_days=10", CHAT),
        ("?max_age_days=10", []),
        ("?sort=context-high-to-low&limit=1", ["demo/scholar-1"]),
        ("?sort=pricing-high-to-low&limit=2", ["demo/scholar-1", "demo/echo-1"]),
        ("?whatever=else", CHAT),
    ],
)
async def test_models_are_filtered_and_counted_alike(api: Api, query: str, kept: list[str]):
    assert await ids(api, f"/models{query}") == kept
    assert await ids(api, f"/models/user{query}", api.key) == kept
    if "limit" not in query:
        assert (await api.get(f"/models/count{query}")).json() == {"data": {"count": len(kept)}}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("sort=cheap", "pricing-low-to-high"),
        ("sort=most-popular", "pricing-low-to-high"),
        ("output_modalities=txt", "text"),
        ("output_modalities=", "output_modalities"),
        ("input_modalities=text,smell", "smell"),
        ("supported_parameters=tool", "tools"),
        ("context=-1", "context"),
        ("context=much", "context"),
        ("min_price=-1", "min_price"),
        ("max_price=NaN", "max_price"),
        ("max_price=1e999999999", "max_price"),
        ("max_output_price=cheap", "max_output_price"),
        ("min_age_days=1.5", "min_age_days"),
        ("zdr=yes", "zdr"),
        ("q=" + "x" * 201, "q"),
        ("providers=a&providers=b", "commas"),
        ("category=programming", "category"),
        ("distillable=true", "distillable"),
        ("region=eu", "region"),
        ("arch=GPT", "arch"),
        ("min_intelligence_index=1", "min_intelligence_index"),
        ("max_tool_success_rate=1", "max_tool_success_rate"),
    ],
)
async def test_a_filter_that_is_wrong_or_unknown_here_is_refused_and_named(api: Api, query: str, names: str):
    for path in ("/models", "/models/user"):
        error = assert_refused(await api.get(f"{path}?{query}", api.key), 400, "invalid_request")
        assert names in error["message"]
        assert len(error["message"]) < 600


async def test_the_next_page_asks_the_same_question(api: Api):
    body = (await api.get("/models?q=demo&sort=newest&limit=3&offset=0")).json()
    assert body["links"]["next"] == "/api/v1/models?q=demo&sort=newest&limit=3&offset=3"
    assert body["total_count"] == 4


async def test_the_models_of_a_user_need_a_key_of_either_kind(api: Api):
    assert await ids(api, "/models/user", api.key) == await ids(api, "/models/user", api.management) == CHAT
    assert_refused(await api.get("/models/user"), 401, "authentication")
    assert_refused(await api.get("/models/user", "sk-nonsense"), 401, "authentication")


async def test_embedding_models_have_a_list_of_their_own(api: Api):
    body = (await api.get("/embeddings/models?offset=0&limit=500")).json()
    assert [model["id"] for model in body["data"]] == ["demo/embed-1"]
    assert body["data"][0].keys() >= set(MODEL_KEYS)
    assert (body["total_count"], body["links"]) == (1, {"next": None})
    assert await ids(api, "/embeddings/models?offset=1") == []
    assert_refused(await api.get("/embeddings/models?limit=0"), 400)


@pytest.mark.parametrize("slug", ["echo-1", "echo-1:nitro", "echo-1%3Afloor"])
async def test_one_model_is_found_by_its_id_with_a_variant_too(api: Api, slug: str):
    model = (await api.get(f"/model/demo/{slug}")).json()["data"]
    assert model["id"] == "demo/echo-1"
    assert model == (await api.get("/models?q=echo")).json()["data"][0]


@pytest.mark.parametrize("path", ["/models/demo/echo-1", "/models/demo%2Fecho-1"])
async def test_openais_clients_find_one_model_as_they_ask_for_it(api: Api, path: str):
    model = (await api.get(path)).json()
    assert (model["id"], model["object"], model["owned_by"]) == ("demo/echo-1", "model", "demo")
    assert model.items() >= (await api.get("/model/demo/echo-1")).json()["data"].items()


async def test_a_free_variant_keeps_what_costs_nothing(api: Api):
    assert (await api.get("/model/demo/free-1:free")).status_code == 200
    assert_refused(await api.get("/model/demo/echo-1:free"), 404, "not_found")
    [free] = api.world.catalog.offers_for("demo/free-1")
    offer(api, "demo/echo-1", provider=replace(free.provider, slug="gift", name="Gift"), pricing=free.pricing)
    told = (await api.get("/models/demo/echo-1:free/endpoints")).json()["data"]["endpoints"]
    assert [each["provider_name"] for each in told] == ["Gift"]
    assert len((await api.get("/models/demo/echo-1/endpoints")).json()["data"]["endpoints"]) == 2


async def test_an_id_of_the_catalogue_with_slashes_and_colons_is_found(api: Api):
    [like] = api.world.catalog.offers_for("demo/echo-1")
    for name in ("demo/echo-1:tiny", "hub/acme/prime:free"):
        offer(api, "demo/echo-1", model=replace(like.model, id=name))
        assert (await api.get(f"/model/{name}")).json()["data"]["id"] == name
        assert (await api.get(f"/models/{name}/endpoints")).json()["data"]["id"] == name


@pytest.mark.parametrize("path", ["/model/demo/ecko-1", "/models/demo/ecko-1", "/models/demo/ecko-1/endpoints"])
async def test_an_unknown_model_is_404_with_what_may_have_been_meant(api: Api, path: str):
    error = assert_refused(await api.get(path), 404, "not_found")
    assert error["message"].startswith("demo/ecko-1 is not a valid model ID. Did you mean demo/echo-1")
    assert_refused(await api.get(path.replace("ecko-1", "x" * 20_000)), 404)
    assert_refused(await api.get(path.replace("ecko-1", "echo-1:turbo")), 404)


async def test_what_has_no_price_is_nowhere(api: Api):
    [like] = api.world.catalog.offers_for("demo/echo-1")
    offer(api, "demo/echo-1", model=replace(like.model, id="demo/later"), pricing=None)
    assert await ids(api, "/models") == CHAT
    assert_refused(await api.get("/model/demo/later"), 404)
    assert_refused(await api.get("/models/demo/later/endpoints"), 404)
    assert len((await api.get("/endpoints/zdr")).json()["data"]) == 5


async def test_an_endpoint_has_the_21_keys_of_a_strict_client(api: Api):
    assert len(ENDPOINT_KEYS) == 21
    offer(api, "demo/echo-1", provider=replace(api.world.catalog.providers()[0], slug="twin"), quantization="fp8")
    data = (await api.get("/models/demo/echo-1/endpoints")).json()["data"]
    assert data.keys() >= {"id", "name", "created", "description", "architecture", "endpoints"}
    assert data["architecture"].keys() == {
        *("modality", "input_modalities", "output_modalities", "tokenizer", "instruct_type")
    }
    first, second = sorted(data["endpoints"], key=lambda each: str(each["tag"]))
    assert first.keys() == second.keys() == ENDPOINT_KEYS
    assert (first["tag"], second["tag"]) == ("demo", "twin/fp8")
    assert first["supports_tool_choice"].keys() == {"auto", "none", "required", "function"}
    assert first["pricing"]["prompt"] == "0.00000015"


async def test_what_the_gateway_saw_is_told_and_speeds_only_with_a_key(api: Api):
    before = (await api.data("/models/demo/echo-1/endpoints", api.key))["endpoints"][0]
    assert [before[name] for name in sorted(ENDPOINT_KEYS) if "_last_" in name] == [None] * 5
    for _ in range(3):
        answer = await api.world.chat(stream=True)
        assert answer.status == 200
    api.world.health.failed("demo/echo-1@demo/echo-1")
    raw = (await api.get("/models/demo/echo-1/endpoints", api.management)).text
    [seen] = json.loads(raw, parse_float=Decimal)["data"]["endpoints"]
    assert seen["uptime_last_5m"] == seen["uptime_last_30m"] == seen["uptime_last_1d"] == 75
    assert seen["latency_last_30m"].keys() == seen["throughput_last_30m"].keys() == {"p50", "p75", "p90", "p99"}
    assert 0 < seen["latency_last_30m"]["p50"] <= seen["latency_last_30m"]["p99"] < 60_000
    assert seen["throughput_last_30m"]["p50"] > 0
    for key in (None, "sk-nonsense"):
        [public] = (await api.get("/models/demo/echo-1/endpoints", key)).json()["data"]["endpoints"]
        assert (public["latency_last_30m"], public["throughput_last_30m"]) == (None, None)
        assert public["uptime_last_5m"] == 75


async def test_zdr_lists_whoever_keeps_nothing_of_every_kind_of_model(api: Api):
    keeper = replace(api.world.catalog.providers()[0], slug="keeper", name="Keeper", retention_days=None)
    offer(api, "demo/echo-1", provider=keeper)
    listed = (await api.get("/endpoints/zdr")).json()["data"]
    assert {each["provider_name"] for each in listed} == {"Demo"}
    assert [each["model_id"] for each in listed] == ["demo/echo-1", "demo/embed-1", *CHAT[1:]]
    assert all(each.keys() == ENDPOINT_KEYS for each in listed)


async def test_providers_are_named_with_every_key_a_strict_client_requires(api: Api):
    assert (await api.get("/providers")).json()["data"] == [
        {
            "name": "Demo",
            "slug": "demo",
            "privacy_policy_url": None,
            "terms_of_service_url": None,
            "status_page_url": None,
            "headquarters": None,
            "datacenters": None,
        }
    ]
