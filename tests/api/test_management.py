"""`/models`, `/key`, `/credits`, `/generation`: OpenRouter's shapes, and who may ask."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from bursar import activity
from bursar.catalog import Catalog, Pricing, store_prices
from bursar.kernel.ids import new_generation_id
from bursar.kernel.money import Attos
from bursar.providers import UpstreamFailed
from bursar.storage import SYSTEM, Database
from tests.api.conftest import Api
from tests.gateway.garbage import garbage_headers
from tests.gateway.world import PRIME, ScriptedUpstream, World, endpoint, provider, usage, whole

pytestmark = pytest.mark.anyio


def words(text: str) -> list[str]:
    return text.split()


KEY_KEYS = [
    "allowed_data_regions",
    "budgets",
    "byok_usage",
    "byok_usage_daily",
    "byok_usage_weekly",
    "byok_usage_monthly",
    "creator_user_id",
    "effective_budget",
    "free_model_daily_requests",
    "include_byok_in_limit",
    "is_free_tier",
    "is_management_key",
    "is_provisioning_key",
    "label",
    "limit",
    "limit_remaining",
    "limit_reset",
    "organization_id",
    "rate_limit",
    "usage",
    "usage_daily",
    "usage_weekly",
    "usage_monthly",
    "workspace_id",
]
GENERATION_KEYS = [
    "id",
    "created_at",
    "model",
    "provider_name",
    "usage",
    "total_cost",
    "is_byok",
    "origin",
    "data_region",
    "streamed",
    "cancelled",
    "latency",
    "generation_time",
    "moderation_latency",
    "finish_reason",
    "native_finish_reason",
    "tokens_prompt",
    "tokens_completion",
    "native_tokens_prompt",
    "native_tokens_completion",
    "native_tokens_reasoning",
    "native_tokens_cached",
    "native_tokens_completion_images",
    "num_media_prompt",
    "num_media_completion",
    "num_input_audio_prompt",
    "num_search_results",
    "num_fetches",
    "cache_discount",
    "upstream_inference_cost",
    "upstream_id",
    "app_id",
    "http_referer",
    "user_agent",
    "external_user",
    "api_type",
    "router",
    "preset_id",
    "service_tier",
    "web_search_engine",
    "provider_responses",
    "workspace_id",
]
MODEL_KEYS = [
    "id",
    "canonical_slug",
    "name",
    "created",
    "context_length",
    "architecture",
    "pricing",
    "top_provider",
    "per_request_limits",
    "supported_parameters",
    "supported_voices",
    "default_parameters",
    "links",
]


def assert_refused(answer: Any, status: int, error_type: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error"}, "never FastAPI's own body"
    error = body["error"]
    assert error["code"] == status
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error_type is None or error["metadata"]["error_type"] == error_type
    return dict(error)


async def test_models_need_no_key_and_have_every_key_a_strict_client_requires(api: Api):
    body = (await api.get("/models")).json()
    assert body.keys() == {"data", "total_count", "links"}
    assert [model["id"] for model in body["data"]] == [
        "demo/echo-1",
        "demo/flat-1",
        "demo/free-1",
        "demo/scholar-1",
    ]
    assert (body["total_count"], body["links"]) == (4, {"next": None})
    for model in body["data"]:
        assert model.keys() >= set(MODEL_KEYS)
        assert model["architecture"].keys() >= {"input_modalities", "output_modalities", "modality"}
        assert all(isinstance(price, str) for price in model["pricing"].values())
        assert model["top_provider"]["is_moderated"] is False
        assert isinstance(model["links"]["details"], str)
    prices = {model["id"]: model["pricing"] for model in body["data"]}
    assert (prices["demo/echo-1"]["prompt"], prices["demo/echo-1"]["completion"]) == ("0.00000015", "0.0000006")
    assert prices["demo/flat-1"]["request"] == "0.01"


async def test_models_page_by_offset_and_limit_and_link_to_the_next(api: Api):
    path, seen = "/models?offset=0&limit=3", []
    while path:
        body = (await api.get(path)).json()
        assert body["total_count"] == 4
        seen.append([model["id"] for model in body["data"]])
        path = (body["links"]["next"] or "").removeprefix("/api/v1")
    assert [len(page) for page in seen] == [3, 1]
    beyond = (await api.get("/models?offset=99&limit=3")).json()
    assert (beyond["data"], beyond["total_count"], beyond["links"]) == ([], 4, {"next": None})


async def test_key_describes_both_kinds_with_every_key_a_strict_client_requires(api: Api):
    cast = api.world.cast
    for key, is_management in ((api.key, False), (api.management, True)):
        data = await api.data("/key", key)
        assert set(KEY_KEYS) <= data.keys()
        assert data["label"] == f"{key[:16]}...{key[-4:]}"
        assert data["is_management_key"] is data["is_provisioning_key"] is is_management
        assert (data["organization_id"], data["creator_user_id"]) == (cast.acme.id, cast.admin.id)
        assert data["rate_limit"].keys() == {"interval", "note", "requests"}
        assert data["free_model_daily_requests"].keys() == {"limit", "used", "remaining"}
        assert key not in json.dumps(data)
        assert await api.data("/auth/key", key) == data


async def test_key_tells_what_that_key_spent_and_no_other(api: Api):
    other = await api.world.make_key()
    await api.world.chat(key=other)
    answer = await api.world.chat(model="demo/flat-1")
    assert answer.status == 200
    data = await api.data("/key", api.key)
    assert data["usage"] == data["usage_daily"] == data["usage_weekly"] == data["usage_monthly"] == 0.01
    assert data["is_free_tier"] is False
    _, broke = await api.world.make_pool(0)
    assert (await api.data("/key", broke))["is_free_tier"] is True
    assert (await api.data("/key", broke))["organization_id"] is None


async def test_credits_are_told_to_management_keys_only(api: Api):
    await api.world.chat(model="demo/flat-1")
    assert await api.data("/credits", api.management) == {"total_credits": 10, "total_usage": 0.01}
    error = assert_refused(await api.get("/credits", api.key), 403, "permission_denied")
    assert error["message"].startswith("Only management keys can perform this operation")
    assert_refused(await api.get("/credits"), 401, "authentication")


async def test_credits_are_exact_decimals_not_floats(api: Api):
    await api.world.chat("a question")
    answer = await api.get("/credits", api.management)
    told = json.loads(answer.text, parse_float=Decimal)["data"]["total_usage"]
    assert Decimal(told).scaleb(9) == (await api.world.balance()).spent


@pytest.mark.parametrize("stream", [False, True])
async def test_a_generation_has_all_42_keys_and_the_charge_to_the_nano(api: Api, stream: bool):
    assert len(GENERATION_KEYS) == 42
    answer = await api.world.chat("[[usage:none]]", stream=stream)
    identity = answer.headers["x-generation-id"]
    row = await api.world.generation(identity)
    raw = (await api.get("/generation", api.key, params={"id": identity})).text
    data = json.loads(raw, parse_float=Decimal)["data"]
    assert set(GENERATION_KEYS) <= data.keys()
    assert Decimal(data["usage"]).scaleb(9) == Decimal(data["total_cost"]).scaleb(9) == row.cost_nanos > 0
    assert data["id"] == identity
    assert data["model"] == "demo/echo-1"
    assert (data["streamed"], data["cancelled"], data["is_byok"]) == (stream, False, False)
    assert (data["native_tokens_completion"], data["tokens_completion"]) == (row.completion_tokens,) * 2
    assert (data["api_type"], data["data_region"], data["origin"]) == ("completions", "global", "")
    age = datetime.now(UTC) - datetime.fromisoformat(data["created_at"])
    assert 0 <= age.total_seconds() < 60
    [response] = data["provider_responses"]
    assert response.keys() == {
        "status",
        "endpoint_id",
        "id",
        "is_byok",
        "latency",
        "model_permaslug",
        "provider_name",
    }


async def test_the_receipt_of_a_generation_adds_up_to_its_charge(api: Api):
    answer = await api.world.chat(model="demo/scholar-1")
    row = await api.world.generation(answer.json["id"])
    pricing = api.world.catalog.offers_for("demo/scholar-1")[0].pricing
    assert pricing is not None
    async with api.world.database.begin(SYSTEM) as tx:
        await store_prices(tx, [pricing])
    data = await api.data("/generation/receipt", api.key, params={"id": row.id})
    assert (data["id"], data["usage_source"], data["price_version"]) == (row.id, "reported", pricing.version)
    assert {line["class"]: line["count"] for line in data["lines"]} == {
        "prompt": row.prompt_tokens,
        "completion": row.completion_tokens - row.reasoning_tokens,
        "internal_reasoning": row.reasoning_tokens,
    }
    for line in data["lines"]:
        assert Decimal(line["amount"]) == line["count"] * Decimal(line["price"])
    assert sum(Decimal(line["amount"]) for line in data["lines"]) == Decimal(data["subtotal"])
    assert Decimal(data["subtotal"]) + Decimal(data["rounding"]) - Decimal(data["not_charged"]) == Decimal(
        data["charged"]
    )
    assert Decimal(data["charged"]).scaleb(9) == data["charged_nanos"] == row.cost_nanos


async def test_a_generation_says_what_sounds_and_images_it_took_and_what_caching_saved(api: Api):
    pricing = Pricing(Attos(10**12), Attos(10**12), input_cache_read=Attos(10**11), input_cache_write=Attos(2 * 10**12))
    world = api.world
    async with world.database.begin(SYSTEM) as tx:
        await store_prices(tx, [pricing])
    counts = {"images": 2, "sounds": 1, "media_made": 1, "image_output_tokens": 7, "cached_tokens": 10}
    before = await world.generation((await world.chat()).json["id"])
    tokens = {"prompt_tokens": 50, "completion_tokens": 9, "price_version": pricing.version}
    for written, saved in ((0, 9_000), (20, 9_000 - 20_000)):
        row = msgspec.structs.replace(
            before,
            id=new_generation_id(before.created_at),
            cache_write_tokens=written,
            cost_nanos=0,
            **counts,
            **tokens,
        )
        async with world.database.begin(SYSTEM) as tx:
            await activity.record(tx, row)
        raw = (await api.get("/generation", api.key, params={"id": row.id})).text
        data = json.loads(raw, parse_float=Decimal)["data"]
        assert Decimal(data["cache_discount"]).scaleb(9) == saved
        assert (data["num_media_prompt"], data["num_input_audio_prompt"], data["num_media_completion"]) == (3, 1, 1)
        assert data["native_tokens_completion_images"] == 7
    assert (await api.data("/generation", api.key, params={"id": before.id}))["cache_discount"] is None


async def test_the_providers_id_stands_with_the_one_that_answered_and_names_are_what_people_read(api: Api):
    alpha = provider("alpha")
    upstream = ScriptedUpstream({"alpha": [whole("Hi", usage=usage(1, 1))], "beta": [UpstreamFailed("It is down.")]})
    beta = provider("beta")
    offers = [endpoint(PRIME, alpha, 70, 130), endpoint(PRIME, beta)]
    world = World(
        api.world.database,
        api.world.cast,
        api.world.checker,
        upstream=upstream,
        catalog=Catalog([alpha, beta], [PRIME], offers),
    )
    answer = await world.chat(model="acme/prime", key=api.key)
    data = await api.data("/generation", api.key, params={"id": answer.json["id"]})
    assert data["provider_name"] == answer.json["provider"] == "Alpha"
    assert data["upstream_id"] == "up-1"
    failed, served = data["provider_responses"]
    assert (failed["provider_name"], failed["status"], "id" in failed) == ("Beta", 502, False)
    assert (served["provider_name"], served["status"], served["id"]) == ("Alpha", 200, "up-1")


async def test_a_generation_is_shown_to_any_key_of_its_owner_and_another_owners_is_as_absent(api: Api):
    identity = (await api.world.chat()).json["id"]
    colleague = await api.world.make_key(creator=api.world.cast.member.id)
    for key in (colleague, api.management):
        assert (await api.data("/generation", key, params={"id": identity}))["id"] == identity
    _, stranger = await api.world.make_pool(0)
    theirs = assert_refused(await api.get("/generation", stranger, params={"id": identity}), 404, "not_found")
    receipt = await api.get("/generation/receipt", stranger, params={"id": identity})
    assert assert_refused(receipt, 404, "not_found") == theirs
    none = identity[:-1] + ("0" if identity[-1] != "0" else "1")
    absent = assert_refused(await api.get("/generation", stranger, params={"id": none}), 404, "not_found")
    assert theirs["message"].replace(identity, "X") == absent["message"].replace(none, "X")
    assert theirs["metadata"] == absent["metadata"]


@pytest.mark.parametrize("identity", ["", "x", "gen-", "gen-1", "'; --", "\0", "gen-" + "z" * 26, "\u00fc", "x" * 5000])
async def test_an_id_that_is_none_is_404_however_odd(api: Api, identity: str):
    error = assert_refused(await api.get("/generation", api.key, params={"id": identity}), 404)
    assert len(error["message"]) < 300


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/models?limit=0", "limit"),
        ("/models?limit=-1", "limit"),
        ("/models?limit=100000", "limit"),
        ("/models?limit=ten", "limit"),
        ("/models?offset=-1", "offset"),
        ("/models?offset=1.5", "offset"),
        ("/models?offset=%00", "offset"),
        ("/models?offset=" + "9" * 5000, "offset"),
        ("/generation", "id"),
        ("/generation/receipt", "id"),
    ],
)
async def test_a_bad_query_is_400_and_names_the_parameter(api: Api, path: str, field: str):
    error = assert_refused(await api.get(path, api.key), 400, "invalid_request")
    assert field in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/models/demo", 404),
        ("POST", "/models", 405),
        ("DELETE", "/key", 405),
        ("PUT", "/credits", 405),
        ("PATCH", "/generation", 405),
        ("POST", "/credits/coinbase", 404),
        ("GET", "/%00", 404),
        ("GET", "/..%2f..%2fetc/passwd", 404),
    ],
)
async def test_what_is_not_there_answers_in_our_words(api: Api, method: str, path: str, status: int):
    answer = await api.client.request(method, f"/api/v1{path}", headers={"authorization": f"Bearer {api.key}"})
    error = assert_refused(answer, status)
    assert "openapi.json" in error["metadata"]["remedy_hint"]


@pytest.mark.parametrize(
    "path", ["/key", "/auth/key", "/credits", "/generation?id=gen-1", "/generation/receipt?id=gen-1"]
)
async def test_garbage_keys_are_401_on_every_route_and_never_looked_up(api: Api, path: str):
    for kind, authorization in garbage_headers(api.key).items():
        answer = await api.client.get(f"/api/v1{path}", headers={"authorization": authorization.encode("latin-1")})
        assert answer.status_code == 401, (kind, answer.text)
        assert_refused(answer, 401, "authentication")
    assert_refused(await api.get(path), 401)
    assert api.world.admission.lookups == 0


async def test_a_fault_of_ours_is_a_500_that_says_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("bursar.api._answers.credits_", broken)
    error = assert_refused(await api.get("/credits", api.management), 500)
    assert error["message"] == "Internal Server Error"
    assert "secret detail" in caplog.text


async def test_the_api_describes_itself(api: Api):
    document = (await api.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert {"/api/v1/models", "/api/v1/key", "/api/v1/credits", "/api/v1/generation"} <= document["paths"].keys()
    assert document["paths"]["/api/v1/auth/key"]["get"]["deprecated"] is True
    for path in ("/api/v1/key", "/api/v1/credits"):
        assert "401" in document["paths"][path]["get"]["responses"]


async def test_a_key_that_is_deleted_does_not_describe_itself(api: Api, database: Database):
    from bursar import actions
    from bursar.access import Actor
    from bursar.kernel.secrets import hash_secret
    from bursar.keys import find_by_hash

    async with database.snapshot(SYSTEM) as snapshot:
        found = await find_by_hash(snapshot, hash_secret(api.key))
    assert found is not None
    await api.data("/key", api.key)
    await actions.delete_key(database, Actor.operator(), owner=found.owner, key=found.id)
    assert_refused(await api.get("/key", api.key), 401)
