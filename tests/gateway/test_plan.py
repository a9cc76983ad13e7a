"""Stop 3, pure: which endpoints are tried, in which order, and why the others are not."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.catalog import QUANTIZATIONS, Catalog, Endpoint, Model
from bursar.gateway import EndpointsResting, NoEndpoints, UnknownModel
from bursar.gateway._order import HEALTHY, Condition, Surroundings
from bursar.gateway._preferences import MaxPrice
from bursar.gateway.plan import (
    ATTEMPTS_MAX,
    STREAM_TOKENS,
    VARIANTS,
    WHOLE_ANSWER_TOKENS,
    Demand,
    Plan,
    Preferences,
    affordable_tokens,
    make_plan,
    price_bound,
)
from bursar.kernel.money import Attos
from tests.gateway.world import NANO, PRIME, SECOND, endpoint, provider

ALPHA = provider("alpha", training=False, retention_days=0)
BETA = provider("beta", training=True, retention_days=30)
GAMMA = provider("gamma", training=False, retention_days=None)


def unpriced(model: Model, at: Any) -> Endpoint:
    return Endpoint(f"{model.id}@{at.slug}/x", model, at, "x", None, model.context_length, model.max_completion_tokens)


CATALOG = Catalog(
    [ALPHA, BETA, GAMMA],
    [PRIME, SECOND, Model("acme/poor", "Poor")],
    [
        endpoint(PRIME, GAMMA, 700, 1300),
        endpoint(PRIME, ALPHA),
        endpoint(PRIME, BETA, 70, 130),
        endpoint(SECOND, BETA),
        unpriced(Model("acme/poor", "Poor"), ALPHA),
    ],
)


def demand(*models: str, **more: Any) -> Demand:
    preferences = {name: more.pop(name) for name in list(more) if name in Preferences.__dataclass_fields__}
    return Demand(
        models=models or ("acme/prime",),
        prompt_tokens=more.get("prompt_tokens", 100),
        images=more.get("images", 0),
        max_tokens=more.get("max_tokens"),
        choices=more.get("choices", 1),
        stream=more.get("stream", False),
        preferences=Preferences(**preferences),
        parameters=frozenset(more.get("parameters", ())),
        prompt_tokens_least=more.get("prompt_tokens_least", 0),
        reasoning_tokens=more.get("reasoning_tokens", 0),
    )


def around(draw: float = 0.0, favourites: tuple[str, ...] = (), **conditions: Condition) -> Surroundings:
    """Conditions by the provider's slug."""

    def health(endpoint_id: str) -> Condition:
        return conditions.get(endpoint_id.split("@")[1].split("/", maxsplit=1)[0], HEALTHY)

    return Surroundings(health, draw, favourites)


def tried(*models: str, catalog: Catalog | None = None, near: Surroundings | None = None, **more: Any) -> list[str]:
    plan = make_plan(demand(*models, **more), catalog or CATALOG, near or around())
    return [attempt.endpoint.provider.slug for attempt in plan.attempts]


def rules(
    *models: str, catalog: Catalog | None = None, near: Surroundings | None = None, **more: Any
) -> dict[str, str]:
    """Who was refused by which rule."""
    try:
        refusals = make_plan(demand(*models, **more), catalog or CATALOG, near or around()).refusals
    except (NoEndpoints, EndpointsResting) as refused:
        refusals = tuple(refused.reasons)
    return {each.endpoint.split("@")[1].split("/")[0]: each.rule for each in refusals}


def test_the_cheapest_is_tried_first():
    assert tried() == ["alpha", "beta", "gamma"]


def test_provider_order_comes_before_price_and_the_rest_follows():
    assert tried(order=("gamma",)) == ["gamma", "alpha", "beta"]
    assert tried(order=("beta", "gamma")) == ["beta", "gamma", "alpha"]


def test_without_fallbacks_only_one_endpoint_is_tried():
    assert tried(allow_fallbacks=False) == ["alpha"]
    assert tried(order=("beta", "gamma"), allow_fallbacks=False) == ["beta"]


