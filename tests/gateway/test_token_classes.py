"""Every class of tokens at its own price, from the provider's wire to the ledger; and what of a request reaches which provider."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bursar.catalog import Pricing
from bursar.keys import KeyChecker
from bursar.storage import Database
from tests.conftest import Cast
from tests.gateway.test_messages import events, reassembled
from tests.gateway.test_mutated_streams import PRICES, PRICING
from tests.gateway.wires import STREAM_END, STREAM_HEAD, catalog, framed, impatient_world, named, response, sse
from tests.gateway.world import CREDIT, World
from tests.support.loopback import Line, serving

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
MESSAGES = "/api/v1/messages"
HI = [{"role": "user", "content": "Hi"}]


REASONS = {"supported_parameters": ("max_tokens", "reasoning")}


class Behind:
    """A gateway in front of one provider, which answers every request alike."""

    def __init__(self, world: World, asked: list[bytes]) -> None:
        self.world = world
        self._asked = asked

    @property
    def asked(self) -> Json:
        """The body of the last request that the provider got."""
        body: Json = json.loads(self._asked[-1].partition(b"\r\n\r\n")[2])
        return body


@pytest.fixture
async def behind(database: Database, cast: Cast, checker: KeyChecker) -> AsyncIterator[Callable[..., Any]]:
    """`await behind("openai", whole=…)` or `stream=…`: the bytes of the answer's body. The model reasons unless told otherwise."""
    stack = AsyncExitStack()

    async def make(
        protocol: str, *, whole: Json | None = None, stream: bytes = b"", pricing: Pricing = PRICING, **model: Any
    ) -> Behind:
        answer = response(200, json.dumps(whole).encode()) if whole else STREAM_HEAD + framed(stream) + STREAM_END
        asked: list[bytes] = []

        async def talk(line: Line) -> None:
            while True:
                asked.append(await line.request())
                await line.say(answer)

        server = await stack.enter_async_context(serving(talk))
        world = await impatient_world(
            database, cast, checker, catalog(protocol, server.url, pricing=pricing, **{**REASONS, **model})
        )
        stack.push_async_callback(world.providers.close)
        return Behind(world, asked)

    async with stack:
        yield make


# Of 1,000 prompt tokens 600 are read from a cache and 300 written to one; of 50 others 20 are thinking.
COST = 100 * PRICES.prompt + 600 * PRICES.cached + 300 * PRICES.written + 30 * PRICES.completion + 20 * PRICES.reasoning
THERE = {
    "input_tokens": 100, "cache_read_input_tokens": 600, "cache_creation_input_tokens": 300, "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 20},
}  # fmt: skip
OPENAIS = {
    "prompt_tokens": 1_000, "completion_tokens": 50, "total_tokens": 1_050,
    "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 300},
    "completion_tokens_details": {"reasoning_tokens": 20},
}  # fmt: skip


def message(**more: Any) -> Json:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "prime-1", "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": THERE, **more,
    }  # fmt: skip


def message_events(**end: Any) -> bytes:
    begun = {**message(content=[], stop_reason=None), "usage": {**THERE, "output_tokens": 1}}
    delta = {"stop_reason": "end_turn", "stop_sequence": None, **end}
    return named(
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 50}},
        {"type": "message_stop"},
    )


def completion(**more: Any) -> Json:
    said = {"role": "assistant", "content": "Hello"}
    return {"id": "up-1", "choices": [{"index": 0, "message": said, "finish_reason": "stop", **more}], "usage": OPENAIS}


def completion_events() -> bytes:
    choice = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}
    return sse({"id": "up-1", "choices": [choice]}, {"id": "up-1", "choices": [], "usage": OPENAIS}, "[DONE]")


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        ("anthropic", {"whole": message()}),
        ("anthropic", {"stream": message_events()}),
        ("openai", {"whole": completion()}),
        ("openai", {"stream": completion_events()}),
    ],
    ids=["anthropic", "anthropic streamed", "openai", "openai streamed"],
)
async def test_what_a_cache_read_and_wrote_and_what_was_thought_is_charged_each_at_its_price(
    behind: Callable[..., Any], protocol: str, answer: Json
):
    there: Behind = await behind(protocol, **answer)
    got = await there.world.chat(model="acme/prime", stream="stream" in answer)
    usage = (got.chunks[-1] if "stream" in answer else got.json)["usage"]
    row = await there.world.only_generation()
    assert row.cost_nanos == COST
    assert round(usage["cost"] * CREDIT) == COST
    assert (row.prompt_tokens, row.cached_tokens, row.cache_write_tokens) == (1_000, 600, 300)
    assert (row.completion_tokens, row.reasoning_tokens) == (50, 20)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 600
    assert usage["prompt_tokens_details"]["cache_write_tokens"] == 300
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 20


