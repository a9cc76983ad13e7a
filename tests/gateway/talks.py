"""Requests and answers as well-behaved clients and providers write them, from a seed: tools, images, thinking, caches, reasons."""

import json
from random import Random
from typing import Any

Json = dict[str, Any]
MODEL = "claude-sonnet-4-5"
MARK = {"type": "ephemeral"}
PNG = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}


def words(chance: Random) -> str:
    return " ".join(chance.choice(["rain", "été", "☃", "a\nb", "{}", '"', "END"]) for _ in range(chance.randint(1, 4)))


def arguments(chance: Random) -> Json:
    return {
        word: chance.choice([1, 0.5, None, True, "x", [1], {"y": {}}])
        for word in chance.sample("abcde", chance.randint(0, 3))
    }


def marked(block: Json, chance: Random) -> Json:
    return {**block, "cache_control": MARK} if chance.random() < 0.15 else block


def chat(chance: Random) -> Json:
    """A chat completion as OpenAI's clients write it, with cache marks."""
    messages: list[Json] = []
    if chance.random() < 0.5:
        text = words(chance)
        content: Any = text if chance.random() < 0.5 else [marked({"type": "text", "text": text}, chance)]
        messages.append({"role": "system", "content": content})
    for turn in range(chance.randint(1, 3)):
        messages.append({"role": "user", "content": _user_content(chance)})
        calls = [
            {
                "id": f"call_{turn}_{number}", "type": "function",
                "function": {"name": "weather", "arguments": json.dumps(arguments(chance))},
            }
            for number in range(chance.choice([0, 0, 1, 2]))
        ]  # fmt: skip
        said = words(chance) if not calls or chance.random() < 0.5 else None
        messages.append({"role": "assistant", "content": said, **({"tool_calls": calls} if calls else {})})
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": words(chance)} for call in calls]
    messages.append({"role": "user", "content": words(chance)})
    function = {"name": "weather", "description": "Of a place", "parameters": SCHEMA}
    fields: Json = {"max_tokens": chance.randint(1, 5_000), "tools": [{"type": "function", "function": function}]}
    optional: list[Json] = [
        {"temperature": chance.choice([0, 0.3, 1])},
        {"top_p": 0.5},
        {"stop": chance.choice(["END", ["END", "STOP"]])},
        {"user": "u-1"},
        {
            "tool_choice": chance.choice(
                ["auto", "none", "required", {"type": "function", "function": {"name": "weather"}}]
            )
        },
        {"parallel_tool_calls": chance.choice([True, False]), "tool_choice": "auto"},
    ]
    for some in chance.sample(optional, chance.randint(0, 3)):
        if not (some.keys() | fields.keys() >= {"temperature", "top_p"}):
            fields |= some
    return {"messages": messages, **fields}


def _user_content(chance: Random) -> Any:
    if chance.random() < 0.4:
        return words(chance)
    parts: list[Json] = [marked({"type": "text", "text": words(chance)}, chance)]
    urls = [f"data:image/png;base64,{PNG}", "https://a.test/x.png"]
    images = [{"type": "image_url", "image_url": {"url": url}} for url in chance.sample(urls, chance.randint(0, 2))]
    return [*parts, *images]


def blocks_of_assistant(chance: Random) -> list[Json]:
    found: list[Json] = []
    if chance.random() < 0.4:
        found.append({"type": "thinking", "thinking": words(chance), "signature": f"sig{chance.randint(0, 99)}"})
    if chance.random() < 0.2:
        found.append({"type": "redacted_thinking", "data": f"sealed{chance.randint(0, 99)}"})
    uses = [
        {"type": "tool_use", "id": f"toolu_{chance.randint(0, 10**9)}", "name": "weather", "input": arguments(chance)}
        for _ in range(chance.choice([0, 0, 1, 2]))
    ]
    text = [{"type": "text", "text": words(chance)}] if not uses or chance.random() < 0.6 else []
    return [*found, *text, *uses]


def client_request(chance: Random) -> Json:
    """A request as Anthropic's clients write it."""
    messages: list[Json] = []
    for _ in range(chance.randint(1, 3)):
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
        asked: Any = [{"type": "text", "text": words(chance)}, *([image] if chance.random() < 0.4 else [])]
        said = blocks_of_assistant(chance)
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": words(chance)}
            for block in said
            if block["type"] == "tool_use"
        ]
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        if results:
            messages.append({"role": "user", "content": results})
            messages.append({"role": "assistant", "content": words(chance)})
    messages.append({"role": "user", "content": words(chance)})
    fields: Json = {"max_tokens": chance.randint(1, 5_000)}
    optional: list[Json] = [
        {"system": words(chance)},
        {"temperature": chance.choice([0, 0.3, 1])},
        {"stop_sequences": ["END"]},
        {"metadata": {"user_id": "u-1"}},
        {"tools": [{"name": "weather", "description": "Of a place", "input_schema": SCHEMA}]},
        {"tool_choice": chance.choice([{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "weather"}])},
    ]
    for some in chance.sample(optional, chance.randint(0, 5)):
        fields |= some
    return {"messages": messages, **fields}


def message(chance: Random) -> Json:
    usage: Json = {"input_tokens": chance.randint(0, 99), "output_tokens": chance.randint(0, 99)}
    if chance.random() < 0.5:
        usage |= {
            "cache_read_input_tokens": chance.randint(0, 99),
            "cache_creation_input_tokens": chance.randint(0, 99),
        }
    content = blocks_of_assistant(chance)
    reasons = (
        ["tool_use"] if content[-1]["type"] == "tool_use" else ["end_turn", "max_tokens", "stop_sequence", "refusal"]
    )
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content,
        "stop_reason": chance.choice(reasons), "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def answer(chance: Random) -> Json:
    """A whole `chat.completion`."""
    calls = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "weather", "arguments": json.dumps(arguments(chance))},
        }
        for number in range(chance.choice([0, 0, 1, 2]))
    ]
    said: Json = {"role": "assistant", "content": words(chance) if not calls or chance.random() < 0.5 else None}
    if calls:
        said["tool_calls"] = calls
    prompt, completed = chance.randint(50, 99), chance.randint(0, 99)
    cached = chance.randint(0, 50)
    return {
        "id": "gen-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "message": said, "finish_reason": "tool_calls" if calls else chance.choice(["stop", "length"])}],
        "usage": {
            "prompt_tokens": prompt, "completion_tokens": completed, "total_tokens": prompt + completed,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }  # fmt: skip
