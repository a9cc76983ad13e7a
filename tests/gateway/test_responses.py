"""OpenAI's Responses outside, a chat inside: the same plan, hold, meter and charge, told as items and events."""

import asyncio
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.activity import GenerationStatus
from bursar.gateway._door import ChatRequest, Headers, parse_chat
from bursar.gateway._skin_responses import Output, ResponsesSkin, ResponsesWriter
from bursar.gateway._skin_responses_form import ITEMS_MAX, to_chat
from bursar.kernel.errors import BursarError
from bursar.providers import Chunk, UpstreamFailed, UpstreamOverloaded, UpstreamRefused
from tests.gateway.world import Answer, World, chunk, usage, whole

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
PATH = "/api/v1/responses"
HEADERS = Headers(None, None, None, None, None)
REQUIRED = {
    "id", "object", "created_at", "completed_at", "model", "status", "output", "error", "incomplete_details", "instructions",
    "metadata", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p", "presence_penalty", "frequency_penalty",
}  # fmt: skip
USAGE = {
    "input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens", "cost", "is_byok",
    "cost_details",
}  # fmt: skip
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": True}


async def respond(world: World, given: Any = "Hello", *, key: str | None = None, **fields: Any) -> Answer:
    body = {"model": "demo/echo-1" if world.upstream is None else "acme/prime", "input": given, **fields}
    return await world.post(json.dumps(body).encode(), path=PATH, key=key)


def events(answer: Answer | bytes) -> list[Json]:
    """Of a stream that ended properly: numbered from 0, each named on its `event:` line, `[DONE]` after the last."""
    body = (answer if isinstance(answer, bytes) else answer.body).decode()
    *blocks, done = [block for block in body.removesuffix("\n\n").split("\n\n") if not block.startswith(":")]
    assert done == "data: [DONE]"
    found = []
    for block in blocks:
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def reassembled(found: Sequence[Json]) -> Json:
    """The response that a stream told, put together from its deltas by OpenAI's rules; its order is checked on the way."""
    first, second, *steps, last = found
    assert (first["type"], second["type"]) == ("response.created", "response.in_progress")
    assert first["response"]["status"] == second["response"]["status"] == "in_progress"
    assert first["response"]["output"] == second["response"]["output"] == []
    items: list[Json] = []
    parts: dict[tuple[int, str, int], Json] = {}
    done: set[int] = set()
    for event in steps:
        kind = event["type"].removeprefix("response.")
        if kind == "error":
            continue
        at = event["output_index"]
        if kind == "output_item.added":
            assert at == len(items)
            assert event["item"]["status"] == "in_progress"
            items.append(event["item"])
            continue
        assert at not in done
        if kind == "output_item.done":
            done.add(at)
            opened, closed = items[at], event["item"]
            assert {**opened, **{name: closed[name] for name in closed.keys() - opened.keys()}} == {
                **closed, "status": "in_progress",
                **{name: opened[name] for name in ("encrypted_content", "result") if name in opened},
            }  # fmt: skip
            items[at] = closed
            continue
        assert event["item_id"] == items[at]["id"]
        if kind.startswith("function_call_arguments"):
            _write_arguments(items[at], event)
        else:
            _write_part(items[at], parts, event)
    assert done == set(range(len(items)))
    assert last["type"] == f"response.{last['response']['status']}"
    assert last["response"]["output"] == items
    return dict(last["response"])


def _write_arguments(item: Json, event: Json) -> None:
    if event["type"].endswith("delta"):
        item["arguments"] += event["delta"]
    else:
        item["name"] = item["name"] or event["name"]  # some providers name the function late
        assert (event["arguments"], event["name"]) == (item["arguments"], item["name"])


def _write_part(item: Json, parts: dict[tuple[int, str, int], Json], event: Json) -> None:
    kind, at = event["type"], event["output_index"]
    place, index = ("summary", event["summary_index"]) if "summary" in kind else ("content", event["content_index"])
    if kind.endswith("part.added"):
        assert index == len(item[place])
        parts[at, place, index] = event["part"]
        item[place].append(event["part"])
        return
    part = parts[at, place, index]
    key = "refusal" if part["type"] == "refusal" else "text"
    if kind.endswith(".delta"):
        part[key] += event["delta"]
        if "logprobs" in part:
            part["logprobs"] += event["logprobs"]
    elif kind.endswith("part.done"):
        assert event["part"] == part
    else:
        assert kind.endswith("done")
        assert event[key] == part[key]


def same(one: Json, other: Json) -> bool:
    """But for what names the request and the hour."""
    return _plain(one) == _plain(other)