def test_without_fallbacks_an_order_that_names_nobody_leaves_nobody():
    with pytest.raises(NoEndpoints) as refused:
        tried(order=("delta",), allow_fallbacks=False)
    assert {reason.rule for reason in refused.value.reasons} == {"order"}


def test_provider_only_and_ignore_narrow_the_choice():
    assert tried(only=("beta", "gamma")) == ["beta", "gamma"]
    assert tried(ignore=("alpha",)) == ["beta", "gamma"]
    assert tried(only=("alpha", "beta"), ignore=("alpha",)) == ["beta"]


def test_an_empty_only_allows_nobody():
    with pytest.raises(NoEndpoints):
        tried(only=())


def test_data_collection_deny_excludes_those_that_may_train():
    assert tried(no_training=True) == ["alpha", "gamma"]


def test_zero_data_retention_excludes_those_that_may_retain_and_those_that_do_not_say():
    assert tried(no_retention=True) == ["alpha"]


def test_every_refused_endpoint_keeps_its_reason():
    plan = make_plan(demand(no_retention=True), CATALOG)
    assert [(refusal.endpoint, refusal.rule) for refusal in plan.refusals] == [
        ("acme/prime@beta/prime-1", "zdr"),
        ("acme/prime@gamma/prime-1", "zdr"),
    ]
    with pytest.raises(NoEndpoints) as refused:
        make_plan(demand(no_retention=True, ignore=("alpha",)), CATALOG)
    assert [(reason.endpoint.split("@")[1], reason.rule) for reason in refused.value.reasons] == [
        ("alpha/prime-1", "ignore"),
        ("beta/prime-1", "zdr"),
        ("gamma/prime-1", "zdr"),
    ]
    assert refused.value.status == 404
    assert "Alpha is in provider.ignore." in refused.value.sentence


def test_more_max_tokens_than_an_endpoint_writes_excludes_it():
    with pytest.raises(NoEndpoints) as refused:
        tried(max_tokens=4097)
    assert {reason.rule for reason in refused.value.reasons} == {"max_tokens"}
    assert tried(max_tokens=4096) == ["alpha", "beta", "gamma"]


def test_a_model_without_a_price_is_refused_until_it_has_one():
    with pytest.raises(NoEndpoints) as refused:
        tried("acme/poor")
    assert [reason.rule for reason in refused.value.reasons] == ["no_price"]


def test_an_unknown_model_is_400_with_what_may_have_been_meant():
    with pytest.raises(UnknownModel) as refused:
        tried("acme/prim")
    assert refused.value.status == 400
    assert refused.value.sentence == "acme/prim is not a valid model ID."
    assert refused.value.remedy is not None
    assert refused.value.remedy.startswith("Did you mean acme/prime")
    with pytest.raises(UnknownModel):
        tried("zzzz", "yyyy")


def test_fallback_models_come_after_the_first_and_unknown_ones_are_passed_over():
    plan = make_plan(demand("acme/second", "acme/nothing", "acme/prime"), CATALOG)
    assert [attempt.endpoint.id for attempt in plan.attempts] == [
        "acme/second@beta/prime-1",
        "acme/prime@alpha/prime-1",
        "acme/prime@beta/prime-1",
        "acme/prime@gamma/prime-1",
    ]
    assert [refusal.rule for refusal in plan.refusals] == ["model"]


def test_the_ceiling_is_what_the_dearest_attempt_can_cost():
    assert make_plan(demand(max_tokens=10), CATALOG).ceiling == 100 * 700 + 10 * 1300
    assert make_plan(demand(max_tokens=10, only=("alpha",)), CATALOG).ceiling == 100 * 7 + 10 * 13
    assert make_plan(demand(max_tokens=10, choices=3, only=("alpha",)), CATALOG).ceiling == 100 * 7 + 30 * 13


