"""Deltas that are handed on with their head replaced say what they would say written anew, and count the same."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.gateway._meter import Meter
from bursar.gateway.plan import Attempt, Plan
from bursar.kernel.money import Nanos
from bursar.providers import Chunk, Deltas, Pump
from bursar.providers._deltas import Frame, leading_deltas
from bursar.providers._openai import _Reader
from tests.gateway.world import PRIME, endpoint, provider

ENDPOINT = endpoint(PRIME, provider("alpha"))
HEAD = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "prime-1"}


def meter() -> Meter:
    assert ENDPOINT.pricing is not None
    attempt = Attempt(ENDPOINT, ENDPOINT.pricing, 4096, 4096)
    plan = Plan("acme/prime", (attempt,), (), Nanos(1), 4096, 10, 0)
    return Meter(plan, attempt, generation="gen-1", created=1_790_000_000)


def sse(events: list[dict[str, Any]], **how: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event, **how).encode() + b"\n\n" for event in events)


def delta(content: Any = "a", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": None}
    return {**HEAD, "choices": [{**choice, **more}]}


COMPACT = {"separators": (",", ":"), "ensure_ascii": False}

texts = st.text(max_size=12) | st.sampled_from(
    ['"error"', '"usage":{', "[DONE]", "\r\n", '{"id":"up-1"', "data: {", "\u2028", "é\U0001f600"]
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "content": texts | st.none(),
        "reasoning": texts | st.none(),
        "refusal": texts | st.none(),
        "role": st.just("assistant"),
        "tool_calls": st.lists(
            st.fixed_dictionaries(
                {"index": st.integers(0, 3), "id": texts, "type": st.just("function")},
                optional={"function": st.fixed_dictionaries({}, optional={"name": texts, "arguments": texts})},
            ),
            max_size=2,
        ),
    },
)
events_of_a_stream = st.lists(
    st.builds(
        lambda body, index, more: {**HEAD, **more, "choices": [{"index": index, "delta": body, "finish_reason": None}]},
        bodies,
        st.integers(0, 2),
        st.sampled_from([{}, {}, {"system_fingerprint": "fp"}, {"service_tier": None}]),
    ),
    min_size=1,
    max_size=6,
)
tails = st.sampled_from([{}, {}, {"usage": None}, {"usage": None, "obfuscation": "xYz"}])


@settings(max_examples=400, deadline=None)
@given(events_of_a_stream, tails, st.booleans())
def test_spliced_events_say_and_count_what_events_written_anew_do(
    events: list[dict[str, Any]], tail: dict[str, Any], compact: bool
):
    data = sse([{**event, **tail} for event in events], **(COMPACT if compact else {}))
    deltas, rest = leading_deltas(data)
    if deltas is None:
        return
    taken = data[: len(data) - len(rest)]
    spliced_meter, plain_meter = meter(), meter()
    spliced = spliced_meter.splice(deltas)
    anew = [plain_meter.take(chunk) for chunk in deltas.chunks()]
    assert deltas.count == len(anew) == taken.count(b"\n\n")
    if spliced is None:
        return
    spliced_meter.took(spliced)
    shown = [json.loads(line.removeprefix(b"data: ")) for line in spliced.data.split(b"\n\n") if line]
    for ours in shown:
        ours.pop("obfuscation", None)
        for choice in ours["choices"]:
            choice.setdefault("logprobs", None)
    assert shown == [chunk.value for chunk in anew if chunk is not None]
    assert list(shown[0])[:5] == ["id", "provider", "model", "object", "created"]
    assert spliced_meter.pieces_bytes == plain_meter.pieces_bytes
    assert spliced_meter.usage() == plain_meter.usage()
    assert spliced_meter.upstream_id == plain_meter.upstream_id
    assert spliced_meter._choices_open == plain_meter._choices_open


@pytest.mark.parametrize("tail", [{}, {"usage": None}, {"usage": None, "obfuscation": "x"}])
def test_what_openai_streams_is_spliced(tail: dict[str, Any]):
    data = sse([{**delta(text), **tail} for text in ("Hel", "lo", " \u2028 é")], **COMPACT)
    deltas, rest = leading_deltas(data)
    assert rest == b""
    assert deltas is not None
    assert deltas.texts == ["Hel", "lo", " \u2028 é"]
    spliced = meter().splice(deltas)
    assert spliced is not None
    assert b"up-1" not in spliced.data
    assert b"prime-1" not in spliced.data
    assert spliced.data.count(b'"id":"gen-1"') == 3


@pytest.mark.parametrize(
    "last",
    [
        delta(finish_reason="stop"),
        {**delta(), "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {**HEAD, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {"error": {"message": "no"}},
        {**delta(), "error": {"message": "no"}},
        {**HEAD, "choices": [{"index": 0}]},
        {**HEAD, "choices": [7]},
        {"choices": "x"},
    ],
)
def test_what_is_more_than_a_delta_is_left_to_be_read(last: dict[str, Any]):
    for how in (COMPACT, {}):
        plain, special = sse([delta("a"), delta("b")], **how), sse([last], **how)
        deltas, rest = leading_deltas(plain + special + b"data: [DONE]\n\n")
        assert deltas is None or (deltas.data, rest) == (plain, special + b"data: [DONE]\n\n")
        assert leading_deltas(special) == (None, special)


@pytest.mark.parametrize(
    "event",
    [
        {"id": "up-1", "choices": delta()["choices"], "object": "chat.completion.chunk", "created": 7, "model": "prime-1"},
        {**delta(), "x_upstream": {"id": "secret"}},
        {"object": "chat.completion.chunk", **{name: HEAD[name] for name in ("created", "model")}, "choices": delta()["choices"]},
    ],
)  # fmt: skip
def test_fields_behind_the_choices_or_missing_before_them_are_not_handed_on(event: dict[str, Any]):
    deltas, _ = leading_deltas(sse([event], **COMPACT))
    assert deltas is not None
    assert meter().splice(deltas) is None


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"choices":[{"delta":{}}]}',
        b'data: {"choices":[{"delta":{}}]}\n',
        b': comment\n\ndata: {"choices":[{"delta":{}}]}\n\n',
        b'event: x\ndata: {"choices":[{"delta":{}}]}\n\n',
        b'data: {"choices":\ndata: [{"delta":{}}]}\n\n',
        b'data: {"choices":[{"delta":{}}]}\r\n\r\n',
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"choices":[{"delta":{}}]},{"choices":[{"delta":{}}]}\n\n',
        b"data: {\n\n",
        b"",
    ],
)
def test_events_of_another_form_are_left_to_the_parser(data: bytes):
    assert leading_deltas(data) == (None, data)


def test_a_report_before_the_last_delta_is_not_the_last_word():
    told = meter()
    told.take(Chunk(value={**delta("a"), "usage": {"prompt_tokens": 5, "completion_tokens": 1}}))
    deltas, _ = leading_deltas(sse([delta("and "), delta("more words than that one")], **COMPACT))
    assert deltas is not None
    spliced = told.splice(deltas)
    assert spliced is not None
    told.took(spliced)
    assert told.usage()[0].completion_tokens > 1


def test_a_rough_count_is_within_what_can_be_written_and_says_nothing_to_the_log(caplog: pytest.LogCaptureFixture):
    counted = meter()
    counted.take(Chunk(value=delta("word " * 10_000)))
    assert counted.rough_usage().completion_tokens == 4096
    assert caplog.records == []


@settings(max_examples=400, deadline=None)
@given(texts.filter(bool), texts, tails, st.booleans(), st.integers(0, 2), st.data())
def test_an_event_of_a_known_frame_is_read_and_spliced_as_without_it(
    first: str, then: str, tail: dict[str, Any], compact: bool, index: int, draw: st.DataObject
):
    how = COMPACT if compact else {}
    told = meter()
    known, _ = leading_deltas(sse([{**delta(first, index=index), **tail}], **how))
    if "obfuscation" in tail:
        tail = {**tail, "obfuscation": draw.draw(st.text("aZ09", max_size=9))}
    data = sse([{**delta(then, index=index), **tail}], **how)
    frame = None if known is None else Frame.of(known)
    if frame is None:
        assert known is None or not compact, "compact events have one"
        return
    found, (plain, rest) = frame.read(data), leading_deltas(data)
    assert found is not None
    assert (found.texts, found.choices) == ([then] if then else [], {index})
    if plain is not None:
        assert rest == b""
        assert (found.data, found.count, found.head) == (plain.data, plain.count, plain.head)
        ours, anew = told.splice(found), meter().splice(plain)
        assert (ours and ours.data) == (anew and anew.data)
    # Cut, doubled or changed anywhere it is either no event of the frame, or what a decoder makes of it.
    at = draw.draw(st.integers(0, len(data) - 1))
    byte = draw.draw(st.sampled_from([b"", b'"', b"\\", b"\n", b"\xff", b"}", b"x"]))
    for other in (data[:at], data[at:], data + data, data[:at] + byte + data[at + 1 :], data[:at] + byte + data[at:]):
        read = frame.read(other)
        if read is not None:
            (event,) = (json.loads(each.removeprefix(b"data: ")) for each in other.split(b"\n\n") if each)
            assert isinstance(event.pop("obfuscation", ""), str)
            assert event == {
                **HEAD,
                **{name: tail[name] for name in tail if name == "usage"},
                "choices": event["choices"],
            }
            (choice,) = event["choices"]
            said = choice["delta"].pop("content")
            assert choice == {**delta()["choices"][0], "index": index, "delta": {}}
            assert read.texts == ([said] if said else [])


def test_an_event_whose_parts_overlap_is_none_of_its_frame():
    data = sse([{**delta("a"), "obfuscation": ""}], **COMPACT)
    deltas, _ = leading_deltas(data)
    assert deltas is not None
    frame = Frame.of(deltas)
    assert frame is not None
    assert frame.read(data) is not None
    assert frame.read(data.replace(b'"obfuscation":""', b'"obfuscation":"')) is None


@pytest.mark.parametrize(
    "event",
    [
        delta(""),
        {**HEAD, "choices": delta("a")["choices"] + delta("b", index=1)["choices"]},
        {**HEAD, "choices": [{"index": 0, "delta": {"reasoning": "a"}, "finish_reason": None}]},
    ],
)
def test_what_says_nothing_or_several_things_teaches_no_frame(event: dict[str, Any]):
    deltas, _ = leading_deltas(sse([event], **COMPACT))
    assert deltas is not None
    assert Frame.of(deltas) is None


@pytest.mark.parametrize("tail", [{}, {"usage": None, "obfuscation": "x"}])
def test_deltas_that_come_alone_are_handed_on_once_each_and_those_not_taken_come_out_of_the_stream(
    tail: dict[str, Any],
):
    reader, pump, told = _Reader(None), Pump(), list[Deltas]()
    begun = [{**HEAD, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "I"}, "finish_reason": None}]}]
    assert len(reader.take(sse(begun, **COMPACT))) == 1
    takes = True

    def take(deltas: Deltas) -> bool:
        if takes:
            told.append(deltas)
        return takes

    pump.take = take
    words = ["learn", " this", " frame", '"', ""]
    pieces = [sse([{**delta(word), **tail}], **COMPACT) for word in words]
    assert all(reader.pumped(pump, piece) for piece in pieces)
    assert [text for each in told for text in each.texts] == words[:-1]
    assert [each.frame is not None for each in told] == [False, True, True, True, True]
    takes = False
    assert not reader.pumped(pump, pieces[1])
    assert not reader.pumped(pump, pieces[2])
    left = reader.take(b"")
    assert [text for each in left if isinstance(each, Deltas) for text in each.texts] == [" this", " frame"]
    assert not reader.pumped(pump, pieces[1])
    takes = True
    assert reader.pumped(pump, pieces[2]), "what waits goes first"
    assert [text for each in told for text in each.texts] == [*words[:-1], " this", " frame"]
    assert reader.take(b"") == []