def _plain(response: Json) -> Any:
    text = json.dumps({**response, "created_at": 0, "completed_at": None})
    return json.loads(text.replace(response["id"], "gen"))


async def test_a_whole_answer_has_every_key_that_a_strict_client_requires(world: World):
    answer = await respond(world, "Tell me about holds")
    body = answer.json
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert body.keys() >= REQUIRED
    assert body["id"] == answer.headers["x-generation-id"]
    assert (body["object"], body["model"], body["status"]) == ("response", "demo/echo-1", "completed")
    assert body["completed_at"] >= body["created_at"] > 0
    [message] = body["output"]
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    [part] = message["content"]
    assert part.keys() == {"type", "text", "annotations", "logprobs"}
    assert (part["type"], part["annotations"]) == ("output_text", [])
    assert len(part["text"]) > 20
    assert body["usage"].keys() == USAGE
    assert isinstance(body["usage"]["input_tokens_details"]["cached_tokens"], int)
    assert body["usage"]["cost_details"].keys() == {
        "upstream_inference_cost", "upstream_inference_input_cost", "upstream_inference_output_cost",
    }  # fmt: skip


async def test_an_answer_repeats_what_was_asked(world: World):
    asked = {
        "instructions": "Be brief",
        "metadata": {"ticket": "7"},
        "temperature": 0.5,
        "top_p": 1,
        "presence_penalty": 0.25,
        "frequency_penalty": 0,
        "max_output_tokens": 400,
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "reasoning": {"effort": "low", "summary": "auto"},
        "user": "u-1",
        "store": False,
        "truncation": "disabled",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "service_tier": "auto",
    }
    body = (await respond(world, tools=[WEATHER], **asked)).json
    assert {name: body[name] for name in asked} == asked
    assert body["tools"] == [{**WEATHER, "description": None}]
    plain = (await respond(world)).json
    assert (plain["tools"], plain["tool_choice"], plain["parallel_tool_calls"]) == ([], "auto", True)
    assert (plain["metadata"], plain["text"]["format"], plain["store"]) == ({}, {"type": "text"}, False)


@pytest.mark.parametrize("model", ["demo/echo-1", "demo/scholar-1", "demo/flat-1"])
async def test_it_is_charged_exactly_like_a_chat_whole_or_streamed(world: World, model: str):
    chat = await world.chat("What does it cost?", model=model)
    one = await respond(world, "What does it cost?", model=model)
    other = await respond(world, "What does it cost?", model=model, stream=True)
    await world.books_are_right()
    rows = await world.generations()
    assert len({row.cost_nanos for row in rows}) == 1
    assert [row.api_type for row in rows] == ["completions"] * 3
    assert [row.streamed for row in rows] == [False, False, True]
    told = [each["usage"] for each in (one.json, reassembled(events(other)))]
    assert told[0] == told[1]
    assert told[0]["cost"] == chat.json["usage"]["cost"]
    cost = json.loads(one.body, parse_float=Decimal)["usage"]["cost"]
    assert Decimal(cost).scaleb(9) == rows[1].cost_nanos
    assert told[0]["output_tokens_details"]["reasoning_tokens"] == rows[1].reasoning_tokens
    text = one.json["output"][-1]["content"][0]["text"]
    assert text == chat.json["choices"][0]["message"]["content"]


async def test_a_stream_tells_what_the_whole_answer_says(world: World):
    one, other = await respond(world), await respond(world, stream=True)
    assert other.headers["content-type"].startswith("text/event-stream")
    told = reassembled(events(other))
    assert told["id"] == other.headers["x-generation-id"]
    assert same(told, one.json)
    kinds = [event["type"].removeprefix("response.") for event in events(other)]
    deltas = kinds.count("output_text.delta")
    assert deltas > 5
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added", *["output_text.delta"] * deltas,
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip


async def test_too_few_tokens_make_it_incomplete_and_say_why(world: World):
    one = (await respond(world, max_output_tokens=3)).json
    other = reassembled(events(await respond(world, max_output_tokens=3, stream=True)))
    for body in (one, other):
        assert body["status"] == "incomplete"
        assert body["incomplete_details"] == {"reason": "max_output_tokens"}
        assert body["output"][0]["status"] == "incomplete"
        assert body["usage"]["output_tokens"] == 3
        assert body["completed_at"] is None


# What a provider says, as items.


