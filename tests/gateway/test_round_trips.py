"""Through two translators and back nothing is lost: tools, images, thinking, results, reasons, usage. And no answer breaks a writer."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.gateway import _skin_messages_form as form
from bursar.gateway._door import Headers, chat_request
from bursar.gateway._meter import Meter
from bursar.gateway._pipeline import SKINS
from bursar.gateway._preferences import Preferences
from bursar.gateway._skin import Skin
from bursar.gateway._skin_messages import MessagesSkin, MessagesWriter
from bursar.gateway._skin_responses import Output
from bursar.gateway._skin_responses_form import to_chat
from bursar.gateway._wire import usage_object
from bursar.gateway.plan import Demand, make_plan
from bursar.kernel.money import Nanos
from bursar.providers import Chunk
from bursar.providers._anthropic_form import MessageStream, completion, messages_request
from bursar.providers._chunk import decode_chunk
from tests.gateway import talks
from tests.gateway.test_messages import events, reassembled
from tests.gateway.world import two_providers
from tests.providers.anthropic_wire import events_of
from tests.support.scale import scaled

Json = dict[str, Any]
HEADERS = Headers(None, None, None, None, None)
SEEDS = st.integers(0, 2**32)
ASKS: dict[str, Json] = {
    "/api/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/api/v1/responses": {"input": "Hi"},
    "/api/v1/completions": {"prompt": "Hi"},
    "/api/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
}


def meter() -> Meter:
    demand = Demand(
        ("acme/prime",), prompt_tokens=100, images=0, max_tokens=None, choices=1, stream=True, preferences=Preferences()
    )
    plan = make_plan(demand, two_providers())
    return Meter(plan, plan.attempts[0], generation="gen-1", created=1)


def blocks(content: Any) -> Any:
    """A text as the one block that it is; in results of tools, too."""
    found = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [
        {**block, "content": blocks(block["content"])} if block["type"] == "tool_result" else block for block in found
    ]


@settings(max_examples=scaled(3_000), deadline=None)
@given(SEEDS)
def test_what_an_anthropic_client_asks_reaches_anthropic_as_it_was(seed: int) -> None:
    asked = talks.client_request(Random(seed))
    chat = chat_request(form.chat_fields({**asked, "model": "acme/prime"}), HEADERS)
    said = messages_request(chat.body, talks.MODEL).body
    expected = {**asked, "model": talks.MODEL}
    expected["messages"] = [{**each, "content": blocks(each["content"])} for each in asked["messages"]]
    if "system" in asked:
        expected["system"] = blocks(asked["system"])
    if not asked.get("tools"):
        expected.pop("tool_choice", None)  # a choice among none
    assert said == expected


def told(message: Json) -> Json:
    return {name: message[name] for name in ("content", "stop_reason", "stop_sequence")}


@settings(max_examples=scaled(3_000), deadline=None)
@given(SEEDS, st.integers(1, 7))
def test_what_anthropic_answers_reaches_an_anthropic_client_as_it_was_whole_or_streamed(seed: int, size: int) -> None:
    said = talks.message(Random(seed))
    if said["stop_reason"] == "stop_sequence":
        said["stop_sequence"] = "STOP"
    whole_meter, stream_meter = meter(), meter()
    whole = whole_meter.whole(completion(said, created=1))
    usage = usage_object(whole_meter.usage()[0], Nanos(0))
    message = form.message({**whole, "usage": usage}, ["END", "STOP"])
    assert told(message) == told(said)
    assert {name: message["usage"][name] for name in said["usage"]} == said["usage"]

    request = MessagesSkin().parse(
        json.dumps({**ASKS["/api/v1/messages"], "model": "m", "stop_sequences": ["END", "STOP"]}).encode(), HEADERS
    )
    stream, writer = MessageStream(created=1), MessagesWriter(request, "gen-1")
    chunks = [chunk for event in events_of(said, size=size) for chunk in stream.take(event)]
    out = b"".join(
        writer.chunk(ours) for chunk in chunks if (ours := stream_meter.take(Chunk(value=chunk))) is not None
    )
    streamed_usage = usage_object(stream_meter.usage()[0], Nanos(0))
    streamed = reassembled(events(out + writer.end(stream_meter.closing(streamed_usage))))
    assert told(streamed) == told(said)
    assert {name: streamed["usage"][name] for name in said["usage"]} == said["usage"]


def assistant_turns(messages: Sequence[Json]) -> list[Any]:
    """What was said, called and thought, over all turns of the assistant."""
    mine = [each for each in messages if each["role"] == "assistant"]
    return [
        "".join(each.get("content") or "" for each in mine),
        [call for each in mine for call in each.get("tool_calls", [])],
        [
            (detail["type"], detail.get("text"), detail.get("signature"), detail.get("data"))
            for each in mine
            for detail in each.get("reasoning_details", [])
        ],
    ]


@settings(max_examples=scaled(3_000), deadline=None)
@given(SEEDS)
def test_what_was_answered_comes_back_from_a_responses_client_as_it_was(seed: int) -> None:
    said = completion(talks.message(Random(seed)), created=1)["choices"][0]["message"]
    output = Output("gen-1", lambda *_arguments, **_fields: None)
    output.take(said)
    output.end(complete=True)
    sent_back = json.loads(json.dumps([{"role": "user", "content": "Hi"}, *output.items]))
    chat = to_chat({"model": "m", "input": sent_back})
    assert assistant_turns(chat["messages"]) == assistant_turns([said])


# Whatever comes.

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
ODD = st.sampled_from([-1, 2**31, 2**63, 2**64, 10**30, "\x00", "stop", 1e300, -0.0])
JSON = st.recursive(SCALARS | ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=8)  # fmt: skip


def objects(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional={name: value | JSON for name, value in known.items()})


WORDS = st.text(max_size=6)
SAID = objects(
    role=st.just("assistant"), content=WORDS | st.lists(objects(text=WORDS), max_size=2), reasoning=WORDS, reasoning_content=WORDS,
    refusal=WORDS, images=st.lists(objects(image_url=objects(url=WORDS)), max_size=1),
    reasoning_details=st.lists(objects(type=st.sampled_from(["reasoning.text", "reasoning.summary", "reasoning.encrypted"]), text=WORDS, summary=WORDS, data=WORDS, signature=WORDS, id=WORDS, format=WORDS, index=st.integers(0, 2)), max_size=2),
    tool_calls=st.lists(objects(index=st.integers(0, 2), id=WORDS, type=st.just("function"), function=objects(name=WORDS, arguments=WORDS)), max_size=2),
)  # fmt: skip
USAGE = objects(
    prompt_tokens=st.integers(), completion_tokens=st.integers(), total_tokens=st.integers(),
    prompt_tokens_details=objects(cached_tokens=st.integers(), cache_write_tokens=st.integers()),
    completion_tokens_details=objects(reasoning_tokens=st.integers()),
)  # fmt: skip
ENDS = {"finish_reason": st.sampled_from(["stop", "tool_calls", "length", "x", "", None]), "stop_reason": WORDS}
CHOICES = {"index": st.integers(0, 2), "logprobs": objects(content=st.lists(objects(token=WORDS, logprob=st.floats(-9, 0)), max_size=1)), **ENDS}  # fmt: skip


def answers(part: str) -> st.SearchStrategy[bytes]:
    """The JSON of a chunk (its part is delta) or of a whole answer (message), with anything in any field."""
    choice = objects(**CHOICES, **{part: SAID})
    whole = objects(
        id=WORDS,
        choices=st.lists(choice, min_size=part == "message", max_size=2),
        usage=USAGE,
        system_fingerprint=WORDS,
    )
    return whole.map(lambda value: json.dumps(value).encode())


def skin_and_request(path: str) -> tuple[Skin, Any]:
    skin = SKINS[path]
    return skin, skin.parse(json.dumps({"model": "acme/prime", **ASKS[path]}).encode(), HEADERS)


@pytest.mark.parametrize("path", ASKS)
@settings(max_examples=scaled(3_000), deadline=None)
@given(st.lists(answers("delta"), max_size=5))
def test_no_sequence_of_chunks_breaks_the_writer_of_any_protocol(path: str, raws: list[bytes]) -> None:
    skin, request = skin_and_request(path)
    writer, metered = skin.writer(request, "gen-1", 1), meter()
    out = b""
    for raw in raws:
        value = decode_chunk(raw)
        if value is not None and (ours := metered.take(Chunk(value=value))) is not None:
            out += writer.chunk(ours)
    usage = metered.usage()[0]
    assert min(usage.prompt_tokens, usage.completion_tokens) >= 0
    out += writer.end(metered.closing(usage_object(usage, Nanos(0))))
    for line in out.decode().split("\n"):
        assert line.partition(":")[0] in ("", "data", "event")
        if line.startswith("data: ") and line != "data: [DONE]":
            json.loads(line[6:])


@pytest.mark.parametrize("path", ASKS)
@settings(max_examples=scaled(3_000), deadline=None)
@given(answers("message"))
def test_no_whole_answer_breaks_any_protocol(path: str, raw: bytes) -> None:
    skin, request = skin_and_request(path)
    value = decode_chunk(raw)
    if (
        value is None
        or not value["choices"]
        or not all(isinstance(each.get("message"), dict) for each in value["choices"])
    ):
        return  # which an upstream refuses
    metered = meter()
    ours = metered.whole(value)
    ours["usage"] = usage_object(metered.usage()[0], Nanos(0))
    json.loads(skin.whole(request, ours))
