"""Legacy completions: one prompt outside, a chat of one message inside, charged like it."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.activity import GenerationStatus
from bursar.gateway._door import BODY_BYTES_MAX, ChatRequest, Headers
from bursar.gateway._skin_completions import CompletionsSkin
from bursar.kernel.errors import BursarError
from bursar.providers import UpstreamOverloaded
from tests.gateway.world import Answer, World, chunk, usage, whole

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
HEADERS = Headers(None, None, None, None, None)
PATH = "/api/v1/completions"
GOOD: Json = {"model": "demo/echo-1", "prompt": "Once upon a time"}


async def complete(world: World, *, key: str | None = None, **fields: Any) -> Answer:
    return await world.post(json.dumps({**GOOD, **fields}).encode(), path=PATH, key=key)


def text_of(answer: Answer) -> str:
    return "".join(choice["text"] for each in answer.chunks for choice in each["choices"])


async def test_an_answer_is_a_text_completion_with_usage_and_cost(world: World):
    answer = await complete(world)
    body = answer.json
    assert body["id"] == answer.headers["x-generation-id"]
    assert (body["object"], body["model"], body["provider"]) == ("text_completion", "demo/echo-1", "Demo")
    [choice] = body["choices"]
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "stop")
    assert len(choice["text"]) > 20
    assert body["usage"].keys() >= {"prompt_tokens", "completion_tokens", "total_tokens", "cost"}


async def test_a_stream_says_what_the_whole_answer_says_with_the_usage_in_its_last_chunk(world: World):
    one, other = await complete(world), await complete(world, stream=True)
    assert text_of(other) == one.json["choices"][0]["text"]
    assert other.finish_reasons == ["stop"]
    *chunks, last = other.chunks
    assert {each["object"] for each in [*chunks, last]} == {"text_completion"}
    assert {each["id"] for each in [*chunks, last]} == {other.headers["x-generation-id"]}
    assert last["choices"] == []
    assert last["usage"] == one.json["usage"]
    assert [each for each in chunks if "usage" in each] == []


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_charged_exactly_like_a_chat_and_leaves_one_row(scripted: Callable[..., Any], stream: bool):
    counted = usage(1000, 100)
    steps = [chunk("Hi"), chunk(finish="stop"), chunk(usage=counted)] if stream else [whole("Hi", usage=counted)]
    world = await scripted(steps)
    answer = await complete(world, model="acme/prime", stream=stream)
    row = await world.only_generation()
    told = json.loads(answer.data[-2] if stream else answer.body, parse_float=Decimal)
    assert Decimal(told["usage"]["cost"]).scaleb(9) == row.cost_nanos == 1000 * 7 + 100 * 13
    assert (row.api_type, row.streamed, row.status) == ("completions", stream, GenerationStatus.OK)
    await world.chat(model="acme/prime", stream=stream)
    assert [each.cost_nanos for each in await world.generations()] == [row.cost_nanos] * 2


@pytest.mark.parametrize("prompt", ["Say hi", ["Say hi"]])
async def test_the_prompt_reaches_the_provider_as_the_one_message_of_a_chat(scripted: Callable[..., Any], prompt: Any):
    world = await scripted([whole("Hi", usage=usage(5, 2))])
    harmless = {"echo": False, "suffix": "", "logprobs": None, "best_of": 1, "n": 1}
    await complete(world, model="acme/prime", prompt=prompt, max_tokens=9, stop=["END"], temperature=0.1, **harmless)
    [call] = world.upstream.calls
    assert call.body == {
        "messages": [{"role": "user", "content": "Say hi"}],
        "max_tokens": 9,
        "stop": ["END"],
        "temperature": 0.1,
        "n": 1,
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_how_it_was_routed_is_told_where_it_is_asked_for(world: World, stream: bool):
    body = json.dumps({**GOOD, "stream": stream}).encode()
    for headers in ({}, {"x-openrouter-metadata": "enabled"}):
        answer = await world.post(body, path=PATH, headers=headers)
        told = answer.chunks[-1] if stream else answer.json
        assert ("openrouter_metadata" in told) is bool(headers)


async def test_reasoning_stands_beside_the_text(scripted: Callable[..., Any]):
    answer = whole("Hi", usage=usage(5, 2))
    answer["choices"][0]["message"]["reasoning"] = "Hm"
    world = await scripted([answer])
    [choice] = (await complete(world, model="acme/prime")).json["choices"]
    assert (choice["text"], choice["reasoning"]) == ("Hi", "Hm")


WRONG: list[Json] = [
    {"prompt": None},
    {"prompt": []},
    {"prompt": 7},
    {"prompt": [1, 2, 3]},
    {"prompt": [[1, 2, 3]]},
    {"prompt": ["one", "two"]},
    {"prompt": {"text": "Hi"}},
    {"echo": True},
    {"suffix": "the end"},
    {"logprobs": 0},
    {"logprobs": 5},
    {"best_of": 3},
    {"best_of": True},
    {"best_of": 3, "n": 2},
    {"messages": [{"role": "user", "content": "Hi"}]},
    {"tools": [{}]},
    {"model": None},
    {"max_tokens": 0},
    {"n": 17},
    {"stream": "yes"},
    {"provider": {"only": "demo"}},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: json.dumps(wrong)[:40])
async def test_what_is_wrong_or_not_offered_is_400_and_named(world: World, wrong: Json):
    answer = await complete(world, **wrong)
    assert answer.status == 400
    assert next(iter(wrong)) in answer.error["message"]
    assert answer.error["metadata"]["error_type"] == "invalid_request"
    assert await world.generations() == []


@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_are_those_of_a_chat(scripted: Callable[..., Any], stream: bool):
    world = await scripted([UpstreamOverloaded("The provider is overloaded.", retry_after_seconds=7)])
    _, broke = await world.make_pool(0)
    prime: Json = {"model": "acme/prime", "stream": stream, "provider": {"only": ["alpha"]}}
    seen = [
        await complete(world, key="sk-bursar-v1-made-up", **prime),
        await complete(world, key=broke, **prime),
        await complete(world, **{**prime, "provider": {"only": ["nobody"]}}),
        await complete(world, **{**prime, "model": "acme/prim"}),
        await world.post(b"{}", path=PATH, headers={"content-length": str(BODY_BYTES_MAX + 1)}),
        await complete(world, **prime),
    ]
    assert [answer.status for answer in seen] == [401, 402, 404, 400, 413, 503]
    assert [answer.error["code"] for answer in seen] == [401, 402, 404, 400, 413, 503]
    assert seen[-1].headers["retry-after"] == "7"
    assert (await world.only_generation()).cost_nanos == 0


async def test_an_error_inside_a_stream_is_a_chunk_with_the_error(world: World):
    answer = await complete(world, stream=True, prompt="[[fail:cut]]")
    broken = next(each for each in answer.chunks if "error" in each)
    assert broken["error"]["code"] == 502
    assert broken["object"] == "text_completion"
    assert broken["choices"][0]["finish_reason"] == "error"
    assert (await world.only_generation()).status is GenerationStatus.FAILED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = [*GOOD, "echo", "suffix", "logprobs", "best_of", "n", "stop", "stream", "provider", "messages", "max_tokens"]


def read(body: bytes) -> ChatRequest | BursarError:
    """What the skin makes of it; anything but a request or a refusal is raised."""
    try:
        return CompletionsSkin().parse(body, HEADERS)
    except BursarError as error:
        return error


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), JSON, max_size=6), JSON)
def test_whatever_json_comes_it_is_read_or_refused(fields: Json, anything: Any):
    for body in (anything, fields, {**GOOD, **fields}):
        request = read(json.dumps(body).encode())
        assert not isinstance(request, BursarError) or request.status == 400