def test_without_max_tokens_a_hold_covers_a_named_number_of_tokens_and_never_more_than_the_endpoint_writes():
    def covered(**more: Any) -> int:
        return make_plan(demand("acme/second", **more), CATALOG).attempts[0].completion_tokens

    assert covered(stream=True) == STREAM_TOKENS
    assert covered() == 4096 < WHOLE_ANSWER_TOKENS
    assert covered(max_tokens=7, choices=2) == 14
    assert covered(stream=True, reasoning_tokens=2_000) == STREAM_TOKENS + 2_000
    assert covered(stream=True, reasoning_tokens=9_000) == 4096
    assert covered(max_tokens=7, reasoning_tokens=2_000) == 7


def test_a_prompt_is_never_held_for_beyond_the_context():
    plan = make_plan(demand(prompt_tokens=10**9, only=("alpha",), max_tokens=1), CATALOG)
    assert plan.ceiling == 32_768 * 7 + 13


def test_attempts_are_limited_by_a_named_number():
    many = Catalog([], [PRIME], [endpoint(PRIME, provider(f"p{number:02}")) for number in range(20)])
    assert len(make_plan(demand(), many).attempts) == ATTEMPTS_MAX


@pytest.mark.parametrize("available", [0, 699, 700, 713, 1000, 10**6])
def test_what_can_be_afforded_fits_and_one_token_more_does_not(available: int):
    plan = make_plan(demand(only=("alpha",), max_tokens=4000), CATALOG)
    tokens = affordable_tokens(plan, available)
    [attempt] = plan.attempts
    if tokens:
        assert price_bound(attempt, 100, tokens, 0) <= available
    assert price_bound(attempt, 100, tokens + 1, 0) > available


# Slugs and variants of providers.

ROUNDED = Catalog(
    [],
    [PRIME],
    [
        replace(endpoint(PRIME, ALPHA, 1, 1), id="acme/prime@alpha/a", upstream_model="org/a", quantization="fp8"),
        replace(endpoint(PRIME, ALPHA, 2, 2), id="acme/prime@alpha/b", upstream_model="org/b", quantization="bf16"),
        endpoint(PRIME, provider("alphabet"), 3, 3),
    ],
)


def ids(**more: Any) -> list[str]:
    return [attempt.endpoint.id.split("@")[1] for attempt in make_plan(demand(**more), ROUNDED, around()).attempts]


def test_a_slug_names_a_provider_or_one_of_its_variants_and_never_a_longer_name():
    assert ids(only=("alpha",)) == ["alpha/a", "alpha/b"]
    assert ids(only=("alpha/bf16",)) == ["alpha/b"]
    assert ids(only=("alpha/org/a",)) == ["alpha/a"]
    assert ids(only=("alpha/org",)) == ["alpha/a", "alpha/b"]
    assert ids(ignore=("alpha/fp8",)) == ["alpha/b", "alphabet/prime-1"]
    assert ids(order=("alphabet", "alpha/bf16")) == ["alphabet/prime-1", "alpha/b", "alpha/a"]
    with pytest.raises(NoEndpoints):
        ids(only=("alpha/or", "alph", "alpha/", "alpha-fp8"))


def test_quantizations_narrow_the_choice_and_what_is_not_known_counts_as_unknown():
    assert ids(quantizations=frozenset(["bf16"])) == ["alpha/b"]
    assert ids(quantizations=frozenset(["fp8", "unknown"])) == ["alpha/a", "alphabet/prime-1"]
    assert rules(catalog=ROUNDED, quantizations=frozenset(["fp8"])) == {
        "alpha": "quantizations",
        "alphabet": "quantizations",
    }


def test_whoever_would_come_too_late_is_refused_with_the_reason():
    assert rules(allow_fallbacks=False) == {"beta": "allow_fallbacks", "gamma": "allow_fallbacks"}
    many = Catalog([], [PRIME], [endpoint(PRIME, provider(f"p{number:02}")) for number in range(ATTEMPTS_MAX + 2)])
    assert rules(catalog=many) == {"p06": "attempts_max", "p07": "attempts_max"}


# Prices.


