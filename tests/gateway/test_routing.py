"""The request's `provider` object and `models` list, from the wire to the endpoint that answers."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bursar.catalog import Catalog
from bursar.gateway._health import FAILURES_TO_OPEN
from bursar.gateway._preferences import MaxPrice, read_preferences
from bursar.providers import UpstreamFailed, UpstreamNeedsOperator, UpstreamOverloaded, UpstreamRefused, UpstreamUnable
from tests.gateway.world import PRIME, SECOND, chunk, endpoint, provider, usage, whole

pytestmark = pytest.mark.anyio

GOOD = [whole("fine", usage=usage(5, 2))]
GOOD_STREAM = [chunk("fine"), chunk(finish="stop"), chunk(usage=usage(5, 2))]
METADATA = {"x-openrouter-metadata": "enabled"}


@pytest.mark.parametrize(
    ("wanted", "answered"),
    [
        ({}, "Alpha"),
        ({"order": ["beta"]}, "Beta"),
        ({"only": ["beta"]}, "Beta"),
        ({"ignore": ["alpha"]}, "Beta"),
        ({"order": ["beta", "alpha"], "allow_fallbacks": False}, "Beta"),
        ({"data_collection": "allow", "zdr": False}, "Alpha"),
        ({"sort": None, "quantizations": None}, "Alpha"),
        ({"order": ["BETA"]}, "Beta"),
        ({"order": ["beta/prime-1"]}, "Beta"),
        ({"sort": "price"}, "Alpha"),
        ({"sort": {"by": "price", "partition": "none"}}, "Alpha"),
        ({"max_price": {"prompt": 0.007, "completion": "0.0130"}}, "Alpha"),
        ({"max_price": {"audio": 0.007}}, "Alpha"),
        ({"max_price": {"prompt": 7e-3, "completion": 1, "request": 0, "image": "0.0"}}, "Alpha"),
        ({"require_parameters": True}, "Alpha"),
        ({"quantizations": ["unknown", "fp8"]}, "Alpha"),
        ({"preferred_max_latency": 1.5, "preferred_min_throughput": {"p50": 10, "p90": None}}, "Alpha"),
        ({"options": {}, "enforce_distillable_text": None}, "Alpha"),
    ],
)
async def test_the_provider_object_chooses_the_endpoint(scripted: Callable[..., Any], wanted: Any, answered: str):
    world = await scripted(GOOD, GOOD)
    answer = await world.chat(model="acme/prime", provider=wanted)
    assert answer.status == 200, answer.body
    assert answer.json["provider"] == answered


async def test_without_fallbacks_a_failure_is_the_answer(scripted: Callable[..., Any]):
    world = await scripted([UpstreamFailed("No.")], GOOD)
    assert (await world.chat(model="acme/prime", provider={"allow_fallbacks": False})).status == 502
    assert len(world.upstream.calls) == 1
    await world.only_generation()


@pytest.mark.parametrize(
    ("wanted", "rules"),
    [
        ({"data_collection": "deny"}, {"data_collection"}),
        ({"zdr": True}, {"zdr"}),
        ({"only": []}, {"only"}),
        ({"only": ["alpha/fp8"]}, {"only"}),
        ({"max_price": {"prompt": "0.0069999"}}, {"max_price"}),
        ({"max_price": {"audio": "0.0069999"}}, {"max_price"}),
        ({"max_price": {"completion": 0}}, {"max_price"}),
        ({"quantizations": ["fp8"]}, {"quantizations"}),
        ({"order": ["gamma"], "allow_fallbacks": False}, {"order"}),
        ({"ignore": ["alpha", "beta"]}, {"ignore"}),
    ],
)
async def test_when_preferences_leave_nobody_the_answer_is_404_with_the_reasons(
    scripted: Callable[..., Any], wanted: Any, rules: set[str]
):
    world = await scripted(GOOD, GOOD)
    answer = await world.chat(model="acme/prime", provider=wanted)
    assert answer.status == 404
    excluded = answer.error["metadata"]["excluded_by"]
    assert {each["rule"] for each in excluded} == rules
    assert {each["endpoint"] for each in excluded} == {"acme/prime@alpha/prime-1", "acme/prime@beta/prime-1"}
    assert world.upstream.calls == []
    assert await world.books_are_right() == 0


UNSUPPORTED: list[Any] = [
    {"sort": "exacto"},
    {"sort": ["price"]},
    {"sort": {"by": "price", "than": "latency"}},
    {"sort": {"by": "price", "partition": "all"}},
    {"max_price": 1},
    {"max_price": {"prompt": True}},
    {"max_price": {"prompt": -1}},
    {"max_price": {"prompt": "-0"}},
    {"max_price": {"prompt": "NaN"}},
    {"max_price": {"prompt": "1e400"}},
    {"max_price": {"prompt": "0" * 41}},
    {"max_price": {"prompt": [1]}},
    {"max_price": {"prompt": {}}},
    {"max_price": {"prompt": "cheap"}},
    {"max_price": {"audio": "loud"}},
    {"max_price": {"prompts": 1}},
    {"require_parameters": "true"},
    {"quantizations": ["fp7"]},
    {"quantizations": "fp8"},
    {"quantizations": [["fp8"]]},
    {"preferred_max_latency": "1"},
    {"preferred_max_latency": True},
    {"preferred_max_latency": {"p10": 1}},
    {"preferred_min_throughput": -1},
    {"preferred_min_throughput": 1e300},
    {"order": ["x"] * 101},
    {"options": {"alpha": {"a": 1}}},
    {"enforce_distillable_text": True},
    {"nonsense": 1},
    {"order": "beta"},
    {"order": [1]},
    {"only": {"a": 1}},
    {"zdr": "yes"},
    {"allow_fallbacks": 1},
    {"data_collection": "maybe"},
    {"data_collection": True},
    [],
    "beta",
]


async def test_a_provider_field_that_is_not_supported_is_400_and_never_silently_ignored(scripted: Callable[..., Any]):
    world = await scripted(GOOD, GOOD)
    for wanted in UNSUPPORTED:
        answer = await world.chat(model="acme/prime", provider=wanted)
        assert answer.status == 400, wanted
        assert "provider" in answer.error["message"]
    assert world.upstream.calls == []


async def test_models_are_tried_in_order_and_the_one_that_answers_is_named_and_charged(scripted: Callable[..., Any]):
    world = await scripted([UpstreamFailed("No.")], GOOD)
    answer = await world.chat(model="acme/prime", models=["acme/second"], provider={"ignore": ["gamma"]})
    assert answer.json["model"] == "acme/prime"
    answer = await world.chat(model="acme/nothing", models=["acme/second", "acme/prime"])
    assert answer.status == 200
    assert answer.json["model"] == "acme/second"
    row = await world.generation(answer.json["id"])
    assert (row.requested_model, row.model) == ("acme/nothing", "acme/second")
    await world.books_are_right()


async def test_models_alone_is_enough_and_too_many_are_refused(scripted: Callable[..., Any]):
    world = await scripted(GOOD, GOOD)
    body = {"models": ["acme/prime"], "messages": [{"role": "user", "content": "Hi"}]}
    assert (await world.post(json.dumps(body).encode())).status == 200
    body["models"] = [f"acme/{number}" for number in range(9)]
    assert (await world.post(json.dumps(body).encode())).status == 400


@pytest.mark.parametrize(
    ("written", "attos"),
    [
        ("0.5", 5 * 10**17),
        (0.5, 5 * 10**17),
        (0.1, 10**17),
        (1, 10**18),
        ("1E-18", 1),
        ("1.9E-18", 1),
        (1.4285714285714286e-05, 14_285_714_285_714),
        ("1000000000", 10**27),
        (0.0, 0),
        ("0.1234567890123456789", 123_456_789_012_345_678),
    ],
)
def test_a_price_is_read_exactly_whether_it_is_a_number_or_a_text(written: Any, attos: int):
    found = read_preferences({"max_price": {"prompt": written}}).max_price
    assert found == MaxPrice(prompt=attos)


def test_speeds_are_read_in_seconds_and_tokens_per_second_the_lowest_percentile_counts():
    found = read_preferences({"preferred_max_latency": {"p99": 9, "p75": 0.25}, "preferred_min_throughput": 50})
    assert (found.max_latency_micros, found.min_throughput_millis) == (250_000, 50_000)


@pytest.mark.parametrize(("variant", "status"), [("nitro", 200), ("floor", 200), ("free", 404), ("online", 400)])
async def test_variants_on_the_models_id(scripted: Callable[..., Any], variant: str, status: int):
    world = await scripted(GOOD, GOOD)
    answer = await world.chat(model=f"acme/prime:{variant}")
    assert answer.status == status
    if status == 200:
        row = await world.only_generation()
        assert (row.requested_model, row.model) == (f"acme/prime:{variant}", "acme/prime")
    else:
        assert world.upstream.calls == []
        assert await world.books_are_right() == 0


# What a refusal says.


@pytest.mark.parametrize(
    ("wanted", "code", "excluded_by"),
    [
        ({"data_collection": "deny"}, "privacy_restricted", ["data_policy:training"]),
        ({"zdr": True}, "privacy_restricted", ["data_policy:zdr"]),
        ({"only": ["gamma"]}, "constraint_filtered", ["allowed_providers"]),
        ({"zdr": True, "ignore": ["beta"]}, "constraint_filtered", ["data_policy:zdr", "allowed_providers"]),
        ({"max_price": {"prompt": "0"}}, "constraint_filtered", ["max_price"]),
        ({"quantizations": ["int4"]}, "constraint_filtered", ["quantization"]),
        ({"require_parameters": True}, "constraint_filtered", ["require_parameters"]),
    ],
)
async def test_a_404_says_in_openrouters_words_what_left_nobody(
    scripted: Callable[..., Any], wanted: Any, code: str, excluded_by: list[str]
):
    world = await scripted(GOOD, GOOD)
    answer = await world.chat(model="acme/prime", provider=wanted, logprobs=True)
    assert answer.status == 404
    availability = answer.error["availability"]
    assert availability == {
        "code": code,
        "retryable": False,
        "requested_models": ["acme/prime"],
        "excluded_by": excluded_by,
    }
    assert answer.error["metadata"]["error_type"] == "not_found"
    assert answer.error["metadata"]["remedy_hint"]


async def test_a_model_that_nobody_serves_is_404_without_endpoints(scripted: Callable[..., Any]):
    world = await scripted(GOOD, GOOD, catalog=Catalog([], [PRIME], []))
    answer = await world.chat(model="acme/prime")
    assert (answer.status, answer.error["availability"]["code"]) == (404, "no_endpoints")


async def test_a_prompt_that_fits_nowhere_is_404_for_its_context_length(scripted: Callable[..., Any]):
    world = await scripted(GOOD, GOOD)
    answer = await world.chat("x" * (8 * 32_768 + 8), model="acme/prime")
    assert answer.status == 404
    assert answer.error["availability"]["excluded_by"] == ["context_length"]
    # 32,768 tokens of 8 bytes could just fit.
    assert (await world.chat("x" * (8 * 32_768), model="acme/prime")).status == 200


async def test_when_all_failed_the_last_error_is_told_with_those_before_it(scripted: Callable[..., Any]):
    world = await scripted(
        [UpstreamFailed("A.", provider_code="500")],
        [UpstreamOverloaded("B.", provider_code="529", retry_after_seconds=7)],
    )
    answer = await world.chat(model="acme/prime")
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    metadata = answer.error["metadata"]
    assert (metadata["provider_name"], metadata["provider_code"]) == ("Beta", "529")
    assert metadata["previous_errors"] == [{"provider": "Alpha", "code": "500", "status": 502}]


async def test_a_provider_that_asks_for_an_hour_is_told_as_at_most_thirty_seconds(scripted: Callable[..., Any]):
    world = await scripted([UpstreamOverloaded("A.", retry_after_seconds=3600)])
    answer = await world.chat(model="acme/prime", provider={"only": ["alpha"]})
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")


async def test_what_needs_the_operator_is_404_and_nothing_a_client_should_retry(scripted: Callable[..., Any]):
    world = await scripted(
        [UpstreamNeedsOperator("It refused.", provider_code="401", remedy="The operator has to act.")]
    )
    answer = await world.chat(model="acme/prime", provider={"only": ["alpha"]})
    assert answer.status == 404
    assert "retry-after" not in answer.headers
    assert answer.error["availability"] == {"code": "model_unavailable_upstream", "retryable": False}
    assert answer.error["metadata"]["remedy_hint"] == "The operator has to act."
    row = await world.only_generation()
    assert (row.cost_nanos, row.error_status) == (0, 404)


async def test_what_needs_the_operator_gives_way_to_what_passes_by_itself(scripted: Callable[..., Any]):
    operator = [UpstreamNeedsOperator("It refused.", provider_code="401")]
    passing = [UpstreamOverloaded("Later.", provider_code="429", retry_after_seconds=3)]
    for steps in ((operator, passing), (passing, operator)):
        world = await scripted(*steps)
        answer = await world.chat(model="acme/prime")
        assert answer.status == 503
        [earlier] = answer.error["metadata"]["previous_errors"]
        assert (earlier["code"], earlier["status"]) == ("401", 404)


async def test_a_request_at_fault_moves_on_to_the_next_model_but_not_to_the_next_endpoint(scripted: Callable[..., Any]):
    alpha, beta = provider("alpha"), provider("beta")
    catalog = Catalog(
        [alpha, beta], [PRIME, SECOND], [endpoint(PRIME, alpha), endpoint(PRIME, alpha, 9, 9), endpoint(SECOND, beta)]
    )
    world = await scripted([UpstreamRefused("The prompt is too long.")], GOOD, catalog=catalog)
    answer = await world.chat(models=["acme/prime", "acme/second"], model="acme/prime")
    assert (answer.status, answer.json["model"]) == (200, "acme/second")
    assert [call.base_url for call in world.upstream.calls] == ["alpha", "beta"]
    alone = await world.chat(model="acme/prime")
    assert (alone.status, len(world.upstream.calls)) == (400, 3)
    assert "previous_errors" not in alone.error["metadata"]


async def test_an_endpoint_whose_protocol_cannot_say_it_is_followed_by_the_next(scripted: Callable[..., Any]):
    world = await scripted([UpstreamUnable("It has no logprobs.")], GOOD)
    for _ in range(2 * FAILURES_TO_OPEN):
        answer = await world.chat(model="acme/prime")
        assert (answer.status, answer.json["provider"]) == (200, "Beta")
    assert [call.base_url for call in world.upstream.calls[-2:]] == ["alpha", "beta"], "it is not ill for that"


# Health, from request to request.


async def test_an_endpoint_with_an_outage_is_no_longer_tried_first(scripted: Callable[..., Any]):
    world = await scripted([UpstreamFailed("No.")], GOOD)
    for _ in range(4):
        assert (await world.chat(model="acme/prime")).json["provider"] == "Beta"
    assert [call.base_url for call in world.upstream.calls] == ["alpha", "beta"] * 3 + ["beta"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_open_circuit_is_503_with_seconds_to_wait_without_a_call_or_a_hold(
    scripted: Callable[..., Any], stream: bool
):
    world = await scripted([UpstreamFailed("No.")])
    only: dict[str, Any] = {"model": "acme/prime", "provider": {"only": ["alpha"]}, "stream": stream}
    for _ in range(FAILURES_TO_OPEN):
        assert (await world.chat(**only)).status == 502
    answer = await world.chat(**only)
    assert answer.status == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert answer.error["availability"]["code"] == "temporarily_unavailable"
    assert answer.error["availability"]["retryable"] is True
    assert {each["rule"] for each in answer.error["metadata"]["excluded_by"]} == {"only", "circuit_open"}
    assert len(world.upstream.calls) == FAILURES_TO_OPEN
    assert len(await world.generations()) == FAILURES_TO_OPEN, "nothing was dispatched, so there is no row"
    assert (await world.chat(model="acme/second", stream=stream)).status != 503, "others are not concerned"
    await world.books_are_right()


async def test_a_refused_credential_stays_404_when_its_circuit_is_open(scripted: Callable[..., Any]):
    world = await scripted([UpstreamNeedsOperator("It refused.")])
    for _ in range(FAILURES_TO_OPEN + 1):
        answer = await world.chat(model="acme/prime", provider={"only": ["alpha"]})
        assert answer.status == 404
        assert answer.error["availability"]["code"] == "model_unavailable_upstream"
    assert len(world.upstream.calls) == FAILURES_TO_OPEN


async def test_requests_at_fault_never_open_a_circuit(scripted: Callable[..., Any]):
    world = await scripted([UpstreamRefused("No.")])
    for _ in range(2 * FAILURES_TO_OPEN):
        assert (await world.chat(model="acme/prime")).status == 400
    assert len(world.upstream.calls) == 2 * FAILURES_TO_OPEN


async def test_a_circuit_that_opens_between_plan_and_call_is_refused_as_well(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    world = await scripted(GOOD, GOOD)
    monkeypatch.setattr(world.health, "claim", lambda endpoint_id: "alpha" not in endpoint_id)
    assert (await world.chat(model="acme/prime")).json["provider"] == "Beta"
    monkeypatch.setattr(world.health, "claim", lambda _endpoint_id: False)
    for stream in (False, True):
        answer = await world.chat(model="acme/prime", stream=stream)
        assert answer.status == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 30
    rows = await world.generations()
    assert [(row.error_status, row.cost_nanos, json.loads(row.attempts)) for row in rows[1:]] == [(503, 0, [])] * 2
    await world.books_are_right()


async def test_an_outage_of_everybody_is_not_multiplied_by_second_tries(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bursar.gateway._health.FAILURES_TO_OPEN", 10**6)
    monkeypatch.setattr("bursar.gateway._health.BUDGET_FLOOR", 2)
    world = await scripted([UpstreamFailed("No.")], [UpstreamFailed("No.")])
    for _ in range(20):
        assert (await world.chat(model="acme/prime")).status == 502
    assert 20 < len(world.upstream.calls) <= 20 + 20 * 20 // 100


async def test_a_stream_cut_off_after_output_counts_against_its_endpoint_and_shows_in_its_attempt(
    scripted: Callable[..., Any],
):
    world = await scripted([chunk("one"), UpstreamFailed("It broke.", before_output=False)], GOOD_STREAM)
    for _ in range(3):
        await world.chat(model="acme/prime", stream=True)
    row, *_ = await world.generations()
    [attempt] = json.loads(row.attempts)
    assert (attempt["status"], attempt["error"]) == (502, "It broke.")
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.chunks[0]["provider"] == "Beta", "three of six is an outage"


async def test_speeds_are_measured_and_nitro_goes_where_it_is_quick(scripted: Callable[..., Any]):
    world = await scripted(GOOD_STREAM, GOOD_STREAM)
    world.health.measured("acme/prime@beta/prime-1", 10**9, 0.001)
    answer = await world.chat(model="acme/prime:nitro", stream=True)
    assert answer.chunks[0]["provider"] == "Beta"
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.chunks[0]["provider"] == "Alpha"
    found = world.health.look()("acme/prime@alpha/prime-1")
    assert found.throughput_millis is not None
    assert found.latency_micros is not None


# Sessions.


@pytest.mark.parametrize("by_header", [False, True])
async def test_a_session_goes_back_to_where_its_prompt_cache_is_warm(scripted: Callable[..., Any], by_header: bool):
    world = await scripted(GOOD, GOOD)

    async def ask(session: str | None, **more: Any) -> str:
        body = {"model": "acme/prime", "messages": [{"role": "user", "content": "Hi"}], **more}
        if session is not None and not by_header:
            body["session_id"] = session
        headers = {"x-session-id": session} if session is not None and by_header else {}
        answer = await world.post(json.dumps(body).encode(), headers=headers)
        return str(answer.json["provider"])

    assert await ask("s", provider={"only": ["beta"]}) == "Beta"
    assert await ask("s") == "Beta"
    assert await ask("other") == "Alpha"
    assert await ask(None) == "Alpha"
    assert await ask("s", provider={"order": ["alpha"]}) == "Alpha"
    assert await ask("s") == "Alpha", "and now it is warm there"
    for _ in range(4):
        world.health.failed("acme/prime@alpha/prime-1")
    assert await ask("s") == "Beta"


async def test_sessions_of_two_owners_are_two_even_if_they_have_one_name(scripted: Callable[..., Any]):
    world = await scripted(GOOD, GOOD)
    _, other = await world.make_pool(10**9)
    await world.chat(model="acme/prime", session_id="s", provider={"only": ["beta"]})
    assert (await world.chat(model="acme/prime", session_id="s")).json["provider"] == "Beta"
    assert (await world.chat(model="acme/prime", session_id="s", key=other)).json["provider"] == "Alpha"


# Router metadata.


@pytest.mark.parametrize("stream", [False, True])
async def test_router_metadata_comes_on_request_only(scripted: Callable[..., Any], stream: bool):
    world = await scripted([UpstreamFailed("No.")], GOOD_STREAM if stream else GOOD)
    body = {"model": "acme/prime", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}

    async def last(headers: dict[str, str]) -> dict[str, Any]:
        answer = await world.post(json.dumps(body).encode(), headers=headers)
        assert answer.status == 200
        if not stream:
            return dict(answer.json)
        assert not any("openrouter_metadata" in each for each in answer.chunks[:-1])
        return dict(answer.chunks[-1])

    assert "openrouter_metadata" not in await last({})
    assert "openrouter_metadata" not in await last({"x-openrouter-metadata": "no"})
    found = (await last(METADATA))["openrouter_metadata"]
    assert found["attempts"] == [
        {"provider": "Alpha", "model": "acme/prime", "status": 502},
        {"provider": "Beta", "model": "acme/prime", "status": 200},
    ]
    assert (found["requested"], found["attempt"], found["is_byok"], found["region"]) == ("acme/prime", 2, False, None)
    assert found["strategy"] == "direct"
    assert found["summary"]
    assert found["endpoints"] == {
        "total": 2,
        "available": [
            {"provider": "Alpha", "model": "acme/prime", "selected": False},
            {"provider": "Beta", "model": "acme/prime", "selected": True},
        ],
        "excluded": [],
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_carry_router_metadata_too(scripted: Callable[..., Any], stream: bool):
    world = await scripted([UpstreamFailed("No.")], GOOD)

    async def refused(**more: Any) -> dict[str, Any]:
        body = {"model": "acme/prime", "messages": [{"role": "user", "content": "Hi"}], "stream": stream, **more}
        answer = await world.post(json.dumps(body).encode(), headers=METADATA)
        assert answer.error
        return dict(answer.json["openrouter_metadata"])

    tried = await refused(provider={"only": ["alpha"]})
    assert [each["status"] for each in tried["attempts"]] == [502]
    assert tried["endpoints"]["excluded"] == [{"endpoint": "acme/prime@beta/prime-1", "rule": "only"}]
    nobody = await refused(provider={"zdr": True})
    assert nobody["attempts"] == nobody["endpoints"]["available"] == []
    assert {each["rule"] for each in nobody["endpoints"]["excluded"]} == {"zdr"}
    assert "openrouter_metadata" not in (await world.chat(model="acme/prime", provider={"zdr": True})).json