@pytest.mark.parametrize("protocol", ["anthropic", "openai"])
async def test_an_anthropic_client_reads_the_same_classes_in_its_own_words(behind: Callable[..., Any], protocol: str):
    there: Behind = await behind(protocol, whole=message() if protocol == "anthropic" else completion())
    body = {"model": "acme/prime", "max_tokens": 100, "messages": HI}
    usage = (await there.world.post(json.dumps(body).encode(), path=MESSAGES)).json["usage"]
    assert {name: usage[name] for name in THERE} == THERE
    assert (await there.world.only_generation()).cost_nanos == COST


async def test_an_answer_that_breaks_off_is_charged_for_its_prompt_as_it_was_counted_and_cached(
    behind: Callable[..., Any],
):
    there: Behind = await behind("anthropic", stream=message_events().partition(b"event: content_block_stop")[0])
    await there.world.chat(model="acme/prime", stream=True)
    row = await there.world.only_generation()
    assert (row.prompt_tokens, row.cached_tokens, row.cache_write_tokens, row.completion_tokens) == (1_000, 600, 300, 1)
    words = 1 - row.reasoning_tokens
    assert row.cost_nanos == COST - 30 * PRICES.completion - 20 * PRICES.reasoning + (
        words * PRICES.completion + row.reasoning_tokens * PRICES.reasoning
    )


async def test_cache_marks_and_thoughts_reach_anthropic_and_no_provider_that_refuses_them(behind: Callable[..., Any]):
    mark = {"type": "ephemeral"}
    thought = {"type": "reasoning.text", "text": "Hm", "signature": "s1", "format": "anthropic-claude-v1", "index": 0}
    talk = [
        {"role": "system", "content": [{"type": "text", "text": "Be short.", "cache_control": mark}]},
        *HI,
        {"role": "assistant", "content": "Hello", "reasoning": "Hm", "reasoning_details": [thought]},
        *HI,
    ]
    body = json.dumps({"model": "acme/prime", "messages": talk, "reasoning": {"effort": "low"}}).encode()
    there: Behind = await behind("anthropic", whole=message())
    await there.world.post(body)
    assert there.asked["system"][0]["cache_control"] == mark
    assert there.asked["messages"][1]["content"][0] == {"type": "thinking", "thinking": "Hm", "signature": "s1"}

    elsewhere: Behind = await behind("openai", whole=completion())
    await elsewhere.world.post(body)
    assert elsewhere.asked["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "Be short."}]},
        *HI,
        {"role": "assistant", "content": "Hello"},
        *HI,
    ]
    assert elsewhere.asked["reasoning_effort"] == "low"
    assert "reasoning" not in elsewhere.asked


@pytest.mark.parametrize("protocol", ["anthropic", "openai"])
@pytest.mark.parametrize(
    "wanted", [{"reasoning": {"effort": "high"}}, {"reasoning": {"max_tokens": 2_000}}, {"reasoning_effort": "high"}]
)
async def test_a_model_that_does_not_reason_is_not_told_how_much_to(
    behind: Callable[..., Any], protocol: str, wanted: Json
):
    answer = {"whole": message() if protocol == "anthropic" else completion()}
    there: Behind = await behind(protocol, **answer, supported_parameters=("max_tokens",))
    assert (await there.world.chat(model="acme/prime", max_tokens=4_000, **wanted)).status == 200
    plain = there.asked
    assert plain.keys().isdisjoint({"reasoning", "reasoning_effort", "thinking", "output_config"})
    reasons: Behind = await behind(protocol, **answer)
    await reasons.world.chat(model="acme/prime", max_tokens=4_000, **wanted)
    assert reasons.asked.keys() - plain.keys() == {"thinking" if protocol == "anthropic" else "reasoning_effort"}