def test_a_ceiling_on_prices_is_exact_to_the_last_atto():
    seven_nanos_per_token = 7 * NANO * 1_000_000
    assert tried(max_price=MaxPrice(prompt=seven_nanos_per_token)) == ["alpha"]
    with pytest.raises(NoEndpoints) as refused:
        tried(max_price=MaxPrice(prompt=seven_nanos_per_token - 1))
    assert {reason.rule for reason in refused.value.reasons} == {"max_price"}
    assert tried(max_price=MaxPrice(completion=130 * NANO * 1_000_000)) == ["alpha", "beta"]
    assert tried(max_price=MaxPrice(request=0, image=0)) == ["alpha", "beta", "gamma"]


def test_a_price_per_request_and_per_image_has_a_ceiling_of_its_own():
    dear = endpoint(PRIME, ALPHA, 1, 1, request=5)
    assert dear.pricing is not None
    shown = replace(dear, pricing=replace(dear.pricing, image=Attos(9 * NANO)))
    catalog = Catalog([], [PRIME], [shown])
    assert tried(catalog=catalog, max_price=MaxPrice(request=5 * NANO, image=9 * NANO)) == ["alpha"]
    assert rules(catalog=catalog, max_price=MaxPrice(request=5 * NANO - 1)) == {"alpha": "max_price"}
    assert rules(catalog=catalog, max_price=MaxPrice(image=9 * NANO - 1)) == {"alpha": "max_price"}


# Parameters and context.

PLAIN = replace(SECOND, supported_parameters=("temperature", "max_tokens", "reasoning"))


def test_required_parameters_exclude_endpoints_whose_model_does_not_know_them():
    catalog = Catalog([], [PLAIN], [endpoint(PLAIN, ALPHA)])
    known = frozenset(["temperature", "max_completion_tokens", "reasoning_effort"])
    assert tried("acme/second", catalog=catalog, parameters=known, require_parameters=True) == ["alpha"]
    more = known | {"tools", "logprobs"}
    assert tried("acme/second", catalog=catalog, parameters=more) == ["alpha"], "not required"
    with pytest.raises(NoEndpoints) as refused:
        tried("acme/second", catalog=catalog, parameters=more, require_parameters=True)
    [reason] = refused.value.reasons
    assert (reason.rule, reason.sentence) == ("require_parameters", "Alpha does not support logprobs, tools.")


def test_tools_prefer_models_that_know_them_where_models_are_one_pool():
    poor, rich = endpoint(PLAIN, ALPHA, 1, 1), endpoint(PRIME, BETA, 70, 130)
    catalog = Catalog([], [PLAIN, PRIME], [poor, rich])
    pool: dict[str, Any] = {"catalog": catalog, "sort": "price", "partition": "none"}
    assert tried("acme/second", "acme/prime", **pool) == ["alpha", "beta"]
    assert tried("acme/second", "acme/prime", **pool, parameters=["tools"]) == ["beta", "alpha"]
    assert tried("acme/second", "acme/prime", **pool, parameters=["seed"]) == ["alpha", "beta"], (
        "no such parameter counts"
    )


def test_a_prompt_that_cannot_fit_excludes_an_endpoint():
    small = replace(endpoint(PRIME, ALPHA, 1, 1), context_length=1000)
    catalog = Catalog([], [PRIME], [small, endpoint(PRIME, BETA)])
    assert tried(catalog=catalog, prompt_tokens_least=1000) == ["alpha", "beta"]
    assert tried(catalog=catalog, prompt_tokens_least=1001) == ["beta"]
    assert rules(catalog=catalog, prompt_tokens_least=1001) == {"alpha": "context_length"}


# Variants and sorting.


