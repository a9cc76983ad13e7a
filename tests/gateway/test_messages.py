"""Anthropic's Messages outside, a chat inside: the same plan, hold, meter and charge, in other words."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.activity import GenerationStatus
from bursar.catalog import Catalog
from bursar.gateway import _skin_messages_form as form
from bursar.gateway._door import BODY_BYTES_MAX, ChatRequest, Headers, chat_request
from bursar.gateway._skin_messages import MessagesSkin, MessagesWriter
from bursar.kernel.errors import BursarError
from bursar.keys import KeyKind
from bursar.providers import Chunk, UpstreamOverloaded
from bursar.providers._anthropic_form import MessageStream, messages_request
from tests.gateway.world import PRIME, Answer, World, chunk, endpoint, provider, usage, whole

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
HEADERS = Headers(None, None, None, None, None)
PATH = "/api/v1/messages"
ASK = [{"role": "user", "content": "Hello"}]
GOOD: Json = {"model": "demo/echo-1", "max_tokens": 400, "messages": ASK}
WEATHER = {"name": "weather", "description": "Of a place", "input_schema": {"type": "object", "properties": {}}}
EPHEMERAL = {"type": "ephemeral"}


async def ask(world: World, *, key: str | None = None, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    return await world.post(json.dumps({**GOOD, **fields}).encode(), path=PATH, key=key, headers=headers)


def events(answer: Answer | bytes) -> list[Json]:
    """Of a stream that ended properly; the name on each `event:` line is the type inside."""
    body = answer if isinstance(answer, bytes) else answer.body
    found = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return [event for event in found if event["type"] != "ping"]


def reassembled(found: Sequence[Json]) -> Json:
    """The message that a stream told, put together by Anthropic's rules and not by our code; its order is checked on the way."""
    [first, *rest] = found
    assert first["type"] == "message_start"
    message = first["message"]
    assert (message["content"], message["stop_reason"]) == ([], None)
    inputs: dict[int, str] = {}
    open_block: int | None = None
    for event in rest[:-2]:
        if event["type"] == "content_block_start":
            assert open_block is None
            assert event["index"] == len(message["content"])
            open_block = event["index"]
            message["content"].append(event["content_block"])
            assert event["content_block"].get("text", "") == event["content_block"].get("thinking", "") == ""
        elif event["type"] == "content_block_stop":
            assert event["index"] == open_block
            open_block = None
        else:
            assert event["type"] == "content_block_delta"
            assert event["index"] == open_block
            block, delta = message["content"][event["index"]], event["delta"]
            if delta["type"] == "input_json_delta":
                assert block["type"] == "tool_use"
                inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
            else:
                name = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}[
                    delta["type"]
                ]
                block[name] += delta[name]
    assert open_block is None
    for index, text in inputs.items():
        message["content"][index]["input"] = json.loads(text)
    assert [event["type"] for event in rest[-2:]] == ["message_delta", "message_stop"]
    return {**message, **rest[-2]["delta"], "usage": rest[-2]["usage"]}


def refused(answer: Answer, status: int, kind: str) -> Json:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    body = answer.json
    assert body.keys() == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == answer.headers["x-generation-id"]
    error: Json = body["error"]
    assert error["type"] == kind
    assert error["message"]
    assert error["error_type"]
    return error


# Whole answers and streams


async def test_an_answer_is_a_message_with_every_key_of_anthropics(world: World):
    answer = await ask(world)
    assert answer.status == 200
    message = answer.json
    assert message["id"] == answer.headers["x-generation-id"]
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "demo/echo-1")
    [block] = message["content"]
    assert block["type"] == "text"
    assert len(block["text"]) > 20
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    counts = {"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"}
    assert all(isinstance(message["usage"][name], int) for name in counts)
    assert message["usage"].keys() >= {"cost", "is_byok", "cost_details"}


async def test_a_stream_says_what_the_whole_answer_says_in_anthropics_order_of_events(world: World):
    one, other = await ask(world), await ask(world, stream=True)
    assert other.headers["content-type"].startswith("text/event-stream")
    told = reassembled(events(other))
    assert told.pop("id") == other.headers["x-generation-id"]
    assert told == {name: value for name, value in one.json.items() if name != "id"}