async def test_a_model_that_reasons_without_being_told_hides_its_thoughts_all_the_same(behind: Callable[..., Any]):
    there: Behind = await behind(
        "openai",
        whole=completion(message={"role": "assistant", "content": "Hello", "reasoning": "Hm"}),
        supported_parameters=("max_tokens",),
    )
    answer = await there.world.chat(model="acme/prime", reasoning={"effort": "low", "exclude": True})
    assert "reasoning" not in answer.json["choices"][0]["message"]
    assert there.asked.keys().isdisjoint({"reasoning", "reasoning_effort"})


@pytest.mark.parametrize("field", [{"reasoning": {"exclude": True}}, {"include_reasoning": False}])
async def test_thoughts_that_nobody_wants_to_see_are_hidden_and_charged(behind: Callable[..., Any], field: Json):
    deltas = [{"reasoning": "Hm"}, {"content": "Hello"}, {"reasoning_content": "Hm, hm"}]
    chunks = [{"id": "up-1", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    there: Behind = await behind("openai", stream=sse(*chunks) + completion_events())
    answer = await there.world.chat(model="acme/prime", stream=True, **field)
    assert answer.text == "HelloHello"
    assert b"Hm" not in answer.body
    assert (await there.world.only_generation()).cost_nanos == COST


async def test_a_budget_for_thinking_is_held_for(behind: Callable[..., Any]):
    there: Behind = await behind("openai", stream=completion_events())
    _, key = await there.world.make_pool(40_000)
    ask: Json = {"model": "acme/prime", "stream": True, "key": key}
    refused = await there.world.chat(**ask, reasoning={"max_tokens": 3_000})
    assert refused.status == 402
    assert "You requested up to 4024 tokens" in refused.error["message"]
    assert (await there.world.chat(**ask, reasoning={"effort": "low"})).status == 200
    assert (await there.world.chat(**ask, max_tokens=100, reasoning={"max_tokens": 3_000})).status == 200


@pytest.mark.parametrize("wrong", ["low", [], {"max_tokens": 0}, {"max_tokens": "7"}, {"max_tokens": True}])
async def test_a_budget_that_is_none_is_400_and_named(behind: Callable[..., Any], wrong: Any):
    there: Behind = await behind("openai", whole=completion())
    answer = await there.world.chat(model="acme/prime", reasoning=wrong)
    assert (answer.status, answer.error["metadata"]["error_type"]) == (400, "invalid_request")
    assert answer.error["message"].startswith("reasoning")


STOPS = ["END", "STOP"]
STOPPED = [
    ("anthropic", message(stop_reason="stop_sequence", stop_sequence="STOP"), ("stop_sequence", "STOP")),
    ("anthropic", message(stop_reason="stop_sequence"), ("stop_sequence", None)),
    ("anthropic", message(stop_reason="max_tokens"), ("max_tokens", None)),
    ("openai", completion(stop_reason="STOP"), ("stop_sequence", "STOP")),  # as vLLM says it
    ("openai", completion(stop_reason="</s>"), ("end_turn", None)),
    ("openai", completion(stop_reason=128009), ("end_turn", None)),
    ("openai", completion(), ("end_turn", None)),
]


@pytest.mark.parametrize(("protocol", "answer", "told"), STOPPED)
async def test_which_sequence_stopped_the_answer_is_told_where_the_provider_tells(
    behind: Callable[..., Any], protocol: str, answer: Json, told: tuple[str, str | None]
):
    there: Behind = await behind(protocol, whole=answer)
    body = {"model": "acme/prime", "max_tokens": 100, "messages": HI, "stop_sequences": STOPS}
    got = (await there.world.post(json.dumps(body).encode(), path=MESSAGES)).json
    assert (got["stop_reason"], got["stop_sequence"]) == told


async def test_which_sequence_stopped_a_stream_is_told_too(behind: Callable[..., Any]):
    there: Behind = await behind("anthropic", stream=message_events(stop_reason="stop_sequence", stop_sequence="STOP"))
    body = {"model": "acme/prime", "max_tokens": 100, "messages": HI, "stop_sequences": STOPS, "stream": True}
    got = reassembled(events(await there.world.post(json.dumps(body).encode(), path=MESSAGES)))
    assert (got["stop_reason"], got["stop_sequence"]) == ("stop_sequence", "STOP")