def test_variants_sort_and_filter():
    free = Catalog([], [PRIME], [endpoint(PRIME, ALPHA, 0, 0), endpoint(PRIME, BETA, 0, 1), endpoint(PRIME, GAMMA)])
    assert tried("acme/prime:free", catalog=free) == ["alpha"]
    assert rules("acme/prime:free", catalog=free) == {"beta": "free", "gamma": "free"}
    quick = around(0.99999, alpha=Condition(throughput_millis=10), gamma=Condition(throughput_millis=20))
    assert tried("acme/prime:nitro", near=quick) == ["gamma", "alpha", "beta"]
    assert tried("acme/prime:floor", near=quick) == ["alpha", "beta", "gamma"]
    assert tried(near=quick)[0] == "gamma", "without a variant the draw decides"
    assert make_plan(demand("acme/prime:floor"), CATALOG).model == "acme/prime:floor"


def test_a_variant_that_is_not_there_is_400_unless_the_catalogue_has_that_very_id():
    for name in ("acme/prime:online", "acme/prime:", "acme/nothing:free", "acme/prime:FREE"):
        with pytest.raises(UnknownModel):
            tried(name)
    with pytest.raises(UnknownModel) as refused:
        tried("acme/prime:online")
    assert refused.value.remedy is not None
    assert all(f"acme/prime:{variant}" in refused.value.remedy for variant in VARIANTS)
    online = Model("acme/prime:free", "An id of its own")
    assert tried("acme/prime:free", catalog=Catalog([], [PRIME, online], [endpoint(online, BETA, 5, 5)])) == ["beta"]


def test_a_model_under_two_names_is_tried_once_and_refused_by_none():
    plan = make_plan(demand("acme/prime:free", "acme/prime"), CATALOG)
    assert [attempt.endpoint.provider.slug for attempt in plan.attempts] == ["alpha", "beta", "gamma"]
    assert plan.refusals == ()


def test_sorting_by_speed_puts_what_was_never_measured_last():
    near = around(
        beta=Condition(latency_micros=5, throughput_millis=5), gamma=Condition(latency_micros=4, throughput_millis=9)
    )
    assert tried(sort="latency", near=near) == ["gamma", "beta", "alpha"]
    assert tried(sort="throughput", near=near) == ["gamma", "beta", "alpha"]
    assert tried(sort="price", near=near) == ["alpha", "beta", "gamma"]


def test_models_are_sorted_one_by_one_unless_they_are_one_pool():
    near = around(
        alpha=Condition(latency_micros=1), beta=Condition(latency_micros=2), gamma=Condition(latency_micros=3)
    )
    both = ("acme/second", "acme/prime")
    assert tried(*both, sort="latency", near=near) == ["beta", "alpha", "beta", "gamma"]
    assert tried(*both, sort="latency", partition="none", near=near) == ["alpha", "beta", "beta", "gamma"]


def test_preferred_speeds_put_back_those_that_are_known_to_miss_them():
    near = around(alpha=Condition(latency_micros=2_000_000, throughput_millis=1_000))
    assert tried(max_latency_micros=1_999_999, near=near) == ["beta", "gamma", "alpha"]
    assert tried(max_latency_micros=2_000_000, near=near) == ["alpha", "beta", "gamma"]
    assert tried(min_throughput_millis=1_001, near=near) == ["beta", "gamma", "alpha"]
    assert tried(min_throughput_millis=1_000, near=near) == ["alpha", "beta", "gamma"]


# Health.

ILL = Condition(has_outage=True)
OPEN = Condition(has_outage=True, is_open=True, retry_after_seconds=9)


def test_endpoints_with_an_outage_come_last_and_are_still_tried():
    assert tried(near=around(alpha=ILL)) == ["beta", "gamma", "alpha"]
    assert tried(near=around(alpha=ILL, beta=ILL, gamma=ILL)) == ["alpha", "beta", "gamma"]
    assert tried(sort="price", near=around(alpha=ILL)) == ["beta", "gamma", "alpha"]
    assert tried(order=("alpha",), near=around(alpha=ILL)) == ["alpha", "beta", "gamma"], "an order is an order"


