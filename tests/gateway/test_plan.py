"""Stop 3, pure: which endpoints are tried, in which order, and why the others are not."""

from typing import Any

import pytest

from bursar.catalog import Catalog, Endpoint, Model
from bursar.gateway import NoEndpoints, UnknownModel
from bursar.gateway.plan import (
    ATTEMPTS_MAX,
    STREAM_TOKENS,
    WHOLE_ANSWER_TOKENS,
    Demand,
    Preferences,
    affordable_tokens,
    make_plan,
    price_bound,
)
from tests.gateway.world import PRIME, SECOND, endpoint, provider

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
    )


def tried(*models: str, **more: Any) -> list[str]:
    return [attempt.endpoint.provider.slug for attempt in make_plan(demand(*models, **more), CATALOG).attempts]


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
    pricing = plan.attempts[0].pricing
    if tokens:
        assert price_bound(pricing, 100, tokens, 0) <= available
    assert price_bound(pricing, 100, tokens + 1, 0) > available