@pytest.mark.parametrize("stream", [False, True])
async def test_max_tokens_ends_an_answer_as_such(world: World, stream: bool):
    answer = await ask(world, max_tokens=3, stream=stream)
    message = reassembled(events(answer)) if stream else answer.json
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_charged_exactly_like_a_chat_and_leaves_one_row(scripted: Callable[..., Any], stream: bool):
    """1000 prompt tokens at 7 and 100 at 13 nanos; of the 1000, 200 were read from and 300 written to a cache."""
    counted = usage(1000, 100, prompt_tokens_details={"cached_tokens": 200, "cache_write_tokens": 300})
    steps = [chunk("Hi"), chunk(finish="stop"), chunk(usage=counted)] if stream else [whole("Hi", usage=counted)]
    world = await scripted(steps)
    answer = await ask(world, model="acme/prime", stream=stream)
    row = await world.only_generation()
    body = events(answer)[-2] if stream else json.loads(answer.body, parse_float=Decimal)
    assert {name: body["usage"][name] for name in body["usage"] if name.endswith("tokens")} == {
        "input_tokens": 500,
        "output_tokens": 100,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 300,
    }
    assert Decimal(str(body["usage"]["cost"])).scaleb(9) == row.cost_nanos == 1000 * 7 + 100 * 13
    assert (row.prompt_tokens, row.cached_tokens, row.cache_write_tokens) == (1000, 200, 300)
    assert (row.api_type, row.streamed, row.status) == ("completions", stream, GenerationStatus.OK)
    await world.chat(model="acme/prime", stream=stream)
    assert [each.cost_nanos for each in await world.generations()] == [row.cost_nanos] * 2


@pytest.mark.parametrize(
    ("native", "said"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("end_turn", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("refusal", "refusal"),
        ("pause_turn", "pause_turn"),
        ("something new", "end_turn"),
        ({"odd": 1}, "end_turn"),
    ],
)
async def test_why_it_ended_is_said_in_anthropics_words(scripted: Callable[..., Any], native: Any, said: str):
    ended = whole("Hi", usage=usage(5, 2))
    ended["choices"][0]["finish_reason"] = native
    world = await scripted([ended])
    message = (await ask(world, model="acme/prime", stop_sequences=["END"])).json
    assert message["stop_reason"] == said
    assert message["stop_sequence"] == ("END" if said == "stop_sequence" else None)


async def test_a_quiet_stream_is_kept_alive_by_pings(scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bursar.gateway._exchange.KEEPALIVE_SECONDS", 0.01)

    async def think() -> None:
        await asyncio.sleep(0.05)

    world = await scripted([think, chunk("Hi"), think, chunk(finish="stop"), chunk(usage=usage(5, 2))])
    answer = await ask(world, model="acme/prime", stream=True)
    assert answer.body.startswith(b'event: ping\ndata: {"type":"ping"}\n\n')
    assert reassembled(events(answer))["content"] == [{"type": "text", "text": "Hi"}]


@pytest.mark.parametrize("stream", [False, True])
async def test_how_it_was_routed_is_told_where_it_is_asked_for(world: World, stream: bool):
    for headers in ({}, {"x-openrouter-metadata": "enabled"}):
        answer = await ask(world, stream=stream, headers=headers)
        told = events(answer)[-2] if stream else answer.json
        assert ("openrouter_metadata" in told) is bool(headers)


# Tools and thinking, there and back


def called(*functions: tuple[str, str], text: str | None = None, finish: str = "tool_calls") -> Json:
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(functions)
    ]
    message = {"role": "assistant", "content": text, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "up-1", "choices": [choice], "usage": usage(5, 2)}


def delta(**fields: Any) -> Json:
    return {"id": "up-1", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


async def test_a_tool_round_trip_reaches_the_provider_as_a_chat_with_tool_calls(scripted: Callable[..., Any]):
    world = await scripted([called(("weather", '{"place": "Rome"}'), text="Let me look.")])
    first = await ask(world, model="acme/prime", tools=[WEATHER], tool_choice={"type": "any"})
    message = first.json
    call = {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"place": "Rome"}}
    assert message["content"] == [{"type": "text", "text": "Let me look."}, call]
    assert message["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": "call_0", "content": "Sunny"}
    talk = [*ASK, {"role": "assistant", "content": message["content"]}, {"role": "user", "content": [result]}]
    await ask(world, model="acme/prime", tools=[WEATHER], messages=talk)
    asked, answered = (call.body for call in world.upstream.calls)
    function = {"name": "weather", "description": "Of a place", "parameters": WEATHER["input_schema"]}
    assert asked["tools"] == [{"type": "function", "function": function}]
    assert asked["tool_choice"] == "required"
    assert answered["messages"] == [
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"place":"Rome"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "Sunny"},
    ]