def test_an_open_circuit_refuses_and_when_nobody_else_is_left_says_when_to_come_back():
    assert tried(near=around(alpha=OPEN)) == ["beta", "gamma"]
    assert rules(near=around(alpha=OPEN)) == {"alpha": "circuit_open"}
    sooner = msgspec.structs.replace(OPEN, retry_after_seconds=4)
    with pytest.raises(EndpointsResting) as refused:
        tried(near=around(alpha=OPEN, beta=sooner), ignore=("gamma",))
    assert (refused.value.status, refused.value.retry_after_seconds) == (503, 4)
    assert rules(near=around(alpha=OPEN, beta=sooner), ignore=("gamma",)) == {
        "alpha": "circuit_open",
        "beta": "circuit_open",
        "gamma": "ignore",
    }


def test_what_only_the_operator_can_put_right_is_404_and_not_a_matter_of_waiting():
    broken = msgspec.structs.replace(OPEN, needs_person=True)
    with pytest.raises(NoEndpoints) as refused:
        tried(only=("alpha",), near=around(alpha=broken))
    assert refused.value.status == 404
    assert {reason.rule for reason in refused.value.reasons} == {"only", "needs_operator"}
    with pytest.raises(EndpointsResting):
        tried(near=around(alpha=broken, beta=OPEN, gamma=broken))


def test_a_session_stays_where_its_cache_is_warm_while_that_is_healthy_and_no_order_is_given():
    warm = ("acme/prime@gamma/prime-1",)
    assert tried(near=around(favourites=warm)) == ["gamma", "alpha", "beta"]
    assert tried(sort="price", near=around(favourites=warm)) == ["gamma", "alpha", "beta"]
    assert tried(near=around(favourites=warm, gamma=ILL)) == ["alpha", "beta", "gamma"]
    assert tried(order=("beta",), near=around(favourites=warm)) == ["beta", "alpha", "gamma"]
    assert tried(near=around(favourites=("acme/prime@delta/prime-1",))) == ["alpha", "beta", "gamma"]


# Balancing.


def shares(catalog: Catalog, draws: int = 20_000, **more: Any) -> dict[str, float]:
    source = random.Random(20_261_124)
    firsts = Counter(tried(catalog=catalog, near=around(source.random()), **more)[0] for _ in range(draws))
    return {slug: count / draws for slug, count in firsts.items()}


def test_the_first_is_drawn_by_one_over_the_price_squared():
    prices = {"p1": 1, "p2": 2, "p3": 3, "p9": 9}
    catalog = Catalog([], [PRIME], [endpoint(PRIME, provider(slug), price, price) for slug, price in prices.items()])
    whole = sum(1 / price**2 for price in prices.values())
    found = shares(catalog)
    for slug, price in prices.items():
        expected = 1 / price**2 / whole
        assert abs(found[slug] - expected) < 4 * (expected * (1 - expected) / 20_000) ** 0.5, (slug, found)


def test_free_endpoints_are_drawn_equally_and_before_all_that_cost_something():
    catalog = Catalog(
        [],
        [PRIME],
        [endpoint(PRIME, provider(f"f{number}"), 0, 0) for number in range(4)] + [endpoint(PRIME, ALPHA, 1, 1)],
    )
    found = shares(catalog, 4_000)
    assert found.keys() == {"f0", "f1", "f2", "f3"}
    assert all(abs(share - 0.25) < 0.03 for share in found.values())
    assert tried(catalog=catalog)[-1] == "alpha"


def test_the_draw_never_picks_one_with_an_outage_and_the_rest_follows_cheapest_first():
    for draw in (0.0, 0.5, 0.995, 0.999999):
        assert tried(near=around(draw, alpha=ILL))[0] != "alpha"
        first, *rest = tried(near=around(draw))
        assert rest == [slug for slug in ("alpha", "beta", "gamma") if slug != first]
    assert tried(near=around(0.99999))[0] == "gamma"


# Laws, over catalogues and preferences that nobody would think of.

