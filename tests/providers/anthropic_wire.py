"""Anthropic's wire, for tests: a Message as the events that stream it, and chunks put together again as a client does."""

import json
from typing import Any

NOW = 1_795_000_000


def events_of(message: dict[str, Any], *, size: int = 3) -> list[dict[str, Any]]:
    """As https://platform.claude.com/docs/en/build-with-claude/streaming shows them; texts in pieces of `size` characters."""
    usage = message.get("usage") or {}
    begun = {
        **message,
        "content": [],
        "stop_reason": None,
        "stop_details": None,
        "usage": {**usage, "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(message["content"]):
        events.append({"type": "content_block_start", "index": index, "content_block": _empty(block)})
        if index == 0:
            events.append({"type": "ping"})
        deltas = _deltas(block, size)
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    end = {name: message.get(name) for name in ("stop_reason", "stop_sequence", "stop_details")}
    counted = {name: usage[name] for name in ("output_tokens", "output_tokens_details") if name in usage}
    return [*events, {"type": "message_delta", "delta": end, "usage": counted}, {"type": "message_stop"}]


def wire(events: list[dict[str, Any]]) -> bytes:
    return b"".join(sse(event) for event in events)


def sse(event: dict[str, Any]) -> bytes:
    return b"event: " + event["type"].encode() + b"\ndata: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def _empty(block: dict[str, Any]) -> dict[str, Any]:
    match block["type"]:
        case "text":
            return {**block, "text": ""}
        case "thinking":
            return {**block, "thinking": "", "signature": ""}
        case "tool_use":
            return {**block, "input": {}}
    return block


def _deltas(block: dict[str, Any], size: int) -> list[dict[str, Any]]:
    def pieces(text: str) -> list[str]:
        return [text[start : start + size] for start in range(0, len(text), size)]

    match block["type"]:
        case "text":
            return [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        case "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
            return [*thoughts, {"type": "signature_delta", "signature": block["signature"]}]
        case "tool_use":
            whole = json.dumps(block["input"], separators=(",", ":"), ensure_ascii=False) if block["input"] else ""
            return [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(whole)]]
    return []


def reassembled(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The `chat.completion` that these chunks stream: by index, as OpenAI's and OpenRouter's clients collect them."""
    said: dict[str, Any] = {"content": "", "refusal": None}
    answer: dict[str, Any] = {"object": "chat.completion"}
    finish = None
    for chunk in chunks:
        answer |= {name: value for name, value in chunk.items() if name not in ("object", "choices")}
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            _add(said, choice["delta"])
    if not said["content"] and "tool_calls" in said:
        said["content"] = None
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish}
    return {**answer, "choices": [choice]}


def _add(said: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name in ("content", "reasoning"):
            said[name] = (said.get(name) or "") + value
        elif name == "reasoning_details":
            for detail in value:
                _add_detail(said, detail)
        elif name == "tool_calls":
            for call in value:
                _add_call(said.setdefault("tool_calls", []), dict(call))
        else:
            said[name] = value


def _add_detail(said: dict[str, Any], detail: dict[str, Any]) -> None:
    said.setdefault("reasoning", "")
    details = said.setdefault("reasoning_details", [])
    if len(details) == detail["index"]:
        empty = {"text": ""} if detail["type"] == "reasoning.text" else {}
        details.append({**empty, **detail})
        return
    kept = details[detail["index"]]
    for name, value in detail.items():
        kept[name] = kept["text"] + value if name == "text" else value


def _add_call(calls: list[dict[str, Any]], call: dict[str, Any]) -> None:
    index = call.pop("index")
    if len(calls) == index:
        calls.append({**call, "function": dict(call["function"])})
    else:
        calls[index]["function"]["arguments"] += call["function"]["arguments"]
