"""What a client gets when all goes well: the shapes, the cost, and the end that waits for the settlement."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from bursar.activity import Generation, GenerationStatus, UsageSource
from bursar.gateway import Available, Funds, Hold, Intent
from bursar.kernel.money import Nanos
from tests.gateway.world import World, chunk, usage, whole

pytestmark = pytest.mark.anyio

USAGE_KEYS = {
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost",
    "is_byok",
    "cost_details",
    "prompt_tokens_details",
    "completion_tokens_details",
}


def exact(body: bytes | str) -> Any:
    """JSON with numbers as exact decimals."""
    return json.loads(body, parse_float=Decimal)


def assert_usage(found: dict[str, Any]) -> None:
    assert found.keys() >= USAGE_KEYS
    assert found["total_tokens"] == found["prompt_tokens"] + found["completion_tokens"]
    assert isinstance(found["cost"], int | float | Decimal)
    assert found["is_byok"] is False
    assert found["cost_details"].keys() == {
        "upstream_inference_cost",
        "upstream_inference_prompt_cost",
        "upstream_inference_completions_cost",
    }
    assert isinstance(found["prompt_tokens_details"]["cached_tokens"], int)
    assert isinstance(found["completion_tokens_details"]["reasoning_tokens"], int)


async def test_a_whole_answer_has_every_key_that_a_strict_client_requires(world: World):
    answer = await world.chat("Tell me about holds")
    body = answer.json
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert body["id"].startswith("gen-")
    assert answer.headers["x-generation-id"] == body["id"]
    assert body["object"] == "chat.completion"
    assert isinstance(body["created"], int)
    assert body["model"] == "demo/echo-1"
    assert body["provider"] == "Demo"
    assert body["system_fingerprint"] is None
    [choice] = body["choices"]
    assert choice["index"] == 0
    assert choice["finish_reason"] == choice["native_finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert_usage(body["usage"])


async def test_a_stream_has_every_key_that_a_strict_client_requires_and_its_usage_in_the_last_chunk(world: World):
    answer = await world.chat("Tell me about holds", stream=True)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, last = answer.chunks
    identity = answer.headers["x-generation-id"]
    for each in [*chunks, last]:
        assert each["id"] == identity
        assert each["object"] == "chat.completion.chunk"
        assert isinstance(each["created"], int)
        assert (each["model"], each["provider"]) == ("demo/echo-1", "Demo")
        assert each.get("system_fingerprint", "") is not None, "OpenRouter's TypeScript client refuses null in a chunk"
        for choice in each["choices"]:
            assert choice.keys() >= {"index", "delta", "finish_reason", "native_finish_reason"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert answer.finish_reasons == ["stop"]
    assert [each for each in chunks if "usage" in each] == []
    assert last["choices"] == []
    assert_usage(last["usage"])
    assert answer.complete


async def test_a_stream_says_what_the_whole_answer_says_and_costs_the_same(world: World):
    one, other = await world.chat("The same question"), await world.chat("The same question", stream=True)
    assert other.text == one.json["choices"][0]["message"]["content"]
    assert other.chunks[-1]["usage"] == one.json["usage"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["demo/echo-1", "demo/scholar-1", "demo/flat-1", "demo/free-1"])
async def test_the_cost_in_the_answer_is_the_ledgers_charge_and_the_activity_to_the_nano(
    world: World, model: str, stream: bool
):
    before = await world.balance()
    answer = await world.chat("What does it cost?", model=model, stream=stream)
    told = exact(answer.data[-2] if stream else answer.body)["usage"]
    row = await world.only_generation()
    after = await world.balance()
    assert Decimal(told["cost"]).scaleb(9) == row.cost_nanos == after.spent == before.available - after.available
    assert (row.prompt_tokens, row.completion_tokens) == (told["prompt_tokens"], told["completion_tokens"])
    assert row.id == answer.headers["x-generation-id"]
    assert row.status is GenerationStatus.OK
    assert row.usage_source is UsageSource.REPORTED
    assert row.streamed is stream
    prices = {"demo/flat-1": 10_000_000, "demo/free-1": 0}
    assert row.cost_nanos == prices.get(model, row.cost_nanos)
    assert (row.cost_nanos > 0) is (model != "demo/free-1")
    assert (row.reasoning_tokens > 0) is (model == "demo/scholar-1")


async def test_the_charge_is_tokens_times_price_rounded_up_once(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi", usage=usage(1000, 100, prompt_tokens_details={"cached_tokens": 10}))])
    await world.chat(model="acme/prime")
    row = await world.only_generation()
    assert row.cost_nanos == 1000 * 7 + 100 * 13
    assert row.cached_tokens == 10


class Watched:
    """Funds that note in which order things happened, and answer late."""

    def __init__(self, funds: Funds, seen: list[str]) -> None:
        self._funds = funds
        self._seen = seen

    async def hold(self, intent: Intent) -> Hold:
        held = await self._funds.hold(intent)
        self._seen.append("held")
        return held

    async def extend(self, hold: Hold, extra: Nanos) -> bool:
        return await self._funds.extend(hold, extra)

    async def settle(self, hold: Hold, generation: Generation) -> Nanos:
        await asyncio.sleep(0.05)
        charged = await self._funds.settle(hold, generation)
        self._seen.append("settled")
        return charged

    async def void(self, hold: Hold, generation: Generation) -> None:
        await self._funds.void(hold, generation)
        self._seen.append("void")

    def available(self, hold: Hold) -> Available:
        return self._funds.available(hold)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_end_of_an_answer_is_sent_only_after_its_settlement_is_durable(
    scripted: Callable[..., Any], stream: bool
):
    seen: list[str] = []

    async def dispatched() -> None:
        seen.append("dispatched")

    steps: list[Any] = [dispatched, chunk("one "), chunk("two"), chunk(finish="stop"), chunk(usage=usage(5, 2))]
    if not stream:
        steps = [dispatched, whole("one two", usage=usage(5, 2))]
    world = await scripted(steps, funds=lambda funds: Watched(funds, seen))

    async def on_send(_answer: Any, message: dict[str, Any]) -> None:
        body = message.get("body", b"")
        if b'"one ' in body:
            seen.append("text")
        if b'"finish_reason":"stop"' in body:
            seen.append("finish")
        if b"[DONE]" in body or (not stream and body):
            seen.append("end")

    body = {"model": "acme/prime", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}
    await world.post(json.dumps(body).encode(), on_send=on_send)
    whole_order = ["held", "dispatched", "settled", "text", "finish", "end"]
    assert seen == (["held", "dispatched", "text", "settled", "finish", "end"] if stream else whole_order)
    await world.books_are_right()


async def test_a_native_finish_reason_is_translated_and_kept(scripted: Callable[..., Any]):
    answer = whole("Hi", usage=usage(5, 2))
    answer["choices"][0]["finish_reason"] = "max_tokens"
    world = await scripted([answer])
    [choice] = (await world.chat(model="acme/prime")).json["choices"]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("length", "max_tokens")


async def test_tool_calls_pass_through_a_stream_and_their_text_is_counted(scripted: Callable[..., Any]):
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    first = {"id": "up", "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}
    world = await scripted([first, chunk(finish="tool_calls")])
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.chunks[0]["choices"][0]["delta"]["tool_calls"] == [call]
    assert answer.finish_reasons == ["tool_calls"]
    row = await world.only_generation()
    assert row.usage_source is UsageSource.COUNTED
    assert row.completion_tokens > 0


async def test_what_only_openrouter_knows_never_reaches_the_provider_and_the_rest_does(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi", usage=usage(5, 2))])
    ours = {"provider": {"order": ["alpha"]}, "session_id": "s", "usage": {"include": True}, "route": "fallback"}
    await world.chat(model="acme/prime", temperature=0.5, seed=7, user="u-1", **ours)
    [call] = world.upstream.calls
    assert call.upstream_model == "prime-1"
    assert call.body.keys() == {"messages", "temperature", "seed", "user"}
    row = await world.only_generation()
    assert (row.external_user, row.session_id) == ("u-1", "s")


async def test_the_activity_keeps_who_asked_and_never_what_was_said(world: World):
    headers = {
        "http-referer": "https://app.example",
        "x-title": "My App",
        "user-agent": "curl/9",
        "x-session-id": "abc",
    }
    body = {"model": "demo/echo-1", "messages": [{"role": "user", "content": "a very private question"}]}
    answer = await world.post(json.dumps(body).encode(), headers=headers)
    row = await world.only_generation()
    assert (row.http_referer, row.app_title, row.user_agent, row.session_id) == (
        "https://app.example",
        "My App",
        "curl/9",
        "abc",
    )
    assert row.user_id == world.cast.admin.id
    kept = repr(row)
    assert "private" not in kept
    assert answer.json["choices"][0]["message"]["content"][:20] not in kept
    [attempt] = json.loads(row.attempts)
    assert attempt["status"] == 200
    assert attempt["endpoint_id"] == "demo/echo-1@demo/echo-1"


async def test_a_quiet_stream_is_kept_alive_by_comments(scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bursar.gateway._exchange.KEEPALIVE_SECONDS", 0.01)

    async def think() -> None:
        await asyncio.sleep(0.05)

    world = await scripted([think, chunk("Hi"), think, chunk(finish="stop"), chunk(usage=usage(5, 2))])
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.body.startswith(b": OPENROUTER PROCESSING\n\n")
    assert answer.text == "Hi"
    await world.books_are_right()
