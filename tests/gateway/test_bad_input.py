"""Bad input is a clear 400 or 413 that names the field; nothing is held, nothing is dispatched, nothing breaks."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.gateway._door import BODY_BYTES_MAX, JSON_DEPTH_MAX, ChatRequest, Headers, parse_chat
from bursar.kernel.errors import BursarError
from tests.gateway.world import World

pytestmark = pytest.mark.anyio

HEADERS = Headers(None, None, None, None, None)
GOOD: dict[str, Any] = {"model": "demo/echo-1", "messages": [{"role": "user", "content": "Hi"}]}


async def refused(world: World, body: bytes | Sequence[bytes], status: int = 400) -> dict[str, Any]:
    answer = await world.post(body)
    assert answer.status == status, (body[:200], answer.body)
    assert answer.headers["content-type"] == "application/json"
    assert "Traceback" not in answer.body.decode()
    return answer.error


NO_OBJECT: list[bytes] = [
    b"",
    b" ",
    b"{",
    b"}",
    b"null",
    b"[]",
    b'"text"',
    b"7",
    b"{'model': 'demo/echo-1'}",
    b'{"model": "demo/echo-1",}',
    b'{"model": NaN}',
    b'{"model": 1e999}',
    b'{"a": 1}{"b": 2}',
    b"\xff\xfe{}",
    b'{"model": "\xff"}',
    b'{"model": "\xed\xa0\x80"}',
    b'{"model": "\\ud800"}',
    b"\0",
    b'{"model": "demo/echo-1\0"}',
    b"\xef\xbb\xbf{}",
    b"model=demo&messages=hi",
    b"<xml/>",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 900 + b"]" * 900,
    b'{"messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
]


async def test_a_body_that_is_no_json_object_is_400(world: World):
    for body in NO_OBJECT:
        await refused(world, body)
    assert await world.books_are_right() == 0


WRONG: list[dict[str, Any]] = [
    {"messages": None},
    {"messages": []},
    {"messages": "Hi"},
    {"messages": {}},
    {"messages": ["Hi"]},
    {"messages": [{}]},
    {"messages": [{"role": 7, "content": "Hi"}]},
    {"messages": [{"role": "user", "content": 7}]},
    {"messages": [{"role": "user", "content": {"a": 1}}]},
    {"messages": [{"role": "user", "content": True}]},
    {"model": None},
    {"model": ""},
    {"model": 7},
    {"model": ["demo/echo-1"]},
    {"model": {}},
    {"model": "x" * 10_000},
    {"model": "demo/echo-1\0"},
    {"model": "x\0", "models": ["demo/echo-1"]},
    {"model": "x" * 5_000, "models": ["demo/echo-1"]},
    {"models": "demo/echo-1"},
    {"models": [7]},
    {"models": ["demo/echo-1"] * 9},
    {"models": [""] * 9},
    {"max_tokens": "100", "max_completion_tokens": 100},
    {"stream": "yes"},
    {"stream": 1},
    {"stream": []},
    {"max_tokens": 0},
    {"max_tokens": -1},
    {"max_tokens": 1.5},
    {"max_tokens": "100"},
    {"max_tokens": True},
    {"max_tokens": 10**30},
    {"max_completion_tokens": 0},
    {"max_completion_tokens": []},
    {"n": 0},
    {"n": 17},
    {"n": "2"},
    {"user": 7},
    {"user": "x" * 257},
    {"user": "a\0b"},
    {"session_id": {}},
    {"session_id": "a\0b"},
    {"provider": "demo"},
    {"provider": {"order": "demo"}},
    {"provider": {"preferred_max_latency": {"p50": 1, "p99": {}}}},
    {"provider": {"preferred_min_throughput": {"p75": True}}},
]


async def test_a_field_of_the_wrong_type_is_400_and_named(world: World):
    for wrong in WRONG:
        for stream in (False, True):
            error = await refused(world, json.dumps({**GOOD, "stream": stream, **wrong}).encode())
            assert next(iter(wrong)).rstrip("s") in error["message"], wrong
            assert error["metadata"]["error_type"] == "invalid_request"
    assert await world.generations() == []


async def test_an_unknown_model_is_400_with_a_suggestion(world: World):
    error = await refused(world, json.dumps({**GOOD, "model": "demo/eco-1"}).encode())
    assert error["message"].startswith("demo/eco-1 is not a valid model ID. Did you mean demo/echo-1")


async def test_json_nested_up_to_the_named_limit_is_served_and_beyond_it_refused(world: World):
    statuses = set()
    for depth in (1, 100, *range(JSON_DEPTH_MAX - 6, JSON_DEPTH_MAX + 3), 500, *range(940, 1100, 8)):
        nested = "[" * depth + "]" * depth
        for body in (
            f'{{"model": "demo/echo-1", "messages": [{{"role": "user", "content": "Hi", "x": {nested}}}]}}',
            f'{{"model": "demo/echo-1", "tools": {nested}, "messages": [{{"role": "user", "content": "Hi"}}]}}',
            f'{{"model": "demo/echo-1", "seed": {nested}, "messages": [{{"role": "user", "content": "Hi"}}]}}',
        ):
            answer = await world.post(body.encode())
            deep = depth > JSON_DEPTH_MAX
            assert answer.status in ((400,) if deep else (200, 400)), (depth, answer.body)
            assert not deep or (str(JSON_DEPTH_MAX) in answer.body.decode() or "JSON" in answer.body.decode())
            statuses.add(answer.status)
    assert statuses == {200, 400}
    await world.books_are_right()


async def test_a_body_over_the_limit_is_413_whether_declared_or_streamed(world: World):
    declared = await world.post(b"{}", headers={"content-length": str(BODY_BYTES_MAX + 1)})
    assert declared.status == 413
    assert "20 MiB" in declared.error["message"]
    piece = b" " * (1024 * 1024)
    streamed = await world.post([piece] * 21)
    assert streamed.status == 413
    assert streamed.error["metadata"]["error_type"] == "payload_too_large"
    fits = await world.post([json.dumps(GOOD).encode(), *[piece] * 19])
    assert fits.status == 200


async def test_a_body_may_come_in_any_number_of_pieces(world: World):
    body = json.dumps({**GOOD, "messages": [{"role": "user", "content": "\u00fc\U0001f600"}]}).encode()
    answer = await world.post([body[at : at + 1] for at in range(len(body))])
    assert answer.status == 200


async def test_unusual_but_valid_requests_are_served(world: World):
    for more in (
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "user", "content": "a\0b"}]},
        {"messages": [{"role": "system", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": []}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "odd"}, 7, None]}]},
        {"max_tokens": None, "stream": None, "user": None, "provider": None, "n": None, "models": None},
        {"unknown_field": {"deep": [1, 2, 3]}, "temperature": 0.1},
        {"seed": 10**30},
        {"max_tokens": 1},
    ):
        answer = await world.post(json.dumps({**GOOD, **more}).encode())
        assert answer.status == 200, (more, answer.body)
    await world.books_are_right()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = [
    *GOOD,
    "models",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "user",
    "session_id",
    "provider",
    "tools",
]
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.text() | JSON, "content": JSON}) | JSON, max_size=3)


def read(body: bytes) -> ChatRequest | BursarError:
    """What the door makes of it; anything but a request or a refusal is raised."""
    try:
        return parse_chat(body, HEADERS)
    except BursarError as error:
        return error


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), JSON, max_size=6), MESSAGES | JSON)
def test_whatever_json_comes_it_is_read_or_refused(fields: dict[str, Any], messages: Any):
    for body in (fields, {**GOOD, **fields}, {**fields, "messages": messages, "model": "m"}):
        request = read(json.dumps(body).encode())
        if isinstance(request, BursarError):
            assert request.status == 400
            assert request.sentence
        else:
            assert request.prompt_tokens_bound > 0
            assert request.choices >= 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_read_or_refused(body: bytes):
    request = read(body)
    assert not isinstance(request, BursarError) or request.status == 400


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_a_prompt_is_bounded_by_its_bytes(text: str):
    body = json.dumps({**GOOD, "messages": [{"role": "user", "content": text}]}, ensure_ascii=False)
    try:
        encoded = body.encode()
    except UnicodeEncodeError:
        return
    assert parse_chat(encoded, HEADERS).prompt_tokens_bound >= len(text.encode())


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 1_000, 1_020, 2_000, 100_000])
@pytest.mark.parametrize("field", ["tools", "response_format", "metadata"])
async def test_json_nested_to_any_depth_is_answered_or_refused_and_never_a_fault_of_ours(
    world: World, field: str, depth: int
):
    nested = "[" * depth + "]" * depth if field == "tools" else '{"a":' * depth + "1" + "}" * depth
    body = f'{{"model":"demo/echo-1","messages":[{{"role":"user","content":"Hi"}}],"{field}":{nested}}}'
    assert (await world.post(body.encode())).status in {200, 400}