async def test_a_stream_of_thinking_text_and_two_tools_numbers_its_blocks_as_the_kinds_switch(
    scripted: Callable[..., Any],
):
    def piece(index: int, arguments: str, **more: Any) -> Json:
        head = {"id": f"call_{index}", "type": "function"} if more else {}
        return delta(tool_calls=[{"index": index, **head, "function": {"arguments": arguments, **more}}])

    thought = {"type": "reasoning.text", "format": form.CLAUDE, "index": 0}
    steps = [
        delta(role="assistant", content=""),
        delta(reasoning="Let ", reasoning_details=[{**thought, "text": "Let "}]),
        delta(reasoning="me see", reasoning_details=[{**thought, "text": "me see"}]),
        delta(reasoning_details=[{**thought, "signature": "c2ln"}]),
        delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "hidden", "format": form.CLAUDE, "index": 1}]),
        delta(content="I "),
        delta(content="look."),
        piece(0, "", name="weather"),
        piece(0, '{"place": '),
        piece(0, '"Rome"}'),
        piece(1, '{"place": "Oslo"}', name="weather"),
        chunk(finish="tool_calls"),
        chunk(usage=usage(5, 9)),
    ]
    world = await scripted(steps)
    found = events(await ask(world, model="acme/prime", stream=True))
    told = reassembled(found)
    assert told["content"] == [
        {"type": "thinking", "thinking": "Let me see", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "hidden"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"place": "Rome"}},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"place": "Oslo"}},
    ]
    assert told["stop_reason"] == "tool_use"
    assert told["usage"]["output_tokens"] == 9
    await world.books_are_right()