def deltas(*found: Json, finish: str = "stop") -> list[Json]:
    told = [{"id": "up", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in found]
    return [*told, chunk(finish=finish), chunk(usage=usage(5, 2))]


def call(index: int, identity: str | None, name: str | None, arguments: str) -> Json:
    function = {"arguments": arguments, **({} if name is None else {"name": name})}
    return {"index": index, **({} if identity is None else {"id": identity, "type": "function"}), "function": function}


SAID: list[tuple[str, list[Json], Json]] = [
    ("text", [{"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}], {"content": "Hello"}),
    ("refusal", [{"refusal": "I will"}, {"refusal": " not"}], {"content": None, "refusal": "I will not"}),
    (
        "thoughts and text",
        [{"reasoning": "Hm"}, {"reasoning": ", yes", "content": ""}, {"content": "Yes"}],
        {"reasoning": "Hm, yes", "content": "Yes"},
    ),
    (
        "thoughts of providers with their own name",
        [{"reasoning_content": "Hm"}, {"content": "Yes"}],
        {"reasoning_content": "Hm", "content": "Yes"},
    ),
    (
        "signed thoughts",
        [
            {"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.text", "signature": "sig", "format": "f", "index": 0}]},
            {"content": "Yes"},
        ],
        {
            "reasoning": "Hm",
            "content": "Yes",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "Hm", "signature": "sig", "format": "f", "index": 0}
            ],
        },
    ),
    (
        "a summary in two parts, and sealed thoughts",
        [
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "Fir", "index": 0, "id": "rs_1"}]},
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "st", "index": 0, "id": "rs_1"}]},
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "Then", "index": 1, "id": "rs_1"}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AAA", "index": 0, "id": "rs_1"}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "BBB", "index": 0, "id": "rs_2"}]},
            {"content": "Yes"},
        ],
        {
            "content": "Yes",
            "reasoning_details": [
                {"type": "reasoning.summary", "summary": "First", "index": 0, "id": "rs_1"},
                {"type": "reasoning.summary", "summary": "Then", "index": 1, "id": "rs_1"},
                {"type": "reasoning.encrypted", "data": "AAA", "index": 0, "id": "rs_1"},
                {"type": "reasoning.encrypted", "data": "BBB", "index": 0, "id": "rs_2"},
            ],
        },
    ),
    (
        "text and two calls, interleaved",
        [
            {"content": "Let me look"},
            {"tool_calls": [call(0, "call_a", "weather", "")]},
            {"tool_calls": [call(0, None, None, '{"at":'), call(1, "call_b", "weather", "{")]},
            {"tool_calls": [call(1, None, None, "}")]},
            {"tool_calls": [call(0, None, None, " 1}")]},
        ],
        {
            "content": "Let me look",
            "tool_calls": [call(0, "call_a", "weather", '{"at": 1}'), call(1, "call_b", "weather", "{}")],
        },
    ),
    (
        "calls that all come as number 0",
        [{"tool_calls": [call(0, "call_a", "one", "{}")]}, {"tool_calls": [call(0, "call_b", "two", "{}")]}],
        {"tool_calls": [call(0, "call_a", "one", "{}"), call(0, "call_b", "two", "{}")]},
    ),
    (
        "an image",
        [{"content": "Here"}, {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}],
        {"content": "Here", "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
    ),
]


@pytest.mark.parametrize(("streamed", "said"), [case[1:] for case in SAID], ids=[case[0] for case in SAID])
async def test_whatever_a_model_says_a_stream_tells_what_the_whole_answer_says(
    scripted: Callable[..., Any], streamed: list[Json], said: Json
):
    answer = whole("", usage=usage(5, 2))
    answer["choices"][0]["message"] = {"role": "assistant", "content": None, **said}
    one = await respond(await scripted([answer]))
    other = await respond(await scripted(deltas(*streamed)), stream=True)
    told = reassembled(events(other))
    assert same(told, one.json), (told["output"], one.json["output"])
    assert told["output"]


async def items_of(scripted: Callable[..., Any], *said: Json) -> list[Json]:
    world = await scripted(deltas(*said))
    return list(reassembled(events(await respond(world, stream=True)))["output"])


