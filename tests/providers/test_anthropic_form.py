"""Chat completions ⇄ Anthropic Messages: shared cases both ways, and what no input may do to the translators."""

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.gateway._door import InvalidRequest, chat_request, parse_chat, read_headers
from bursar.gateway._meter import _FINISH
from bursar.gateway._skin_messages_form import chat_fields
from bursar.providers import UpstreamFailed, UpstreamOverloaded, UpstreamRefused, UpstreamUnable
from bursar.providers._anthropic_form import (
    BUDGET_TOKENS_MIN,
    MAX_TOKENS_DEFAULT,
    MessageStream,
    completion,
    messages_request,
    usage_of,
)
from bursar.providers._errors import UpstreamNeedsOperator
from tests.providers.anthropic_wire import NOW, events_of, reassembled

OLD, MIDDLE, NEW, OTHER = "claude-sonnet-4-5-20250929", "claude-opus-4-6", "claude-opus-5", "kimi-k2"
HI = [{"role": "user", "content": "Hi"}]
HI_THERE = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
NO_HEADERS = read_headers({"headers": []})
MARK = {"type": "ephemeral", "ttl": "1h"}
PNG = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}, "required": ["a"]}
CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "object", "properties": {}, "additionalProperties": False}},
    "required": ["a"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a town.", "parameters": SCHEMA}}
WEATHER_THERE = {"name": "weather", "description": "Of a town.", "input_schema": SCHEMA}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Oslo"}'}}
USE = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"town": "Oslo"}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


# name, messages in our form, (system, messages) in theirs
CONVERSATIONS: list[tuple[str, list[Any], list[Any], list[Any]]] = [
    ("a plain question", HI, [], HI_THERE),
    (
        "system and developer messages are gathered in front, in order",
        [
            {"role": "system", "content": "One."},
            *HI,
            {"role": "developer", "content": [text("Two.", cache_control=MARK)]},
        ],
        [text("One."), text("Two.", cache_control=MARK)],
        HI_THERE,
    ),
    (
        "a cache mark beside a plain text stays with it",
        [{"role": "system", "content": "One.", "cache_control": MARK}, *HI],
        [text("One.", cache_control=MARK)],
        HI_THERE,
    ),
    ("a system prompt alone is the question", [{"role": "system", "content": "Speak."}], [], [user(text("Speak."))]),
    (
        "images by value and by address",
        [
            {
                "role": "user",
                "content": [
                    text("What is this?"),
                    {"type": "image_url", "image_url": {"url": f"data:image/PNG;base64,{PNG}"}, "cache_control": MARK},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}},
                ],
            }
        ],
        [],
        [
            user(
                text("What is this?"),
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                    "cache_control": MARK,
                },
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            )
        ],
    ),
    (
        "files by value and by address",
        [
            {
                "role": "user",
                "content": [
                    {
                        "type": "file",
                        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                    },
                    {"type": "file", "file": {"file_data": "https://example.com/b.pdf"}},
                    {"type": "file", "file": {"file_data": "data:text/plain;charset=utf-8;base64,w6k="}},
                ],
            }
        ],
        [],
        [
            user(
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                    "title": "a.pdf",
                },
                {"type": "document", "source": {"type": "url", "url": "https://example.com/b.pdf"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
            )
        ],
    ),
    (
        "calls, their results merged into one turn, and what the user says next behind them",
        [
            *HI,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    CALL,
                    {"id": "functions.x:2", "type": "function", "function": {"name": "x", "arguments": ""}},
                ],
            },
            {"role": "user", "content": "And?"},
            {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
            {
                "role": "tool",
                "tool_call_id": "functions.x:2",
                "content": [
                    text("Seen"),
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
                "cache_control": MARK,
            },
        ],
        [],
        [
            *HI_THERE,
            {"role": "assistant", "content": [USE, {"type": "tool_use", "id": "functions_x_2", "name": "x", "input": {}}]},
            user(
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("Rain")]},
                {
                    "type": "tool_result",
                    "tool_use_id": "functions_x_2",
                    "content": [
                        text("Seen"),
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                    ],
                    "cache_control": MARK,
                },
                text("And?"),
            ),
        ],
    ),
    (
        "reasoning comes back before the text: signed, sealed, and in pieces as a stream brought it; nobody else's",
        [
            *HI,
            {
                "role": "assistant",
                "content": "So.",
                "tool_calls": [CALL],
                "reasoning": "ab",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "a", "format": "anthropic-claude-v1", "index": 0},
                    {"type": "reasoning.text", "text": "b", "format": "anthropic-claude-v1", "index": 0},
                    {"type": "reasoning.text", "signature": "s1", "format": "anthropic-claude-v1", "index": 0},
                    {"type": "reasoning.encrypted", "data": "xyz", "format": "anthropic-claude-v1", "index": 1},
                    {"type": "reasoning.text", "text": "unsigned", "index": 2},
                    {"type": "reasoning.text", "text": "c", "signature": "s2", "index": 3},
                    {"type": "reasoning.encrypted", "data": "theirs", "format": "openai-responses-v1", "index": 4},
                    {"type": "reasoning.summary", "summary": "no", "index": 5},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": ""},
        ],
        [],
        [
            *HI_THERE,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "ab", "signature": "s1"},
                    {"type": "redacted_thinking", "data": "xyz"},
                    {"type": "thinking", "thinking": "c", "signature": "s2"},
                    text("So."),
                    USE,
                ],
            },
            user({"type": "tool_result", "tool_use_id": "call_1"}),
        ],
    ),
    (
        "neighbours of one role are one turn, and white space is no text",
        [
            {"role": "user", "content": "a"},
            {"role": "user", "content": [text(" "), "b", text("")]},
            {"role": "assistant", "content": " \n"},
        ],
        [],
        [user(text("a"), text("b"))],
    ),
    (
        "the beginning of an answer loses the white space at its end",
        [*HI, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No: \n"}]}],
        [],
        [*HI_THERE, {"role": "assistant", "content": [text("No:")]}],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "system", "turns"), [case[1:] for case in CONVERSATIONS], ids=[case[0] for case in CONVERSATIONS]
)
def test_a_conversation_is_said_in_anthropics_words(messages: list[Any], system: list[Any], turns: list[Any]) -> None:
    before = copy.deepcopy(messages)
    body = messages_request({"messages": messages}, OLD).body
    assert (body.get("system", []), body["messages"]) == (system, turns)
    assert messages == before