async def test_thinking_goes_back_to_the_provider_signed_as_it_came(scripted: Callable[..., Any]):
    details = [
        {"type": "reasoning.text", "text": "Hm", "signature": "c2ln", "format": form.CLAUDE, "index": 0},
        {"type": "reasoning.encrypted", "data": "sealed", "format": form.CLAUDE, "index": 1},
        {"type": "reasoning.encrypted", "data": "other", "format": "openai-responses-v1", "id": "rs_1", "index": 2},
    ]
    answer = whole("Yes", usage=usage(5, 2))
    answer["choices"][0]["message"] |= {"reasoning": "Hm", "reasoning_details": details}
    world = await scripted([answer])
    content = (await ask(world, model="acme/prime", thinking={"type": "enabled", "budget_tokens": 2000})).json[
        "content"
    ]
    assert [block["type"] for block in content] == ["thinking", "redacted_thinking", "redacted_thinking", "text"]
    assert content[0] == {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
    await ask(world, model="acme/prime", messages=[*ASK, {"role": "assistant", "content": content}, *ASK])
    assert world.upstream.calls[1].body["messages"][1] == {
        "role": "assistant",
        "content": "Yes",
        "reasoning_details": details,
    }


async def test_what_thinking_was_asked_for_reaches_the_provider(scripted: Callable[..., Any]):
    alpha, thinker = provider("alpha"), replace(PRIME, supported_parameters=("max_tokens", "reasoning"))
    offers = Catalog([alpha], [thinker], [endpoint(thinker, alpha)])
    world = await scripted([whole("Yes", usage=usage(5, 2))], catalog=offers)
    await ask(world, model="acme/prime", thinking={"type": "enabled", "budget_tokens": 2000}, cache_control=EPHEMERAL)
    [call] = world.upstream.calls
    assert call.body["reasoning"] == {"max_tokens": 2000}
    assert call.body["cache_control"] == EPHEMERAL


def test_a_request_that_goes_on_to_anthropic_arrives_as_it_was():
    """Through our form and back by the provider's translator: nothing is lost where nothing has to be."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Rome"}}
    thought = {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Sunny"}, image]}
    text = {"type": "text", "text": "Look"}
    body: Json = {
        "max_tokens": 4000,
        "system": [{"type": "text", "text": "Be brief", "cache_control": EPHEMERAL}],
        "messages": [
            {"role": "user", "content": [text, image, {"type": "document", "source": pdf, "title": "Bill"}]},
            {"role": "assistant", "content": [thought, {"type": "redacted_thinking", "data": "sealed"}, text, use]},
            {"role": "user", "content": [{**result, "cache_control": EPHEMERAL}, text]},
        ],
        "tools": [{**WEATHER, "cache_control": EPHEMERAL}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "cache_control": EPHEMERAL,
    }
    request = chat_request(form.chat_fields({"model": "acme/prime", **body}), HEADERS)
    assert messages_request(request.body, "claude-sonnet-4-5").body == {"model": "claude-sonnet-4-5", **body}


def test_a_stream_that_comes_from_anthropic_goes_on_as_it_was():
    head = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
    }
    blocks: list[tuple[Json, list[Json]]] = [
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [
                {"type": "thinking_delta", "thinking": "H"},
                {"type": "thinking_delta", "thinking": "m"},
                {"type": "signature_delta", "signature": "c2ln"},
            ],
        ),
        ({"type": "redacted_thinking", "data": "sealed"}, []),
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "I "}, {"type": "text_delta", "text": "look"}]),
        (
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
            [
                {"type": "input_json_delta", "partial_json": '{"place": '},
                {"type": "input_json_delta", "partial_json": '"Rome"}'},
            ],
        ),
        (
            {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
            [{"type": "input_json_delta", "partial_json": "{}"}],
        ),
    ]
    told: list[Json] = []
    for index, (block, deltas) in enumerate(blocks):
        told.append({"type": "content_block_start", "index": index, "content_block": block})
        told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        told.append({"type": "content_block_stop", "index": index})
    ended = {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    }
    usage_ = {"input_tokens": 7, "output_tokens": 1}
    upstream = MessageStream(created=0)
    writer = MessagesWriter(chat_request(form.chat_fields(GOOD), HEADERS), "gen-1")
    came = [{"type": "message_start", "message": {**head, "usage": usage_}}, *told, ended, {"type": "message_stop"}]
    chunks = [each for event in json.loads(json.dumps(came)) for each in upstream.take(event)]
    found = events(b"".join(writer.chunk(Chunk(value=each)) for each in chunks) + writer.end(None))
    assert found[1:-2] == told


async def test_thinking_of_a_provider_without_details_is_a_block_too(scripted: Callable[..., Any]):
    answer = whole("Yes", usage=usage(5, 2))
    answer["choices"][0]["message"]["reasoning_content"] = "Hm"
    world = await scripted([answer])
    content = (await ask(world, model="acme/prime")).json["content"]
    assert content[0] == {"type": "thinking", "thinking": "Hm", "signature": ""}


def test_tool_calls_without_ids_and_with_one_index_are_told_apart():
    blocks = form.Blocks("gen-1")
    calls = [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    nameless = {"function": {"name": "c", "arguments": {"already": "decoded"}}, "index": 1}
    content = form.assemble([*blocks.take({"tool_calls": [*calls, nameless]}), *blocks.finish()])
    assert [(block["id"], block["name"], block["input"]) for block in content] == [
        ("a", "a", {}),
        ("b", "b", {}),
        ("toolu_1_2", "c", {"already": "decoded"}),
    ]


def told_by(*deltas: Json) -> list[Json]:
    blocks = form.Blocks("gen-1")
    return form.assemble([*(event for each in deltas for event in blocks.take(each)), *blocks.finish()])


def test_arguments_that_come_before_the_name_wait_for_it():
    pieces = [{"arguments": '{"a"'}, {"arguments": ": 1"}, {"name": "f"}, {"arguments": "}"}]
    [block] = told_by(*({"tool_calls": [{"index": 0, "id": "c", "function": piece}]} for piece in pieces))
    assert (block["name"], block["input"]) == ("f", {"a": 1})
    [nameless] = told_by({"tool_calls": [{"index": 0, "id": "c", "function": {"arguments": "{}"}}]})
    assert (nameless["name"], nameless["input"]) == ("", {})


def test_thinking_without_indexes_ends_where_it_is_signed():
    thoughts = [{"text": "a"}, {"text": "b"}, {"signature": "one"}, {"text": "c", "signature": "two"}]
    found = told_by(*({"reasoning_details": [{"type": "reasoning.text", **each}]} for each in thoughts))
    assert [(block["thinking"], block["signature"]) for block in found] == [("ab", "one"), ("c", "two")]


def test_a_second_choice_that_nobody_asked_for_is_passed_over():
    request = chat_request(form.chat_fields(GOOD), HEADERS)
    writer = MessagesWriter(request, "gen-1")
    choices = [
        {"index": 1, "delta": {"content": "no"}},
        {"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"},
    ]
    found = events(writer.chunk(Chunk(value={"choices": choices})) + writer.end(None))
    assert reassembled(found)["content"] == [{"type": "text", "text": "yes"}]


async def test_whole_calls_without_ids_and_indexes_stay_apart(scripted: Callable[..., Any]):
    answer = called(("a", "{}"), ("b", '{"cut": "sho'), finish="stop")
    for call in answer["choices"][0]["message"]["tool_calls"]:
        del call["id"]
    world = await scripted([answer])
    message = (await ask(world, model="acme/prime")).json
    assert [block["name"] for block in message["content"]] == ["a", "b"]
    assert len({block["id"] for block in message["content"]}) == 2
    assert message["content"][1]["input"] == {"INVALID_JSON": '{"cut": "sho'}
    assert message["stop_reason"] == "tool_use", "a server that says a mere stop after a call means the call"


TEXTS = st.text(min_size=1, max_size=6)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Json], list[Json]]:
    """Deltas cut anywhere, and the content they tell: thinking, text and tools as providers order them."""
    content: list[Json] = []
    deltas: list[Json] = []
    for number in range(draw(st.integers(0, 2))):
        pieces = draw(st.lists(TEXTS, min_size=1, max_size=3))
        head = {"type": "reasoning.text", "format": form.CLAUDE, "index": number}
        deltas += [{"reasoning_details": [{**head, "text": piece}], "reasoning": piece} for piece in pieces]
        deltas.append({"reasoning_details": [{**head, "signature": "sig"}]})
        content.append({"type": "thinking", "thinking": "".join(pieces), "signature": "sig"})
    if pieces := draw(st.lists(TEXTS, max_size=3)):
        deltas += [{"content": piece} for piece in pieces]
        content.append({"type": "text", "text": "".join(pieces)})
    for number in range(draw(st.integers(0, 2))):
        arguments = draw(st.dictionaries(TEXTS, TEXTS, max_size=2))
        said = json.dumps(arguments)
        cut = draw(st.integers(0, len(said)))
        first = {"index": number, "id": f"c{number}", "function": {"name": "f", "arguments": said[:cut]}}
        deltas += [{"tool_calls": [first]}, {"tool_calls": [{"index": number, "function": {"arguments": said[cut:]}}]}]
        content.append({"type": "tool_use", "id": f"c{number}", "name": "f", "input": arguments})
    return deltas, content


def written(deltas: Sequence[Json], finish: str | None = "stop") -> bytes:
    request = chat_request(form.chat_fields(GOOD), HEADERS)
    writer = MessagesWriter(request, "gen-1")
    choices = [{"index": 0, "delta": each, "finish_reason": None} for each in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish, "native_finish_reason": finish})
    return b"".join(writer.chunk(Chunk(value={"choices": [each]})) for each in choices) + writer.end(None)


@settings(max_examples=200, deadline=None)
@given(streams())
def test_however_a_stream_is_cut_it_tells_the_whole_content(stream: tuple[list[Json], list[Json]]):
    deltas, content = stream
    assert reassembled(events(written(deltas)))["content"] == content


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DELTA_WORDS = [
    "content", "reasoning", "reasoning_details", "tool_calls", "refusal", "type", "text", "data", "signature", "index", "id",
    "function", "name", "arguments", "reasoning.text", "reasoning.encrypted", "format",
]  # fmt: skip
ODD = st.recursive(
    st.none() | st.integers(-1, 2) | st.sampled_from(DELTA_WORDS) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(DELTA_WORDS), inner, max_size=5),
    max_leaves=14,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(DELTA_WORDS), ODD, max_size=4), max_size=4))
def test_whatever_a_provider_writes_the_stream_starts_and_ends_properly(deltas: list[Json]):
    found = events(written(deltas))
    kinds = [event["type"] for event in found]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    starts = [event["index"] for event in found if event["type"] == "content_block_start"]
    stops = [event["index"] for event in found if event["type"] == "content_block_stop"]
    assert starts == stops == list(range(len(starts)))
    for given_delta in deltas:
        answer = {
            "id": "gen-1",
            "choices": [{"index": 0, "message": given_delta, "finish_reason": "stop"}],
            "usage": None,
        }
        assert form.message(answer, None)["type"] == "message"


# What a request becomes


def chat(**fields: Any) -> Json:
    return form.chat_fields({**GOOD, **fields})


def test_images_documents_and_cache_marks_become_parts():
    data = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    blocks = [
        {"type": "text", "text": "Look", "cache_control": EPHEMERAL},
        {"type": "image", "source": data},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "document", "source": pdf, "title": "Bill", "cache_control": EPHEMERAL},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Words"}, "title": "Note"},
    ]
    [message] = chat(messages=[{"role": "user", "content": blocks}])["messages"]
    assert message["content"] == [
        {"type": "text", "text": "Look", "cache_control": EPHEMERAL},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {
            "type": "file",
            "file": {"filename": "Bill", "file_data": "data:application/pdf;base64,aGk="},
            "cache_control": EPHEMERAL,
        },
        {"type": "file", "file": {"filename": "document.pdf", "file_data": "https://example.com/a.pdf"}},
        {"type": "text", "text": "Note\n\nWords"},
    ]


def test_the_system_prompt_comes_first_with_its_cache_marks():
    assert chat(system="Be brief")["messages"] == [{"role": "system", "content": "Be brief"}, *ASK]
    block = {"type": "text", "text": "Be brief", "cache_control": EPHEMERAL}
    assert chat(system=[block])["messages"][0] == {"role": "system", "content": [block]}


def test_results_of_tools_come_before_what_the_user_says_beside_them():
    blocks = [
        {"type": "text", "text": "Go on"},
        {"type": "tool_result", "tool_use_id": "a", "content": "No such place", "is_error": True},
        {
            "type": "tool_result",
            "tool_use_id": "b",
            "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}],
        },
        {
            "type": "tool_result",
            "tool_use_id": "c",
            "content": "Error: none",
            "is_error": True,
            "cache_control": EPHEMERAL,
        },
        {"type": "tool_result", "tool_use_id": "d"},
    ]
    assert chat(messages=[{"role": "user", "content": blocks}])["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": "Error: No such place"},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "Error: none", "cache_control": EPHEMERAL},
        {"role": "tool", "tool_call_id": "d", "content": ""},
        {"role": "user", "content": "Go on"},
    ]


@pytest.mark.parametrize(
    ("choice", "becomes"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
    ],
)
def test_a_tool_choice_is_said_in_openais_words(choice: Json, becomes: Json):
    made = chat(tools=[{**WEATHER, "cache_control": EPHEMERAL}], tool_choice=choice)
    assert {name: made[name] for name in made if name in ("tool_choice", "parallel_tool_calls")} == becomes
    assert made["tools"][0]["cache_control"] == EPHEMERAL


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"max_tokens": 2048}),
        ({"thinking": {"type": "disabled"}}, {"enabled": False}),
        ({"thinking": {"type": "adaptive"}}, {"enabled": True}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, {"enabled": True, "effort": "high"}),
        ({"output_config": {"effort": "low"}}, {"effort": "low"}),
    ],
)
def test_thinking_becomes_reasoning(fields: Json, reasoning: Json | None):
    assert chat(**fields).get("reasoning") == reasoning


def test_the_other_fields_keep_their_meaning():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    made = chat(
        stop_sequences=["END"],
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        metadata={"user_id": "u-1"},
        fallbacks=[{"model": "demo/free-1"}],
        provider={"only": ["demo"]},
        session_id="s-1",
        output_config={"format": {"type": "json_schema", "schema": schema}},
        context_management={"edits": []},
    )
    assert made == {
        **GOOD,
        "stop": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "user": "u-1",
        "models": ["demo/free-1"],
        "provider": {"only": ["demo"]},
        "session_id": "s-1",
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}},
    }
    assert chat(user="u-2", metadata={"user_id": "u-1"})["user"] == "u-2"


# Refusals


def said(*blocks: Any, role: str = "user") -> Json:
    return {"messages": [{"role": role, "content": list(blocks)}]}


WRONG: list[tuple[Json, str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"model": None}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [*ASK, {"role": "user", "content": []}]}, "messages[1].content"),
    (said("Hi"), "messages[0].content[0]"),
    (said({"type": "odd"}), "messages[0].content[0].type"),
    (said({"type": "text"}), "messages[0].content[0].text"),
    (said({"type": "thinking", "thinking": "x"}), "messages[0].content[0].type"),
    (said({"type": "image", "source": {"type": "file", "file_id": "f"}}), "messages[0].content[0].source.type"),
    (said({"type": "image", "source": {"type": "base64", "data": "x"}}), "messages[0].content[0].source.media_type"),
    (said({"type": "tool_result"}), "messages[0].content[0].tool_use_id"),
    (said({"type": "tool_result", "tool_use_id": "a", "content": 7}), "messages[0].content[0].content"),
    (said({"type": "document", "source": {"type": "url", "url": "u"}, "citations": {"enabled": True}}), "citations"),
    (said({"type": "server_tool_use", "id": "a", "name": "web_search"}, role="assistant"), "server_tool_use"),
    (
        said({"type": "tool_use", "id": "a", "name": "f", "input": "{}"}, role="assistant"),
        "messages[0].content[0].input",
    ),
    ({"system": 7}, "system"),
    ({"system": [{"type": "image"}]}, "system[0].type"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ({"tools": [WEATHER], "tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"tools": [WEATHER], "tool_choice": "auto"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "always"}}, "thinking.type"),
    ({"output_config": {"effort": "extreme"}}, "output_config.effort"),
    ({"output_config": {"format": "json"}}, "output_config.format"),
    ({"stop_sequences": "END"}, "stop_sequences"),
    ({"stop_sequences": [7]}, "stop_sequences"),
    ({"metadata": {"user_id": 7}}, "metadata.user_id"),
    ({"stream": "yes"}, "stream"),
    ({"provider": {"only": "demo"}}, "provider.only"),
    ({"models": ["a"], "fallbacks": [{"model": "b"}]}, "fallbacks"),
    ({"fallbacks": [{"model": "b"}] * 4}, "fallbacks"),
    ({"mcp_servers": [{"url": "u"}]}, "mcp_servers"),
    ({"container": "c"}, "container"),
    ({"inference_geo": "eu"}, "inference_geo"),
]


@pytest.mark.parametrize(("wrong", "named"), WRONG, ids=lambda value: json.dumps(value)[:50])
async def test_what_is_wrong_is_400_in_anthropics_envelope_and_named(world: World, wrong: Json, named: str):
    error = refused(await ask(world, **wrong), 400, "invalid_request_error")
    assert named in error["message"]
    assert error["error_type"] == "invalid_request"
    assert await world.generations() == []


@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_have_their_real_status_and_anthropics_type(scripted: Callable[..., Any], stream: bool):
    world = await scripted([UpstreamOverloaded("The provider is overloaded.", retry_after_seconds=7)])
    _, broke = await world.make_pool(0)
    manager = await world.make_key(kind=KeyKind.MANAGEMENT)
    prime: Json = {"model": "acme/prime", "stream": stream}
    refused(await ask(world, key="sk-bursar-v1-made-up", **prime), 401, "authentication_error")
    refused(await ask(world, key=manager, **prime), 403, "permission_error")
    refused(await ask(world, key=broke, **prime), 402, "billing_error")
    refused(await ask(world, **prime, provider={"only": ["nobody"]}), 404, "not_found_error")
    refused(await ask(world, model="acme/prim", stream=stream), 400, "invalid_request_error")
    large = await world.post(b"{}", path=PATH, headers={"content-length": str(BODY_BYTES_MAX + 1)})
    assert refused(large, 413, "invalid_request_error")["error_type"] == "payload_too_large"
    assert await world.generations() == []
    overloaded = await ask(world, **prime, provider={"only": ["alpha"]})
    refused(overloaded, 503, "overloaded_error")
    assert overloaded.headers["retry-after"] == "7"
    assert (await world.only_generation()).cost_nanos == 0


@pytest.mark.parametrize(("how", "status", "kind"), [("timeout", 504, "timeout_error"), ("500", 502, "api_error")])
async def test_a_provider_that_fails_is_an_error_of_its_kind(world: World, how: str, status: int, kind: str):
    answer = await ask(world, messages=[{"role": "user", "content": f"[[fail:{how}]]"}])
    refused(answer, status, kind)


async def test_an_error_inside_a_stream_is_an_error_event_and_the_last(world: World):
    answer = await ask(world, stream=True, messages=[{"role": "user", "content": "[[fail:cut]]"}])
    assert answer.status == 200
    found = events(answer)
    assert found[0]["type"] == "message_start"
    assert found[-1] == {
        "type": "error",
        "error": {
            "type": "api_error",
            "message": "The provider's answer broke off.",
            "error_type": "provider_unavailable",
        },
        "request_id": answer.headers["x-generation-id"],
    }
    assert "message_stop" not in [event["type"] for event in found]
    row = await world.only_generation()
    assert row.status is GenerationStatus.FAILED
    assert row.cost_nanos > 0


async def test_counting_tokens_is_refused_clearly_and_never_guessed(world: World):
    answer = await world.post(json.dumps(GOOD).encode(), path=f"{PATH}/count_tokens")
    error = refused(answer, 404, "not_found_error")
    assert error["message"].startswith("Counting tokens is not offered here.")
    stranger = await world.post(json.dumps(GOOD).encode(), path=f"{PATH}/count_tokens", key="nobody's")
    refused(stranger, 401, "authentication_error")


@pytest.mark.parametrize("authorization", ["", None])
async def test_the_key_may_come_as_x_api_key_and_the_bearer_goes_first(world: World, authorization: str | None):
    body = json.dumps(GOOD).encode()
    key_only = await world.post(body, path=PATH, authorization="", headers={"x-api-key": world.key})
    assert key_only.status == 200
    made_up = await world.post(body, path=PATH, authorization=authorization, headers={"x-api-key": "made up"})
    assert made_up.status == (401 if authorization == "" else 200)


NAMES = [
    *GOOD, "system", "tools", "tool_choice", "thinking", "stop_sequences", "metadata", "stream", "models", "fallbacks",
    "provider", "output_config", "user", "session_id", "temperature",
]  # fmt: skip
KINDS = ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"]
BLOCK_NAMES = [
    "text",
    "source",
    "id",
    "name",
    "input",
    "tool_use_id",
    "content",
    "thinking",
    "data",
    "signature",
    "is_error",
]
BLOCKS = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(BLOCK_NAMES), JSON, max_size=5),
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system"]),
            "content": st.text() | st.lists(BLOCKS, max_size=3) | JSON,
        }
    )
    | JSON,
    max_size=3,
)


def read(body: bytes) -> ChatRequest | BursarError:
    """What the skin makes of it; anything but a request or a refusal is raised."""
    try:
        return MessagesSkin().parse(body, HEADERS)
    except BursarError as error:
        return error


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), JSON, max_size=6), MESSAGES)
def test_whatever_json_comes_it_is_read_or_refused(fields: Json, messages: Any):
    for body in (fields, {**GOOD, **fields}, {**GOOD, **fields, "messages": messages}, {**GOOD, "messages": messages}):
        request = read(json.dumps(body).encode())
        if isinstance(request, BursarError):
            assert request.status == 400
            assert request.sentence
        else:
            assert request.prompt_tokens_bound > 0


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_refused(body: bytes):
    with pytest.raises(BursarError):
        MessagesSkin().parse(body, HEADERS)


def nested(depth: int) -> list[bytes]:
    """Bodies with a schema and with a tool's input that deep."""
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": "NESTED"}}
    schema = json.dumps({**GOOD, "tools": [{**WEATHER, "input_schema": {"x": "NESTED"}}]})
    talk = json.dumps({**GOOD, "messages": [{"role": "assistant", "content": [use]}]})
    return [text.replace('"NESTED"', "[" * depth + "]" * depth).encode() for text in (schema, talk)]


def test_json_nested_to_any_depth_is_read_or_refused():
    found = [read(body) for depth in (*range(100, 140), *range(900, 1010)) for body in nested(depth)]
    assert any(isinstance(request, BursarError) for request in found)
    assert any(isinstance(request, ChatRequest) for request in found)


@pytest.mark.parametrize("depth", [*range(118, 132, 2), *range(940, 1000, 12)])
async def test_json_nested_up_to_the_limit_and_beyond_is_refused_or_served_but_never_breaks(world: World, depth: int):
    for body in nested(depth):
        answer = await world.post(body, path=PATH)
        assert answer.status in (200, 400), answer.body
    await world.books_are_right()