async def test_thoughts_are_items_with_their_summary_signature_and_seal(scripted: Callable[..., Any]):
    cases = {name: streamed for name, streamed, _ in SAID}
    signed, _ = await items_of(scripted, *cases["signed thoughts"])
    assert signed["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert (signed["signature"], signed["format"], signed["summary"]) == ("sig", "f", [])
    first, second, message = await items_of(scripted, *cases["a summary in two parts, and sealed thoughts"])
    assert [part["text"] for part in first["summary"]] == ["First", "Then"]
    assert [(each["id"], each["encrypted_content"]) for each in (first, second)] == [("rs_1", "AAA"), ("rs_2", "BBB")]
    assert message["content"][0]["text"] == "Yes"


async def test_a_function_call_is_an_item_with_its_arguments_whole(scripted: Callable[..., Any]):
    [streamed] = [streamed for name, streamed, _ in SAID if name == "text and two calls, interleaved"]
    message, one, other = await items_of(scripted, *streamed)
    assert message["type"] == "message"
    assert (one["type"], one["call_id"], one["name"], one["arguments"]) == (
        "function_call", "call_a", "weather", '{"at": 1}',
    )  # fmt: skip
    assert (other["call_id"], other["arguments"], other["status"]) == ("call_b", "{}", "completed")


async def test_calls_that_all_come_as_number_0_are_told_apart_by_their_ids(scripted: Callable[..., Any]):
    [streamed] = [streamed for name, streamed, _ in SAID if name == "calls that all come as number 0"]
    found = [(item["call_id"], item["name"], item["arguments"]) for item in await items_of(scripted, *streamed)]
    assert found == [("call_a", "one", "{}"), ("call_b", "two", "{}")]


async def test_of_an_answer_that_was_cut_the_last_item_is_incomplete(scripted: Callable[..., Any]):
    said = [{"content": "Look"}, {"tool_calls": [call(0, "a", "one", "{}"), call(1, "b", "two", '{"at"')]}]
    world = await scripted(deltas(*said, finish="length"))
    told = reassembled(events(await respond(world, stream=True)))
    assert [item["status"] for item in told["output"]] == ["completed", "completed", "incomplete"]


async def test_log_probabilities_come_along_when_included(scripted: Callable[..., Any]):
    answer = whole("Hi", usage=usage(5, 2))
    found = {"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "Ho", "logprob": -1}]}
    answer["choices"][0]["logprobs"] = {"content": [found], "refusal": None}
    world = await scripted([answer])
    body = (await respond(world, include=["message.output_text.logprobs"], top_logprobs=1)).json
    [told] = body["output"][0]["content"][0]["logprobs"]
    assert told == {
        "token": "Hi", "logprob": -0.5, "bytes": [], "top_logprobs": [{"token": "Ho", "logprob": -1, "bytes": []}],
    }  # fmt: skip
    assert world.upstream.calls[0].body["logprobs"] is True
    assert world.upstream.calls[0].body["top_logprobs"] == 1


# What is asked, as a chat.


def chat_of(given: Any, **fields: Any) -> Json:
    return to_chat({"model": "m", "input": given, **fields})


def test_the_input_becomes_messages():
    items = [
        {"role": "developer", "content": "Be kind"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "Look", "cache_control": {"type": "ephemeral"}},
            {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
            {"type": "input_file", "file_url": "https://x/b.pdf"},
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
            {"type": "input_video", "video_url": "https://x/c.mp4"},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}], "encrypted_content": "AAA"},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [
            {"type": "output_text", "text": "I see ", "annotations": []}, {"type": "output_text", "text": "it"}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
        {"role": "assistant", "content": "Sun"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
        {"role": "user", "content": "Thanks"},
    ]  # fmt: skip
    tool = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
    assert chat_of(items, instructions="Be brief")["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": [
            {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
            {"type": "file", "file": {"file_data": "https://x/b.pdf"}},
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
            {"type": "video_url", "video_url": {"url": "https://x/c.mp4"}},
        ]},
        {
            "role": "assistant",
            "content": "I see it",
            "reasoning_details": [
                {"type": "reasoning.summary", "summary": "Hm", "index": 0, "id": "rs_1"},
                {"type": "reasoning.encrypted", "data": "AAA", "index": 1, "id": "rs_1"},
            ],
            "tool_calls": [{"id": "c1", **tool}, {"id": "c2", **tool}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "rain"}]},
        {"role": "assistant", "content": "Sun"},
        {"role": "assistant", "content": None, "refusal": "No"},
        {"role": "user", "content": "Thanks"},
    ]  # fmt: skip
    assert chat_of("Hi")["messages"] == [{"role": "user", "content": "Hi"}]


async def test_the_output_of_one_response_is_good_input_for_the_next(scripted: Callable[..., Any]):
    _, streamed, said = SAID[4]
    output = [*await items_of(scripted, *streamed), *await items_of(scripted, *SAID[6][1])]
    first, second = chat_of([*output, {"type": "function_call_output", "call_id": "call_a", "output": "1"}])[
        "messages"
    ][:2]
    assert first["content"] == said["content"]
    assert first["reasoning_details"] == said["reasoning_details"], "with its signature, without the id that we made up"
    assert [made["id"] for made in second["tool_calls"]] == ["call_a", "call_b"]


def test_tools_text_and_reasoning_are_said_in_a_chats_words():
    schema = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True}
    chat = chat_of(
        "Hi",
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "high", "summary": "auto"},
        max_output_tokens=50,
        parallel_tool_calls=False,
        stop=["x"],
        metadata={"a": "b"},
    )
    assert chat["tools"] == [
        {"type": "function", "function": {name: WEATHER[name] for name in ("name", "parameters", "strict")}}
    ]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    named = {name: schema[name] for name in ("name", "schema", "strict")}
    assert chat["response_format"] == {"type": "json_schema", "json_schema": named}
    assert (chat["verbosity"], chat["reasoning"]) == ("low", {"effort": "high", "summary": "auto"})
    assert (chat["max_completion_tokens"], chat["parallel_tool_calls"], chat["stop"]) == (50, False, ["x"])
    assert "metadata" not in chat
    assert chat_of("Hi", text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in chat_of("Hi", text={"format": {"type": "text"}})
    assert chat_of("Hi", tool_choice="required")["tool_choice"] == "required"


async def test_what_is_only_for_responses_never_reaches_a_provider(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi", usage=usage(5, 2))])
    ours = {"provider": {"order": ["alpha"]}, "session_id": "s", "metadata": {"a": "b"}, "store": False, "include": []}
    await respond(world, **ours, user="u-1", truncation="auto", unknown=7, max_tool_calls=3)
    [called] = world.upstream.calls
    assert called.body.keys() == {"messages", "user"}
    row = await world.only_generation()
    assert (row.external_user, row.session_id) == ("u-1", "s")


def test_a_response_is_bounded_like_the_chat_it_is():
    asked = {"model": "m", "input": "x" * 1000, "tools": [WEATHER], "max_output_tokens": 9}
    request = ResponsesSkin().parse(json.dumps(asked).encode(), HEADERS)
    chat = parse_chat(json.dumps(chat_of("x" * 1000, tools=[WEATHER], max_output_tokens=9)).encode(), HEADERS)
    assert request.max_tokens == 9
    assert (request.prompt_tokens_bound, request.body) == (chat.prompt_tokens_bound, chat.body)
    image = {"type": "input_image", "image_url": "https://x/y.png"}
    seen = ResponsesSkin().parse(
        json.dumps({"model": "m", "input": [{"role": "user", "content": [image]}]}).encode(), HEADERS
    )
    assert seen.images == 1


# When it fails.


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_openrouters_with_its_real_status(world: World, stream: bool):
    _, key = await world.make_pool(0)
    for status, more in (
        (400, {"model": "demo/eco-1"}),
        (401, {"key": "sk-made-up"}),
        (402, {"key": key}),
        (404, {"provider": {"only": ["nobody"]}}),
        (502, {"given": "[[fail:500]]"}),
        (503, {"given": "[[fail:503]]"}),
    ):
        answer = await respond(world, stream=stream, **more)
        assert answer.status == status, answer.body
        assert answer.error["metadata"]["error_type"]


async def test_a_stream_that_breaks_off_tells_an_error_and_ends_as_failed(scripted: Callable[..., Any]):
    world = await scripted([chunk("Half of "), UpstreamOverloaded("The provider is overloaded.", before_output=False)])
    found = events(await respond(world, stream=True))
    error, last = found[-2:]
    assert (error["type"], error["code"], error["param"]) == ("error", "server_error", None)
    assert "overloaded" in error["message"]
    told = reassembled(found)
    assert (told["status"], told["error_type"]) == ("failed", "provider_overloaded")
    assert told["error"] == {"code": "server_error", "message": error["message"]}
    assert (told["output"][0]["status"], told["output"][0]["content"][0]["text"]) == ("incomplete", "Half of ")
    assert last["response"]["usage"]["output_tokens"] > 0
    row = await world.only_generation()
    assert row.status is GenerationStatus.FAILED
    assert row.cost_nanos > 0


async def test_a_failure_after_a_quiet_spell_is_a_whole_failed_stream(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bursar.gateway._exchange.KEEPALIVE_SECONDS", 0.01)

    async def think() -> None:
        await asyncio.sleep(0.05)

    world = await scripted([think, UpstreamRefused("Too long.")])
    answer = await respond(world, stream=True)
    assert answer.body.startswith(b": OPENROUTER PROCESSING\n\n")
    told = reassembled(events(answer))
    assert (told["status"], told["error"]["code"], told["output"]) == ("failed", "invalid_prompt", [])
    assert await world.books_are_right() == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_a_provider_ended_with_an_error_or_a_filter_says_so(
    scripted: Callable[..., Any], stream: bool
):
    for finish, status in (("error", "failed"), ("content_filter", "incomplete")):
        answer = whole("Half", usage=usage(5, 2))
        answer["choices"][0]["finish_reason"] = finish
        world = await scripted(deltas({"content": "Half"}, finish=finish) if stream else [answer])
        found = await respond(world, stream=stream)
        told = reassembled(events(found)) if stream else found.json
        assert told["status"] == status
        assert (told["error"] is not None, told["incomplete_details"]) == (
            (True, None) if finish == "error" else (False, {"reason": "content_filter"})
        )


async def test_the_end_is_sent_after_the_settlement_only(scripted: Callable[..., Any]):
    settled: list[bool] = []
    world = await scripted([chunk("Hi"), chunk(finish="stop"), chunk(usage=usage(5, 2))])

    async def on_send(_answer: Answer, message: Json) -> None:
        if b"response.completed" in message.get("body", b"") or b"output_text.done" in message.get("body", b""):
            settled.append(bool(await world.generations()))

    await world.post(b'{"model": "acme/prime", "input": "Hi", "stream": true}', path=PATH, on_send=on_send)
    assert settled == [True]


STATELESS: list[Json] = [
    {"store": True},
    {"store": "yes"},
    {"store": 0},
    {"background": 0},
    {"previous_response_id": "resp_1"},
    {"previous_response_id": ""},
    {"conversation": "conv_1"},
    {"prompt": {"id": "pmpt_1"}},
    {"background": True},
    {"input": [{"type": "item_reference", "id": "msg_1"}]},
]


@pytest.mark.parametrize("asked", STATELESS, ids=lambda asked: json.dumps(asked)[:40])
async def test_what_would_need_a_stored_response_is_400_and_says_that_nothing_is_stored(world: World, asked: Json):
    answer = await world.post(json.dumps({"model": "demo/echo-1", "input": "Hi", **asked}).encode(), path=PATH)
    assert answer.status == 400
    assert "stores no responses" in answer.error["message"]
    assert next(iter(asked)) in answer.error["message"]


@pytest.mark.parametrize(
    "kind", ["web_search", "file_search", "code_interpreter", "mcp", "custom", "openrouter:web_search"]
)
async def test_a_tool_that_would_run_here_is_400_and_named(world: World, kind: str):
    answer = await respond(world, tools=[{"type": kind, "name": "x"}])
    assert answer.status == 400
    assert kind in answer.error["message"]
    assert "functions that you run yourself" in answer.error["message"]
    assert "tools[0]" in answer.error["message"]


def said(*parts: Any) -> Json:
    return {"input": [{"role": "user", "content": list(parts)}]}


WRONG: list[Json] = [
    {"input": None},
    {"input": []},
    {"input": 7},
    {"input": {}},
    {"input": ["Hi"]},
    {"input": [{}]},
    {"input": [{"role": "robot", "content": "Hi"}]},
    {"input": [{"role": "user", "content": 7}]},
    {"input": [{"role": ["user"], "content": "Hi"}]},
    {"input": [{"type": "web_search_call"}]},
    {"input": [{"type": ["message"]}]},
    {"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": "x"}]}]},
    {"input": [{"type": "function_call", "name": "x", "arguments": {}, "call_id": "c"}]},
    {"input": [{"type": "function_call", "name": "x", "arguments": "{}"}]},
    {"input": [{"type": "function_call_output", "call_id": "c"}]},
    {"input": [{"type": "reasoning", "summary": "Hm"}]},
    {"input": [{"type": "reasoning", "summary": [], "encrypted_content": 7}]},
    {"input": [{"type": "reasoning", "summary": ["Hm"]}]},
    said("Hi"),
    said({"type": "text", "text": "Hi"}),
    said({"type": "input_text"}),
    said({"type": "input_image", "file_id": "file_1"}),
    said({"type": "input_file", "file_id": "file_1"}),
    said({"type": "input_file"}),
    said({"type": "input_audio", "input_audio": "AA"}),
    {"instructions": 7},
    {"model": None},
    {"model": 7},
    {"models": "demo/echo-1"},
    {"stream": "yes"},
    {"max_output_tokens": 0},
    {"max_output_tokens": "9"},
    {"max_output_tokens": True},
    {"temperature": "hot"},
    {"temperature": True},
    {"top_p": []},
    {"top_logprobs": 21},
    {"include": "all"},
    {"tools": {}},
    {"tools": ["weather"]},
    {"tools": [{"type": "function"}]},
    {"tools": [{"type": "function", "name": "x", "parameters": []}]},
    {"tools": [{"type": "function", "name": "x", "strict": "yes"}]},
    {"tool_choice": "sometimes"},
    {"tool_choice": {"type": "web_search"}},
    {"tool_choice": ["auto"]},
    {"parallel_tool_calls": "yes"},
    {"text": "json"},
    {"text": {"format": "json"}},
    {"text": {"format": {"type": "xml"}}},
    {"text": {"format": {"type": "json_schema", "name": "x"}}},
    {"text": {"format": {"type": "json_schema", "schema": {}}}},
    {"text": {"verbosity": 7}},
    {"reasoning": "high"},
    {"reasoning": {"effort": 3}},
    {"reasoning": {"max_tokens": -1}},
    {"metadata": []},
    {"metadata": {"a": 7}},
    {"metadata": {"a": "x" * 513}},
    {"metadata": {"x" * 65: "a"}},
    {"metadata": {str(number): "a" for number in range(17)}},
    {"user": 7},
    {"session_id": {}},
    {"provider": "demo"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: json.dumps(wrong)[:60])
