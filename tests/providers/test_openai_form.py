"""What OpenAI-compatible providers are told of a request in our form, and what is taken out of their answers."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.providers._openai_form import (
    hides_reasoning,
    openai_body,
    openrouter_body,
    takes_our_form,
    without_thoughts,
)
from bursar.providers._usage import normalise_usage

MARK = {"type": "ephemeral"}
THOUGHT = {"type": "reasoning.text", "text": "Hm", "signature": "s", "format": "anthropic-claude-v1", "index": 0}


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        ({"effort": "low"}, "low"),
        ({"effort": "none"}, "none"),
        ({"effort": "xhigh"}, "xhigh"),
        ({"effort": "max"}, "xhigh"),
        ({"effort": "high", "max_tokens": 10}, "high"),
        ({"max_tokens": 1_024}, "minimal"),
        ({"max_tokens": 1_025}, "low"),
        ({"max_tokens": 8_000}, "medium"),
        ({"max_tokens": 60_000}, "high"),
        ({"enabled": True}, None),
        ({"enabled": False}, None),
        ({"exclude": True}, None),
        ({}, None),
        ({"effort": 7, "max_tokens": True}, None),
        ("low", None),
    ],
)
def test_reasoning_is_said_as_an_effort(reasoning: Any, effort: str | None) -> None:
    said = openai_body({"messages": [], "reasoning": reasoning})
    assert said == {"messages": []} | ({} if effort is None else {"reasoning_effort": effort})


def test_an_effort_in_openais_own_word_stays_where_nothing_else_is_said() -> None:
    assert openai_body({"reasoning_effort": "low", "reasoning": {"enabled": True}}) == {"reasoning_effort": "low"}
    assert openai_body({"reasoning_effort": "low", "reasoning": {"effort": "high"}}) == {"reasoning_effort": "high"}


CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Be short.", "cache_control": MARK}]},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant", "content": None, "reasoning": "Hm", "reasoning_details": [THOUGHT], "reasoning_content": "Hm",
            "cache_control": MARK, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "Sunny", "cache_control": MARK},
    ],
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {}}, "cache_control": MARK},
        {"type": "function", "function": {"name": "g", "parameters": {}, "cache_control": MARK}},
    ],
    "cache_control": MARK,
    "reasoning": {"max_tokens": 3_000},
    "include_reasoning": True,
    "anthropic_beta": ["a"],
    "temperature": 0.5,
    "stream": True,
    "stream_options": {"include_usage": True},
}  # fmt: skip
PLAIN = {
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Be short."}]},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant", "content": None, "reasoning_content": "Hm",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "Sunny"},
    ],
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {}}},
        {"type": "function", "function": {"name": "g", "parameters": {}}},
    ],
    "reasoning_effort": "low",
    "temperature": 0.5,
}  # fmt: skip


def test_openrouters_words_are_left_out_wherever_they_stand_and_the_request_stays_as_it_was() -> None:
    before = copy.deepcopy(CHAT)
    assert openai_body(CHAT) == PLAIN
    assert before == CHAT


def test_openrouter_gets_its_own_words() -> None:
    said = openrouter_body(CHAT)
    assert said == {name: CHAT[name] for name in said}
    assert CHAT.keys() - said.keys() == {"anthropic_beta", "stream", "stream_options"}


@pytest.mark.parametrize(
    ("address", "is_openrouter"),
    [
        ("https://openrouter.ai/api/v1", True),
        ("https://eu.openrouter.ai/api/v1", True),
        ("https://api.openai.com/v1", False),
        ("https://notopenrouter.ai/v1", False),
        ("https://openrouter.ai.evil.test/v1", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_openrouter_is_known_by_its_host(address: str, is_openrouter: bool) -> None:
    assert takes_our_form(address) is is_openrouter


@pytest.mark.parametrize(
    ("chat", "hides"),
    [
        ({"reasoning": {"exclude": True}}, True),
        ({"include_reasoning": False}, True),
        ({"reasoning": {"exclude": False}}, False),
        ({"reasoning": "x"}, False),
        ({}, False),
    ],
)
def test_thoughts_are_hidden_on_request_only(chat: dict[str, Any], hides: bool) -> None:
    assert hides_reasoning(chat) is hides


def test_thoughts_are_taken_out_and_the_rest_stays() -> None:
    said = {"content": "Hi", "reasoning": "Hm", "reasoning_content": "Hm", "reasoning_details": [THOUGHT]}
    answer = {"choices": [{"index": 0, "delta": said}, {"index": 1}]}
    assert without_thoughts(answer, "delta")["choices"] == [{"index": 0, "delta": {"content": "Hi"}}, {"index": 1}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "function", "cache_control", "reasoning", "text", "effort", "max_tokens"]),
            inner,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(["messages", "tools", "reasoning", "include_reasoning", "seed"]), JSON))
def test_whatever_is_asked_can_be_sent_and_is_not_changed(chat: dict[str, Any]) -> None:
    before = json.dumps(chat)
    said = openai_body(chat)
    json.dumps(said)
    hides_reasoning(chat)
    assert json.dumps(chat) == before
    assert not said.keys() & {"reasoning", "include_reasoning", "cache_control"}


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 7}, 7),
        ({"prompt_tokens": 10, "completion_tokens": 1, "cached_tokens": 7}, 7),
        ({"prompt_tokens": 10, "completion_tokens": 1, "cached_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}, 3),
        ({"prompt_tokens": 10, "completion_tokens": 1, "cached_tokens": -1}, None),
    ],
)  # fmt: skip
def test_cached_tokens_beside_the_details_are_told_among_them(usage: dict[str, Any], cached: int | None) -> None:
    details = normalise_usage({"usage": usage})["usage"].get("prompt_tokens_details", {})
    assert details.get("cached_tokens") == cached