# name, model, fields of the chat completion, what becomes of them (besides model and messages; max_tokens where not the default)
FIELDS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("no limit", OLD, {}, {}),
    ("a limit", OLD, {"max_tokens": 7}, {"max_tokens": 7}),
    ("the newer name of the limit wins", OLD, {"max_tokens": 7, "max_completion_tokens": 9}, {"max_tokens": 9}),
    ("one stop", OLD, {"stop": "END"}, {"stop_sequences": ["END"]}),
    ("stops", OLD, {"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
    ("no stops", OLD, {"stop": []}, {}),
    ("sampling", OLD, {"temperature": 0.5, "top_k": 40}, {"temperature": 0.5, "top_k": 40}),
    ("a temperature that Anthropic does not know", OLD, {"temperature": 1.7}, {"temperature": 1}),
    ("a Claude takes a temperature or top_p", OLD, {"temperature": 0, "top_p": 0.9}, {"temperature": 0}),
    ("others take both", OTHER, {"temperature": 0, "top_p": 0.9}, {"temperature": 0, "top_p": 0.9}),
    ("new models take neither", NEW, {"temperature": 0, "top_p": 0.9, "top_k": 3}, {}),
    ("the user", OLD, {"user": "u-1"}, {"metadata": {"user_id": "u-1"}}),
    ("a cache mark for all", OLD, {"cache_control": MARK}, {"cache_control": MARK}),
    ("the service tier", OLD, {"service_tier": "default"}, {"service_tier": "standard_only"}),
    ("a dearer service tier is not asked for", OLD, {"service_tier": "priority", "speed": "fast"}, {}),
    ("taste and chance are left out", OLD, {"seed": 1, "frequency_penalty": 1, "logit_bias": {}, "min_p": 0.1}, {}),
    ("tools", OLD, {"tools": [WEATHER]}, {"tools": [WEATHER_THERE]}),
    (
        "a marked strict tool without parameters",
        OLD,
        {"tools": [{"type": "function", "function": {"name": "now", "strict": True}, "cache_control": MARK}]},
        {"tools": [{"name": "now", "input_schema": {"type": "object", "properties": {}}, "strict": True, "cache_control": MARK}]},
    ),
    ("tools at will", OLD, {"tools": [WEATHER], "tool_choice": "auto"}, {"tools": [WEATHER_THERE], "tool_choice": {"type": "auto"}}),
    ("no tools now", OLD, {"tools": [WEATHER], "tool_choice": "none", "parallel_tool_calls": False}, {"tools": [WEATHER_THERE], "tool_choice": {"type": "none"}}),
    ("some tool", OLD, {"tools": [WEATHER], "tool_choice": "required"}, {"tools": [WEATHER_THERE], "tool_choice": {"type": "any"}}),
    (
        "that tool, once",
        OLD,
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}, "parallel_tool_calls": False},
        {"tools": [WEATHER_THERE], "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}},
    ),
    (
        "one call at a time",
        OLD,
        {"tools": [WEATHER], "parallel_tool_calls": False},
        {"tools": [WEATHER_THERE], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    ("a choice among no tools", OLD, {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
    ("text", OLD, {"response_format": {"type": "text"}}, {}),
    (
        "a JSON schema, its objects closed",
        OLD,
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": False, "schema": SCHEMA}}},
        {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
    ),
    ("thinking by effort: a share of the limit", OLD, {"max_tokens": 10_000, "reasoning": {"effort": "high"}}, {"max_tokens": 10_000, "thinking": {"type": "enabled", "budget_tokens": 8_000}}),
    ("by half", OLD, {"max_tokens": 10_000, "reasoning_effort": "medium"}, {"max_tokens": 10_000, "thinking": {"type": "enabled", "budget_tokens": 5_000}}),
    ("by a fifth", OLD, {"max_tokens": 10_000, "reasoning": {"effort": "low"}}, {"max_tokens": 10_000, "thinking": {"type": "enabled", "budget_tokens": 2_000}}),
    ("never less than Anthropic's least", OLD, {"max_tokens": 2_000, "reasoning": {"effort": "low"}}, {"max_tokens": 2_000, "thinking": {"type": "enabled", "budget_tokens": 1_024}}),
    ("switched on", OLD, {"max_tokens": 10_000, "reasoning": {"enabled": True}}, {"max_tokens": 10_000, "thinking": {"type": "enabled", "budget_tokens": 5_000}}),
    ("switched off", OLD, {"reasoning": {"enabled": False}}, {}),
    ("switched off by effort", OLD, {"reasoning_effort": "none"}, {}),
    ("by the old name where the new says nothing", OLD, {"max_tokens": 10_000, "reasoning": {"effort": None, "summary": None}, "reasoning_effort": "low"}, {"max_tokens": 10_000, "thinking": {"type": "enabled", "budget_tokens": 2_000}}),
    ("hidden only", OLD, {"reasoning": {"exclude": True}}, {}),
    ("a budget grows our own limit", OLD, {"reasoning": {"max_tokens": 2_000}}, {"max_tokens": 6_096, "thinking": {"type": "enabled", "budget_tokens": 2_000}}),
    ("as an effort does", OLD, {"reasoning": {"effort": "high"}}, {"max_tokens": 4_096 + 3_276, "thinking": {"type": "enabled", "budget_tokens": 3_276}}),
    ("but never the client's", OLD, {"max_tokens": 3_000, "reasoning": {"max_tokens": 2_999}}, {"max_tokens": 3_000, "thinking": {"type": "enabled", "budget_tokens": 2_999}}),
    ("no room to think", OLD, {"max_tokens": 1_024, "reasoning": {"effort": "high"}}, {"max_tokens": 1_024}),
    ("a small budget is the least there is", OLD, {"reasoning": {"max_tokens": 5}}, {"max_tokens": 5_120, "thinking": {"type": "enabled", "budget_tokens": 1_024}}),
    ("no sampling while it thinks", OTHER, {"temperature": 0.2, "top_p": 0.5, "top_k": 4, "max_tokens": 10_000, "reasoning": {"effort": "low"}}, {"max_tokens": 10_000, "thinking": {"type": "enabled", "budget_tokens": 2_000}}),
    ("4.6 takes a budget", MIDDLE, {"max_tokens": 3_000, "reasoning": {"max_tokens": 2_000}}, {"max_tokens": 3_000, "thinking": {"type": "enabled", "budget_tokens": 2_000}}),
    ("4.6 adapts, and knows no xhigh", MIDDLE, {"reasoning": {"effort": "xhigh"}}, {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}}),
    ("new models adapt", NEW, {"reasoning": {"effort": "minimal", "exclude": True}}, {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "low"}}),
    ("new models take no budget", NEW, {"max_tokens": 100, "reasoning": {"max_tokens": 2_000}}, {"max_tokens": 100, "thinking": {"type": "adaptive", "display": "summarized"}}),
    ("new models are told not to", NEW, {"reasoning": {"enabled": False}}, {"thinking": {"type": "disabled"}}),
    ("some cannot be told", "claude-fable-5-1", {"reasoning": {"enabled": False}}, {}),
    ("an unnumbered Claude is new", "claude-mythos-preview", {"reasoning": {"enabled": True}}, {"thinking": {"type": "adaptive", "display": "summarized"}}),
    ("verbosity is the effort, and wins", NEW, {"verbosity": "low", "reasoning": {"effort": "max"}}, {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}}),
    ("verbosity without thinking", NEW, {"verbosity": "xhigh"}, {"output_config": {"effort": "xhigh"}}),
    ("old models know no verbosity", OLD, {"verbosity": "low"}, {}),
    ("nulls say nothing", OLD, {"stop": None, "tools": None, "reasoning": None, "n": None}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields", "said"), [case[1:] for case in FIELDS], ids=[case[0] for case in FIELDS])
def test_a_field_is_said_in_anthropics_words(model: str, fields: dict[str, Any], said: dict[str, Any]) -> None:
    before = copy.deepcopy(fields)
    body = messages_request({"messages": HI, **fields}, model).body
    assert body == {"model": model, "max_tokens": MAX_TOKENS_DEFAULT, "messages": HI_THERE, **said}
    assert fields == before


def test_json_without_a_schema_is_asked_for_in_the_system_prompt() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HI]
    body = messages_request({"messages": messages, "response_format": {"type": "json_object"}}, OLD).body
    first, hint = body["system"]
    assert first == text("Be brief.")
    assert "JSON" in hint["text"]


def test_beta_features_and_hidden_reasoning_are_told_beside_the_body() -> None:
    fields = {"messages": HI, "anthropic_beta": ["a-2025-01-01", "b"], "reasoning": {"exclude": True}}
    request = messages_request(fields, OLD)
    assert (request.betas, request.hides_reasoning) == (("a-2025-01-01", "b"), True)
    assert "anthropic_beta" not in request.body


def part(kind: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": kind, **more}]}]}


def called(**function: Any) -> dict[str, Any]:
    return {
        "messages": [*HI, {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", **function}}]}]
    }


UNABLE = [
    ("n", {"n": 2}),
    ("logprobs", {"logprobs": True}),
    ("logprobs", {"top_logprobs": 3}),
    ("audio", {"audio": {"voice": "alloy"}, "modalities": ["text", "audio"]}),
    ("modalities", {"modalities": ["image", "text"]}),
    ("functions", {"functions": [{"name": "f"}]}),
    ("web_search_options", {"web_search_options": {"search_context_size": "low"}}),
    ("messages[0].content[0]", part("input_audio", input_audio={})),
    ("messages[0].content[0].file.file_id", part("file", file={"file_id": "file-1"})),
    ("messages[0].content[0].file.file_data", part("file", file={"file_data": "data:text/csv;base64,YQ=="})),
    ("messages[0].content", {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://a.test"}}]}]}),
    ("tools[0].type", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("tool_choice", {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}),
    ("stop", {"stop": ["\n"]}),
    ("response_format.type", {"response_format": {"type": "grammar"}}),
]  # fmt: skip
REFUSED = [
    ("messages[0].role", {"messages": [{"role": "function", "content": "a"}]}),
    ("messages[0].content[0].type", part("hologram")),
    ("messages[0].content[0].text", part("text", text=7)),
    ("messages[0].content[0].image_url.url", part("image_url", image_url={})),
    ("messages[0].content[0].image_url.url", part("image_url", image_url={"url": "file:///etc/passwd"})),
    ("messages[0].content[0].image_url.url", part("image_url", image_url={"url": "data:image/png,abc"})),
    ("messages[0].content[0].file.file_data", part("file", file={"file_data": "data:text/plain;base64,/w=="})),
    ("messages[1].tool_calls[0].function.arguments", called(arguments="[1]")),
    ("messages[1].tool_calls[0].function.arguments", called(arguments='{"a": ')),
    ("messages[1].tool_calls[0]", {"messages": [*HI, {"role": "assistant", "tool_calls": ["x"]}]}),
    ("messages[0].tool_call_id", {"messages": [{"role": "tool", "content": "a"}]}),
    ("messages", {"messages": [{"role": "user", "content": "  "}]}),
    ("tools", {"tools": {}}),
    ("tools[0].function", {"tools": [{"type": "function"}]}),
    ("tools[0].function.parameters", {"tools": [{"function": {"name": "f", "parameters": "x"}}]}),
    ("temperature", {"temperature": "hot"}),
    ("stop", {"stop": {"a": 1}}),
    ("reasoning", {"reasoning": "much"}),
    ("reasoning.effort", {"reasoning": {"effort": "heroic"}}),
    ("reasoning.max_tokens", {"reasoning": {"max_tokens": 1.5}}),
    ("reasoning", {"reasoning": {"max_tokens": 2_000, "effort": "low"}}),
    ("reasoning.max_tokens", {"max_tokens": 2_000, "reasoning": {"max_tokens": 2_000}}),
    ("response_format.json_schema.schema", {"response_format": {"type": "json_schema"}}),
    ("anthropic_beta", {"anthropic_beta": "x"}),
    ("anthropic_beta", {"anthropic_beta": ["x\r\nx-evil: 1"]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "field", "fields"),
    [(UpstreamUnable, *case) for case in UNABLE] + [(UpstreamRefused, *case) for case in REFUSED],
)
def test_what_cannot_be_said_is_refused_by_name(kind: type, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        messages_request({"messages": HI, **fields}, OLD)
    assert type(refused.value) is kind
    assert refused.value.sentence.partition(": ")[0].partition(" is ")[0] == field
    assert (refused.value.status, refused.value.retryable) == (400, kind is UpstreamUnable)


# name, content blocks, stop_reason; the message and the meter's finish reason
ANSWERS: list[tuple[str, list[Any], str, dict[str, Any], str]] = [
    ("text", [text("Hello"), text(" there")], "end_turn", {"content": "Hello there"}, "stop"),
    ("text up to a stop", [text("Hello")], "stop_sequence", {"content": "Hello"}, "stop"),
    ("text up to the limit", [text("Hel")], "max_tokens", {"content": "Hel"}, "length"),
    ("text up to the window", [text("Hel")], "model_context_window_exceeded", {"content": "Hel"}, "length"),
    ("a pause", [text("Wait")], "pause_turn", {"content": "Wait"}, "stop"),
    ("nothing", [], "end_turn", {"content": ""}, "stop"),
    ("a refusal", [], "refusal", {"content": ""}, "content_filter"),
    (
        "calls",
        [
            text("Let me see."),
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"town": "Oslo", "n": 1}},
            {"type": "tool_use", "id": "t2", "name": "now", "input": {}},
        ],
        "tool_use",
        {
            "content": "Let me see.",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"town":"Oslo","n":1}'}},
                {"id": "t2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ],
        },
        "tool_calls",
    ),
    (
        "a call alone",
        [{"type": "tool_use", "id": "t1", "name": "now", "input": {}}],
        "tool_use",
        {"content": None, "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "now", "arguments": "{}"}}]},
        "tool_calls",
    ),
    (
        "thoughts, open, sealed and kept back",
        [
            {"type": "thinking", "thinking": "Hm. ", "signature": "s1"},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "thinking", "thinking": "", "signature": "s2"},
            text("42"),
        ],
        "end_turn",
        {
            "content": "42",
            "reasoning": "Hm. ",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "Hm. ", "signature": "s1", "format": "anthropic-claude-v1", "index": 0},
                {"type": "reasoning.encrypted", "data": "xyz", "format": "anthropic-claude-v1", "index": 1},
                {"type": "reasoning.text", "text": "", "signature": "s2", "format": "anthropic-claude-v1", "index": 2},
            ],
        },
        "stop",
    ),
    ("blocks of tools that the provider runs are passed over", [{"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}}, text("a")], "end_turn", {"content": "a"}, "stop"),
]  # fmt: skip

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 200,
    "cache_creation_input_tokens": 3_000,
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 20},
    "service_tier": "standard",
}
USAGE_HERE = {
    "prompt_tokens": 3_210,
    "completion_tokens": 50,
    "total_tokens": 3_260,
    "prompt_tokens_details": {"cached_tokens": 200, "cache_write_tokens": 3_000},
    "completion_tokens_details": {"reasoning_tokens": 20},
}


def message(content: list[Any], stop_reason: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x"}
    return {**head, "content": content, "stop_reason": stop_reason, "stop_sequence": None, "usage": USAGE, **more}


@pytest.mark.parametrize(
    ("content", "stop_reason", "said", "finish"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
def test_an_answer_is_a_chat_completion(
    content: list[Any], stop_reason: str, said: dict[str, Any], finish: str
) -> None:
    answer = completion(message(content, stop_reason), created=NOW)
    expected = {"role": "assistant", "refusal": None, **said}
    assert answer == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": NOW,
        "model": "claude-x",
        "choices": [{"index": 0, "message": expected, "logprobs": None, "finish_reason": stop_reason}],
        "usage": USAGE_HERE,
        "service_tier": "standard",
    }
    assert _FINISH[stop_reason] == finish


@pytest.mark.parametrize(("content", "stop_reason"), [case[1:3] for case in ANSWERS], ids=[case[0] for case in ANSWERS])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_stream_reassembled_is_the_whole_answer(content: list[Any], stop_reason: str, hidden: bool) -> None:
    whole = message(content, stop_reason)
    assert streamed(events_of(whole), hidden=hidden) == completion(whole, created=NOW, hides_reasoning=hidden)


def streamed(events: list[dict[str, Any]], *, hidden: bool = False) -> dict[str, Any]:
    stream = MessageStream(created=NOW, hides_reasoning=hidden)
    chunks = [chunk for event in events for chunk in stream.take(event)]
    assert stream.is_complete
    return reassembled(chunks)


def test_a_refusal_carries_its_explanation() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "Not that."}
    whole = message([text("I")], "refusal", stop_details=details)
    assert completion(whole, created=NOW)["choices"][0]["message"]["refusal"] == "Not that."
    assert streamed(events_of(whole))["choices"][0]["message"]["refusal"] == "Not that."


def test_hidden_reasoning_is_left_out_and_still_counted() -> None:
    answer = completion(
        message([{"type": "thinking", "thinking": "Hm", "signature": "s"}]), created=NOW, hides_reasoning=True
    )
    assert not {"reasoning", "reasoning_details"} & answer["choices"][0]["message"].keys()
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 20


def test_thoughts_of_an_answer_go_back_as_they_came() -> None:
    """What a client keeps of an answer or of a stream, sent again, is the content that Anthropic made."""
    content = [
        {"type": "thinking", "thinking": "Hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "xyz"},
        text("So"),
        USE,
    ]
    for answer in (completion(message(content), created=NOW), streamed(events_of(message(content)))):
        kept = answer["choices"][0]["message"]
        assert messages_request({"messages": [*HI, kept]}, OLD).body["messages"][1]["content"] == content


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE, USAGE_HERE),
        (None, None),
        ({"input_tokens": 1}, None),
        ({"input_tokens": -1, "output_tokens": 2}, None),
        ({"input_tokens": True, "output_tokens": 2}, None),
        (
            {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": None, "output_tokens_details": {"thinking_tokens": 9}},
            {
                "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        ),
    ],
)  # fmt: skip
def test_usage_counts_caches_inside_the_prompt(usage: Any, expected: Any) -> None:
    assert usage_of(usage) == expected


def test_usage_is_what_was_counted_last() -> None:
    events = events_of(message([text("a")]))
    events[0]["message"]["usage"] = {**USAGE, "output_tokens": 1}
    events[-2]["usage"] = {"output_tokens": 60, "input_tokens": None}
    assert streamed(events)["usage"] == {**USAGE_HERE, "completion_tokens": 60, "total_tokens": 3_270}


def test_a_call_whose_arguments_come_with_its_start_keeps_them() -> None:
    """Some providers that speak this protocol stream no arguments."""
    start = {"type": "content_block_start", "index": 0, "content_block": USE}
    events = [*events_of(message([]))[:1], start, *events_of(message([], "tool_use"))[1:]]
    call = streamed(events)["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"town": "Oslo"}


def test_pings_and_unknown_events_mean_nothing() -> None:
    whole = message([text("a")])
    noise = [{"type": "ping"}, {"type": "content_block_sparkle", "index": "x"}]
    noisy = [each for event in events_of(whole) for each in (*noise, event)]
    assert streamed(noisy) == completion(whole, created=NOW)


ERRORS = [
    ("overloaded_error", UpstreamOverloaded, 503),
    ("rate_limit_error", UpstreamOverloaded, 503),
    ("invalid_request_error", UpstreamRefused, 400),
    ("request_too_large", UpstreamRefused, 400),
    ("authentication_error", UpstreamNeedsOperator, 404),
    ("permission_error", UpstreamNeedsOperator, 404),
    ("billing_error", UpstreamNeedsOperator, 404),
    ("not_found_error", UpstreamNeedsOperator, 404),
    ("api_error", UpstreamFailed, 502),
    ("timeout_error", UpstreamFailed, 504),
    ("novel_error", UpstreamFailed, 502),
]


@pytest.mark.parametrize(("word", "kind", "status"), ERRORS)
def test_an_error_event_is_the_failure_of_its_type(word: str, kind: type, status: int) -> None:
    event = {"type": "error", "error": {"type": word, "message": "No key sk-ant-0123456789abcdef today"}}
    for act in (
        lambda: MessageStream(created=NOW, credential="key-1").take(event),
        lambda: completion(event, created=NOW),
    ):
        with pytest.raises(UpstreamFailed) as failed:
            act()
        assert isinstance(failed.value, kind)
        assert (failed.value.status, failed.value.provider_code) == (status, word)
        assert "sk-ant" not in failed.value.sentence + (failed.value.provider_message or "")


def test_a_credential_refused_in_a_stream_is_for_the_operator() -> None:
    event = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}
    with pytest.raises(UpstreamFailed, match="refused this installation's credential"):
        MessageStream(created=NOW).take(event)


@pytest.mark.parametrize("junk", [None, [], "a", {}, {"type": "message"}, {"type": "message", "content": "a"}])
def test_what_is_no_message_is_junk(junk: Any) -> None:
    with pytest.raises(UpstreamFailed) as failed:
        completion(junk, created=NOW)
    assert failed.value.provider_code == "junk"


def test_what_an_anthropic_client_says_reaches_anthropic_in_the_same_words() -> None:
    """Through the skin of Messages and out again: nothing that both sides know is lost on the way."""
    body = {
        "model": OLD,
        "max_tokens": 9_000,
        "system": [text("Be brief.", cache_control=MARK)],
        "messages": [
            user(
                text("What is this?"),
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                    "cache_control": MARK,
                },
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                    "title": "a.pdf",
                },
            ),
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": "s1"},
                    {"type": "redacted_thinking", "data": "xyz"},
                    text("Let me see."),
                    USE,
                ],
            },
            user({"type": "tool_result", "tool_use_id": "call_1", "content": [text("Rain")], "cache_control": MARK}),
        ],
        "tools": [{**WEATHER_THERE, "cache_control": MARK}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 2_000},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "output_config": {"format": {"type": "json_schema", "schema": CLOSED}},
        "service_tier": "standard_only",
        "cache_control": MARK,
    }
    inside = chat_request(chat_fields(body), NO_HEADERS).body
    assert messages_request(inside, OLD).body == body


# Properties.

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=8)  # fmt: skip


def objects(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields, each mostly as known, at times anything."""
    return st.fixed_dictionaries({}, optional={name: value | JSON for name, value in known.items()})


WORDS = st.text(max_size=12)
URLS = st.sampled_from(["https://a.test/x", f"data:image/png;base64,{PNG}", "data:application/pdf;base64,JVBERi0=", "data:text/plain;base64,YQ==", "data:,", "ftp://x"])  # fmt: skip
PARTS = objects(
    type=st.sampled_from(["text", "image_url", "file", "refusal", "input_audio"]),
    text=WORDS,
    refusal=WORDS,
    image_url=objects(url=URLS) | URLS,
    file=objects(file_data=URLS, filename=WORDS, file_id=WORDS),
    cache_control=st.just(MARK),
)
CALLS = objects(id=WORDS, type=st.just("function"), function=objects(name=WORDS, arguments=st.sampled_from(["", "{}", '{"a":1}', "[", "3"])))  # fmt: skip
DETAILS = objects(type=st.sampled_from(["reasoning.text", "reasoning.encrypted"]), text=WORDS, signature=WORDS, data=WORDS, index=st.integers(0, 2), format=st.just("anthropic-claude-v1"))  # fmt: skip
MESSAGES = st.builds(
    lambda role, rest: {"role": role, **rest},
    st.sampled_from(["system", "developer", "user", "assistant", "tool", "user", "other"]),
    objects(
        content=WORDS | st.lists(PARTS | WORDS, max_size=3),
        tool_calls=st.lists(CALLS, max_size=2),
        tool_call_id=WORDS,
        reasoning_details=st.lists(DETAILS, max_size=3),
        cache_control=st.just(MARK),
    ),
)
REQUESTS = st.builds(
    lambda messages, rest: {"model": "a/b", "messages": messages, **rest},
    st.lists(MESSAGES, min_size=1, max_size=4),
    objects(
        max_tokens=st.integers(1, 9_000),
        max_completion_tokens=st.integers(1, 9_000),
        temperature=st.floats(0, 2),
        top_p=st.floats(0, 1),
        top_k=st.integers(0, 50),
        n=st.sampled_from([1, 1, 1, 2]),
        logprobs=st.sampled_from([False]),
        stop=WORDS | st.lists(WORDS, max_size=3),
        user=WORDS,
        tools=st.lists(objects(type=st.just("function"), function=objects(name=WORDS, parameters=JSON, strict=st.booleans()), cache_control=st.just(MARK)), max_size=2),
        tool_choice=st.sampled_from(["auto", "none", "required", {"type": "function", "function": {"name": "f"}}]),
        parallel_tool_calls=st.booleans(),
        reasoning=objects(effort=st.sampled_from(["none", "low", "max"]), max_tokens=st.integers(1, 9_000), enabled=st.booleans(), exclude=st.booleans()),
        reasoning_effort=st.sampled_from(["low", "high"]),
        verbosity=st.sampled_from(["low", "max"]),
        response_format=objects(type=st.sampled_from(["text", "json_object", "json_schema"]), json_schema=objects(schema=JSON)),
        service_tier=st.sampled_from(["auto", "flex"]),
        modalities=st.just(["text"]),
        anthropic_beta=st.lists(WORDS, max_size=2),
        cache_control=st.just(MARK),
    ),
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(REQUESTS, st.sampled_from([OLD, MIDDLE, NEW, OTHER]))
def test_what_the_door_lets_in_is_translated_or_refused(fields: dict[str, Any], model: str) -> None:
    try:
        body = parse_chat(json.dumps(fields).encode(), NO_HEADERS).body
    except InvalidRequest:
        return
    try:
        request = messages_request(body, model)
    except UpstreamRefused:
        return
    said = request.body
    json.dumps(said)
    assert said["messages"]
    assert all(turn["content"] for turn in said["messages"])
    assert all(one["role"] != other["role"] for one, other in zip(said["messages"], said["messages"][1:], strict=False))
    limit = fields.get("max_completion_tokens") or fields.get("max_tokens")
    assert said["max_tokens"] == limit if limit else said["max_tokens"] >= MAX_TOKENS_DEFAULT
    if said.get("thinking", {}).get("type") == "enabled":
        assert BUDGET_TOKENS_MIN <= said["thinking"]["budget_tokens"] < said["max_tokens"]


def test_a_request_nested_beyond_measure_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"a": schema}
    with pytest.raises(UpstreamRefused, match="nested"):
        messages_request({"messages": HI, "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}, OLD)  # fmt: skip


BLOCKS = (
    st.builds(text, WORDS)
    | st.builds(lambda words, seal: {"type": "thinking", "thinking": words, "signature": seal}, WORDS, st.text(min_size=1, max_size=8))
    | st.builds(lambda data: {"type": "redacted_thinking", "data": data}, WORDS)
    | st.builds(lambda name, given: {"type": "tool_use", "id": f"t_{name}", "name": name, "input": given}, WORDS, st.dictionaries(WORDS, SCALARS, max_size=3))
)  # fmt: skip
WHOLES = st.builds(message, st.lists(BLOCKS, max_size=5), st.sampled_from(["end_turn", "tool_use", "max_tokens"]))


@settings(max_examples=300, deadline=None)
@given(WHOLES, st.integers(1, 7), st.booleans())
def test_any_message_streamed_in_any_pieces_is_the_whole_message(
    whole: dict[str, Any], size: int, hidden: bool
) -> None:
    expected = completion(whole, created=NOW, hides_reasoning=hidden)
    got = streamed(events_of(whole, size=size), hidden=hidden)
    for answer in (expected, got):
        said = answer["choices"][0]["message"]
        said["content"] = said["content"] or ""
        for call in said.get("tool_calls", []):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    assert got == expected


@st.composite
def mutated_events(draw: st.DrawFn) -> list[Any]:
    """A stream of events with some of them dropped, doubled, moved, or with anything in some field of theirs."""
    events: list[Any] = events_of(draw(WHOLES), size=draw(st.integers(1, 7)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(events) - 1))
        match draw(st.sampled_from(["drop", "double", "move", "replace", "field", "inner"])):
            case "drop" if len(events) > 1:
                del events[place]
            case "double":
                events.insert(place, copy.deepcopy(events[place]))
            case "move":
                events.insert(draw(st.integers(0, len(events) - 1)), events.pop(place))
            case "replace":
                events[place] = draw(JSON)
            case "field" if isinstance(events[place], dict) and events[place]:
                events[place][draw(st.sampled_from(sorted(events[place])))] = draw(JSON)
            case "inner" if isinstance(events[place], dict):
                inner = [value for value in events[place].values() if isinstance(value, dict) and value]
                if inner:
                    chosen = draw(st.sampled_from(inner))
                    chosen[draw(st.sampled_from(sorted(chosen)))] = draw(JSON)
    return events


@settings(max_examples=1_000, deadline=None)
@given(mutated_events())
def test_no_sequence_of_events_raises_anything_but_a_failure(events: list[Any]) -> None:
    stream = MessageStream(created=NOW)
    with suppress(UpstreamFailed):
        for event in events:
            for chunk in stream.take(event):
                json.dumps(chunk)
                assert chunk["object"] == "chat.completion.chunk"
                assert isinstance(chunk["choices"], list)


@settings(max_examples=500, deadline=None)
@given(WHOLES, st.data())
def test_no_message_raises_anything_but_a_failure(whole: dict[str, Any], data: st.DataObject) -> None:
    target: Any = data.draw(st.sampled_from([whole, *whole["content"], whole["usage"]]))
    target = dict(target) if target is whole["usage"] else target
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)
    with suppress(UpstreamFailed):
        json.dumps(completion({**whole, "usage": target} if "input_tokens" in target else whole, created=NOW))