async def test_a_wrong_field_is_400_and_named(world: World, wrong: Json):
    answer = await world.post(json.dumps({"model": "demo/echo-1", "input": "Hi", **wrong}).encode(), path=PATH)
    assert answer.status == 400, answer.body
    assert next(iter(wrong)).rstrip("s") in answer.error["message"]
    assert await world.generations() == []


def test_there_is_a_limit_to_the_items():
    with pytest.raises(BursarError, match=str(ITEMS_MAX)):
        chat_of([{"role": "user", "content": "x"}] * (ITEMS_MAX + 1))


@pytest.mark.parametrize("depth", [100, 120, 124, 128, 900, 960, 990])
@pytest.mark.parametrize("stream", [False, True])
async def test_json_nested_up_to_the_limit_is_refused_or_answered_whole_but_never_breaks(
    world: World, depth: int, stream: bool
):
    nested = '{"a":' * depth + "1" + "}" * depth
    body = f'{{"model": "demo/echo-1", "input": "Hi", "stream": {json.dumps(stream)}, "tools": [{{"type": "function", "name": "x", "parameters": {nested}}}]}}'
    answer = await world.post(body.encode(), path=PATH)
    assert answer.status in (200, 400), answer.body
    if answer.status == 200 and stream:
        assert events(answer)
    await world.books_are_right()


