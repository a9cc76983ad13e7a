"""The request's `provider` object and `models` list, from the wire to the endpoint that answers."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bursar.providers import UpstreamFailed
from tests.gateway.world import usage, whole

pytestmark = pytest.mark.anyio

GOOD = [whole("fine", usage=usage(5, 2))]


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
    {"sort": "price"},
    {"max_price": {"prompt": 1}},
    {"require_parameters": True},
    {"quantizations": ["fp8"]},
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