SLUGS = ("alpha", "beta", "gamma", "delta")
MODELS = tuple(
    Model(
        f"acme/m{number}", f"M{number}", supported_parameters=("tools", "temperature") if number else ("temperature",)
    )
    for number in range(3)
)


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    model = draw(st.sampled_from(MODELS))
    at = provider(
        draw(st.sampled_from(SLUGS)), training=draw(st.booleans()), retention_days=draw(st.sampled_from([None, 0, 30]))
    )
    name = draw(st.text("abc", min_size=1, max_size=3))
    made = endpoint(model, at, *(draw(st.integers(0, 5)) for _ in range(3)))
    return replace(
        made,
        id=f"{model.id}@{at.slug}/{name}",
        upstream_model=name,
        pricing=draw(st.sampled_from([made.pricing] * 9 + [None])),
        context_length=draw(st.sampled_from([10, 1_000, 100_000])),
        max_completion_tokens=draw(st.sampled_from([None, 10, 1_000])),
        quantization=draw(st.sampled_from(QUANTIZATIONS)),
    )


some_slugs = st.lists(st.sampled_from([*SLUGS, "alpha/fp8", "beta/a", "nobody"]), max_size=3).map(tuple)


def mostly(usual: Any, other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Three times in four the usual, so that plans are not all empty."""
    return st.sampled_from([False, False, False, True]).flatmap(lambda odd: other if odd else st.just(usual))


prices = st.none() | st.integers(0, 6 * NANO * 1_000_000)
preferences = st.builds(
    Preferences,
    order=mostly((), some_slugs),
    only=mostly(None, some_slugs),
    ignore=mostly((), some_slugs),
    allow_fallbacks=st.booleans(),
    require_parameters=mostly(usual=False, other=st.just(True)),  # noqa: FBT003
    no_training=mostly(usual=False, other=st.just(True)),  # noqa: FBT003
    no_retention=mostly(usual=False, other=st.just(True)),  # noqa: FBT003
    quantizations=mostly(None, st.frozensets(st.sampled_from(QUANTIZATIONS), min_size=6)),
    sort=st.sampled_from([None, "price", "throughput", "latency"]),
    partition=st.sampled_from(["model", "none"]),
    max_price=mostly(None, st.builds(MaxPrice, prices, prices, prices, prices)),
    min_throughput_millis=st.none() | st.integers(0, 10),
    max_latency_micros=st.none() | st.integers(0, 10),
)
conditions = st.builds(
    Condition,
    has_outage=st.booleans(),
    is_open=st.sampled_from([False, False, False, True]),
    needs_person=st.booleans(),
    retry_after_seconds=st.integers(1, 30),
    latency_micros=st.none() | st.integers(0, 10),
    throughput_millis=st.none() | st.integers(0, 10),
)
names = st.sampled_from(
    [*(model.id for model in MODELS), "acme/m1:free", "acme/m1:nitro", "acme/m2:floor", "acme/unknown"]
)
demands = st.builds(
    Demand,
    models=st.lists(names, min_size=1, max_size=4, unique=True).map(tuple),
    prompt_tokens=st.integers(0, 200_000),
    images=st.integers(0, 2),
    max_tokens=mostly(None, st.integers(1, 2_000)),
    choices=st.integers(1, 3),
    stream=st.booleans(),
    preferences=st.just(Preferences()) | preferences,
    parameters=st.frozensets(st.sampled_from(["tools", "temperature", "seed"])),
    prompt_tokens_least=mostly(0, st.integers(0, 2_000)),
)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), wanted=demands, offers=st.lists(endpoints(), max_size=12, unique_by=lambda each: each.id))
def test_laws_of_every_plan(data: st.DataObject, wanted: Demand, offers: list[Endpoint]):
    catalog = Catalog([], MODELS, offers)
    health = {each.id: data.draw(conditions) for each in offers}
    draw = data.draw(st.floats(0, 1, exclude_max=True))
    warm = data.draw(st.lists(st.sampled_from(offers), max_size=2)) if offers else []
    near = Surroundings(lambda name: health.get(name, HEALTHY), draw, frozenset(each.id for each in warm))
    asked = {name.partition(":")[0] for name in wanted.models}
    offered = {each.id for each in offers if each.model.id in asked}
    try:
        plan = make_plan(wanted, catalog, near)
    except UnknownModel:
        assert asked == {"acme/unknown"}
        return
    except (EndpointsResting, NoEndpoints) as error:
        refused = error
    else:
        _laws_of_a_plan(plan, wanted, offered, health)
        # The same inputs, the same plan.
        assert make_plan(wanted, catalog, near) == plan
        return
    assert offered <= {reason.endpoint for reason in refused.reasons}
    assert isinstance(refused, NoEndpoints) or 1 <= refused.retry_after_seconds <= 30


def _laws_of_a_plan(plan: Plan, wanted: Demand, offered: set[str], health: dict[str, Condition]) -> None:
    tried = [attempt.endpoint for attempt in plan.attempts]
    refused_ids = [reason.endpoint for reason in plan.refusals]
    # Whoever is offered is either tried or refused with a rule, never both, never twice.
    assert {each.id for each in tried} | set(refused_ids) >= offered
    assert not {each.id for each in tried} & set(refused_ids)
    assert len({each.id for each in tried}) == len(tried) <= ATTEMPTS_MAX
    assert all(reason.rule and reason.sentence for reason in plan.refusals)
    for attempt in plan.attempts:
        _is_allowed(attempt.endpoint, wanted, health[attempt.endpoint.id])
        prompt = min(wanted.prompt_tokens, attempt.endpoint.context_length)
        cost = price_bound(attempt, prompt, attempt.completion_tokens, wanted.images)
        assert cost <= plan.ceiling
    _order_is_respected(tried, wanted)


def _names(slug: str, each: Endpoint) -> bool:
    return slug in (
        each.provider.slug,
        f"{each.provider.slug}/{each.quantization}",
        f"{each.provider.slug}/{each.upstream_model}",
    )


def _is_allowed(each: Endpoint, wanted: Demand, condition: Condition) -> None:
    said = wanted.preferences
    assert each.pricing is not None
    assert not condition.is_open
    assert said.only is None or any(_names(slug, each) for slug in said.only)
    assert not any(_names(slug, each) for slug in said.ignore)
    assert not (said.no_training and each.provider.training)
    assert not said.no_retention or each.provider.retention_days == 0
    assert said.quantizations is None or each.quantization in said.quantizations
    assert each.context_length >= wanted.prompt_tokens_least
    assert not each.max_completion_tokens or (wanted.max_tokens or 0) <= each.max_completion_tokens
    assert not said.require_parameters or wanted.parameters <= set(each.model.supported_parameters)
    if said.max_price is not None:
        for most, price in (
            (said.max_price.prompt, each.pricing.prompt),
            (said.max_price.completion, each.pricing.completion),
        ):
            assert most is None or price * 1_000_000 <= most
        for most, price in ((said.max_price.request, each.pricing.request), (said.max_price.image, each.pricing.image)):
            assert most is None or price <= most
    if each.model.id not in wanted.models and f"{each.model.id}:free" in wanted.models:
        only_free = all(
            name == f"{each.model.id}:free" for name in wanted.models if name.startswith(each.model.id + ":")
        )
        assert not only_free or each.pricing.is_free


def _order_is_respected(tried: list[Endpoint], wanted: Demand) -> None:
    said = wanted.preferences
    if said.partition == "none" and said.sort is not None:
        groups = [tried]
    else:
        models = list(dict.fromkeys(name.partition(":")[0] for name in wanted.models))
        places = [models.index(each.model.id) for each in tried]
        if len({name.partition(":")[0] for name in wanted.models}) == len(wanted.models):
            assert places == sorted(places), "models are tried in the order in which they are named"
        else:
            return
        groups = [[each for each in tried if each.model.id == model] for model in models]
    for group in groups:
        ranks = [
            next((n for n, slug in enumerate(said.order) if _names(slug, each)), len(said.order)) for each in group
        ]
        assert ranks == sorted(ranks)