def deeper(frames: int, work: Callable[[], Any]) -> Any:
    return work() if frames == 0 else deeper(frames - 1, work)


def test_whatever_was_read_can_be_repeated_in_the_answer_also_from_deeper_in_the_stack():
    message = {"role": "assistant", "content": "Hi"}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer = {"id": "gen-1", "model": "m", "provider": "P", "created": 0, "choices": [choice], "usage": TOLD}
    outcomes = set()
    for depth in (*range(100, 140), *range(900, 1000)):
        nested = '{"a":' * depth + "1" + "}" * depth
        tool = f'{{"type": "function", "name": "x", "parameters": {nested}}}'
        request = read(f'{{"model": "m", "input": "Hi", "tools": [{tool}]}}'.encode())
        outcomes.add(type(request))
        if isinstance(request, ChatRequest):
            assert deeper(40, lambda request=request: ResponsesSkin().whole(request, answer))
    assert len(outcomes) == 2, "some were read, some refused"


# Whatever comes.


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = [
    "model", "models", "input", "instructions", "max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "reasoning",
    "text", "temperature", "metadata", "user", "provider", "session_id", "stream", "include", "top_logprobs", "store",
]  # fmt: skip
PART = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["input_text", "input_image", "input_file", "input_audio", "output_text", "refusal"])
        | JSON
    },
    optional=dict.fromkeys(("text", "image_url", "file_data", "file_url", "input_audio", "refusal", "detail"), JSON),
)
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning", "item_reference"]) | JSON,
        "role": st.sampled_from(["user", "assistant", "system", "developer"]) | JSON,
        "content": st.text() | st.lists(PART | JSON, max_size=3) | JSON,
        "summary": st.lists(st.fixed_dictionaries({"text": st.text() | JSON}), max_size=2) | JSON,
        **{name: st.text() | JSON for name in ("call_id", "name", "arguments", "output", "id", "encrypted_content", "signature")},
    },
)  # fmt: skip


def read(body: bytes) -> ChatRequest | BursarError:
    """What the skin makes of it; anything but a request or a refusal is raised."""
    try:
        return ResponsesSkin().parse(body, HEADERS)
    except BursarError as error:
        return error


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6), st.lists(ITEM | JSON, max_size=4) | JSON)
def test_whatever_json_comes_it_is_read_or_refused(fields: Json, items: Any):
    for body in (fields, {**fields, "model": "m", "input": "x"}, {"model": "m", "input": items}):
        request = read(json.dumps(body).encode())
        if isinstance(request, BursarError):
            assert request.status == 400
            assert request.sentence
        else:
            assert request.prompt_tokens_bound > 0
            assert request.body["messages"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_read_or_refused(body: bytes):
    request = read(body)
    assert not isinstance(request, BursarError) or request.status == 400


TEXT = st.text(max_size=5)
DETAIL = st.fixed_dictionaries(
    {"type": st.sampled_from(["reasoning.text", "reasoning.summary", "reasoning.encrypted"]) | JSON},
    optional={
        "text": TEXT | JSON, "summary": TEXT | JSON, "data": TEXT | JSON, "signature": TEXT | JSON, "format": TEXT | JSON,
        "id": st.sampled_from(["a", "b"]) | JSON, "index": st.integers(0, 2) | JSON,
    },
)  # fmt: skip
CALL = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | JSON,
        "id": st.sampled_from(["call_a", "call_b"]) | JSON,
        "function": st.fixed_dictionaries({}, optional={"name": TEXT | JSON, "arguments": TEXT | JSON}) | JSON,
    },
)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "content": TEXT | JSON,
        "refusal": TEXT | JSON,
        "reasoning": TEXT | JSON,
        "reasoning_content": JSON,
        "reasoning_details": st.lists(DETAIL | JSON, max_size=3) | JSON,
        "tool_calls": st.lists(CALL | JSON, max_size=3) | JSON,
        "images": st.lists(st.fixed_dictionaries({"image_url": st.fixed_dictionaries({"url": TEXT}) | JSON})) | JSON,
    },
)
LOGPROBS = st.none() | st.fixed_dictionaries({"content": st.lists(st.dictionaries(st.sampled_from(["token", "logprob", "bytes", "top_logprobs"]), JSON), max_size=2) | JSON}) | JSON  # fmt: skip
FINISH = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "error"])
TOLD = {
    "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 0, "is_byok": False,
    "cost_details": dict.fromkeys(
        ["upstream_inference_cost", "upstream_inference_prompt_cost", "upstream_inference_completions_cost"], 0
    ),
    "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}  # fmt: skip


def our_chunk(delta: Json, logprobs: Any = None, finish: str | None = None) -> Chunk:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return Chunk(value={"id": "gen-1", "model": "m", "provider": "P", "choices": [choice]})


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(DELTA, LOGPROBS), max_size=6), FINISH, st.booleans())
def test_whatever_a_provider_says_the_stream_is_whole_and_in_order(
    said: list[tuple[Json, Any]], finish: str, fails: bool
):
    request = read(b'{"model": "m", "input": "x"}')
    assert isinstance(request, ChatRequest)
    writer = ResponsesWriter(request, "gen-1", 0)
    out = [writer.chunk(our_chunk(delta, logprobs)) for delta, logprobs in said]
    out.append(writer.failed(UpstreamFailed("gone")) if fails else writer.chunk(our_chunk({}, None, finish)))
    out.append(writer.end({"model": "m", "provider": "P", "choices": [], "usage": TOLD}))
    told = reassembled(events(b"".join(out)))
    assert told["usage"]["total_tokens"] == 2
    if fails:
        assert told["status"] == "failed"


@settings(max_examples=300, deadline=None)
@given(DELTA, LOGPROBS, FINISH)
def test_a_message_told_in_one_piece_is_the_whole_answer(message: Json, logprobs: Any, finish: str):
    request = read(b'{"model": "m", "input": "x"}')
    assert isinstance(request, ChatRequest)
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
    answer = {"id": "gen-1", "model": "m", "provider": "P", "created": 0, "choices": [choice], "usage": TOLD}
    writer = ResponsesWriter(request, "gen-1", 0)
    out = writer.chunk(our_chunk(message, logprobs, finish)) + writer.end({"usage": TOLD})
    assert same(reassembled(events(out)), json.loads(ResponsesSkin().whole(request, answer)))


def test_a_long_answer_is_put_together_in_linear_time():
    output = Output("gen-1", lambda *_, **__: None)
    for _ in range(200_000):
        output.take({"content": "word "})
    output.end(complete=True)
    assert len(output.items[0]["content"][0]["text"]) == 1_000_000
