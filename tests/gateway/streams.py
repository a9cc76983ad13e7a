"""Streams as no provider should send them and some do, made from a seed, and what each of them may cost.

A `Story` is what an upstream tells: words, reports of usage and an end. It is written for either protocol (`spoken`), then dressed
in whatever server-sent events allow (`dressed`), then cut into pieces (`cut`). `owed` says what is to be charged for it, from
the story alone: it knows nothing of the code that is tested.
"""

import json
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from tests.gateway.world import PRIME

Json = dict[str, Any]
End = Literal["done", "no [DONE]", "cut", "cut in an event", "closed", "closed at the end", "junk", "error"]
"""`closed at the end`: the connection closes after the answer said why it ends and before it ended."""

CONTEXT, MOST = PRIME.context_length, PRIME.max_completion_tokens or 0
NOT_BELIEVED = 10**12
JUNK = ["<html>", "[]", "null", "{", '"a"', "[[[[", '{"type": 7, "choices": 7}']


@dataclass(frozen=True)
class Counted:
    prompt: int
    completion: int
    reasoning: int = 0
    cached: int = 0
    written: int = 0


@dataclass(frozen=True)
class Words:
    text: str
    """Each word is one token; a blank follows each."""
    thought: bool


@dataclass(frozen=True)
class Report:
    """`usage` is what stands on the wire; `means` what it says, None where it makes no sense."""

    usage: Json
    means: Counted | None


@dataclass(frozen=True)
class Story:
    told: tuple[Words | Report, ...]
    end: End

    @property
    def finished(self) -> bool:
        return self.end in ("done", "no [DONE]")

    @property
    def content(self) -> str:
        return "".join(each.text for each in self.told if isinstance(each, Words) and not each.thought)


def owed(story: Story, prompt_guess: int) -> tuple[str, Counted]:
    """`reported`, `counted` or `nothing`, and how much. `prompt_guess`: what an unreported prompt is taken for."""
    words = since = 0
    report: Counted | None = None
    for each in story.told:
        if isinstance(each, Words):
            words += each.text.count(" ")
            since += each.text.count(" ")
        elif each.means is not None:
            report, since = _possible(each.means), 0
    if not words and not story.finished:
        return "nothing", Counted(0, 0)
    if report is not None and (not since or report.completion >= words):
        return "reported", report
    if not words:
        return "nothing", Counted(0, 0)
    if report is None:
        return "counted", Counted(prompt_guess, words)
    return "counted", Counted(report.prompt, words, report.reasoning, report.cached, report.written)


def _possible(report: Counted) -> Counted:
    return Counted(
        min(report.prompt, CONTEXT), min(report.completion, MOST), report.reasoning, report.cached, report.written
    )


# Stories for OpenAI's protocol.


def openai_story(chance: Random) -> Story:
    told: list[Words | Report] = [_words(chance) for _ in range(chance.randint(0, 5))]
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):  # in any chunk, and as often as it likes
        told.insert(chance.randint(0, len(told)), _openai_report(chance))
    if chance.random() < 0.6:  # where it belongs
        told.append(_openai_report(chance))
    return Story(tuple(told), _end(chance))


def _words(chance: Random) -> Words:
    return Words("".join(f"w{chance.randint(0, 99)} " for _ in range(chance.randint(1, 4))), chance.random() < 0.3)


def _end(chance: Random) -> End:
    ends: tuple[End, ...] = ("no [DONE]", "cut", "cut in an event", "closed", "closed at the end", "junk", "error")
    return "done" if chance.random() < 0.5 else chance.choice(ends)


def _openai_report(chance: Random) -> Report:
    prompt, completion, hidden = chance.randint(1, 60), chance.randint(0, 30), chance.randint(1, 500)
    usage: Json = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    match chance.choice(
        ["honest", "honest", "zero", "inside", "beside", "cached", "high", "beyond", "wrong", "absurd"]
    ):
        case "zero":
            return Report(dict.fromkeys(usage, 0), Counted(0, 0))
        case "inside":
            details = {"reasoning_tokens": hidden}
            made = completion + hidden
            usage |= {"completion_tokens": made, "total_tokens": prompt + made, "completion_tokens_details": details}
            return Report(usage, Counted(prompt, made, hidden))
        case "beside":  # as xAI and Google count: in the total only
            usage["total_tokens"] += hidden
            return Report(usage, Counted(prompt, completion + hidden, hidden))
        case "cached":
            read, written = chance.randint(0, prompt), chance.randint(0, prompt)
            usage["prompt_tokens_details"] = {"cached_tokens": read, "cache_write_tokens": written}
            return Report(usage, Counted(prompt, completion, 0, read, written))
        case "high":  # can be true and is far above what was held
            return Report({"prompt_tokens": 30_000, "completion_tokens": 4_000}, Counted(30_000, 4_000))
        case "beyond":  # cannot be true
            return Report(
                {"prompt_tokens": 90_000_000, "completion_tokens": 50_000_000}, Counted(90_000_000, 50_000_000)
            )
        case "wrong":
            name = chance.choice(["prompt_tokens", "completion_tokens"])
            return Report({**usage, name: chance.choice([-1, -(2**62), None, "7", 1.5, True, [], {}])}, None)
        case "absurd":
            return Report({**usage, chance.choice(["prompt_tokens", "completion_tokens"]): NOT_BELIEVED}, None)
    return Report(usage, Counted(prompt, completion))


def openai_events(story: Story, chance: Random) -> list[Json | str]:
    events: list[Json | str] = []
    if chance.random() < 0.7:
        events.append(_chunk({"role": "assistant", "content": ""}))
    for each in story.told:
        if isinstance(each, Words):
            name = chance.choice(["reasoning", "reasoning_content"]) if each.thought else "content"
            events.append(_chunk({name: each.text}))
        elif events and isinstance(events[-1], dict) and "usage" not in events[-1] and chance.random() < 0.3:
            events[-1]["usage"] = each.usage  # in the chunk of the words before it
        else:
            events.append({"id": "up-1", "choices": [], "usage": each.usage})
    if story.finished or story.end == "closed at the end":
        _say_why(events, chance)
    if story.end == "done":
        events += ["[DONE]", *chance.choice([[], [], ["<html>"], [_chunk({"content": "after the end"})]])]
    elif story.end == "junk":
        events.append(chance.choice(JUNK))
    elif story.end == "error":
        events.append({"error": {"code": 500, "message": "Its own words."}})
    return events


def _say_why(events: list[Json | str], chance: Random) -> None:
    """The reason of the end: in the chunk of the last words, or in one of its own, mostly before the usage as OpenAI has it."""
    last = events[-1] if events else None
    if isinstance(last, dict) and last["choices"] and chance.random() < 0.3:
        last["choices"][0]["finish_reason"] = "stop"
        return
    is_usage = isinstance(last, dict) and not last["choices"]
    events.insert(len(events) - (is_usage and chance.random() < 0.8), _chunk({}, "stop"))


def _chunk(delta: Json, finish: str | None = None) -> Json:
    return {"id": "up-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


# Stories for Anthropic's: usage comes at the start and at the end, and later counts replace earlier ones.


def anthropic_story(chance: Random) -> Story:
    start = _anthropic_usage(chance)
    story_end = _end(chance)
    told: list[Words | Report] = [Report(start, _anthropic_meaning(start))]
    told += [_words(chance) for _ in range(chance.randint(0, 5))]
    if story_end in ("done", "no [DONE]"):
        end = chance.choice(
            [
                {"output_tokens": chance.randint(0, 600)},
                {"output_tokens": chance.randint(0, 600)},
                {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": chance.randint(0, 50)}},
                {"output_tokens": chance.choice([-3, "7", 1.5, NOT_BELIEVED, 50_000_000])},
                {"output_tokens": None},
                {},
            ]
        )
        merged = {**start, **{name: value for name, value in end.items() if value is not None}}
        told.append(Report(end, _anthropic_meaning(merged)))
    return Story(tuple(told), story_end)


def _anthropic_usage(chance: Random) -> Json:
    usage: Json = {"input_tokens": chance.randint(0, 60), "output_tokens": 1}
    if chance.random() < 0.4:
        usage["cache_read_input_tokens"] = chance.randint(0, 900)
        usage["cache_creation_input_tokens"] = chance.randint(0, 900)
    if chance.random() < 0.2:
        usage["input_tokens"] = chance.choice([-1, NOT_BELIEVED, 90_000_000, "7", None])
    return usage if chance.random() < 0.9 else {}


def _anthropic_meaning(usage: Json) -> Counted | None:
    def count(name: str) -> int | None:
        value = usage.get(name)
        return value if isinstance(value, int) and value >= 0 else None

    fresh, completion = count("input_tokens"), count("output_tokens")
    if fresh is None or completion is None:
        return None
    read, written = count("cache_read_input_tokens") or 0, count("cache_creation_input_tokens") or 0
    if max(fresh + read + written, completion) >= NOT_BELIEVED:
        return None
    thought = usage.get("output_tokens_details", {}).get("thinking_tokens", 0)
    return Counted(fresh + read + written, completion, min(thought, completion), read, written)


def anthropic_events(story: Story, chance: Random) -> list[Json | str]:
    start, *told = story.told
    assert isinstance(start, Report)
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "usage": start.usage}
    events: list[Json | str] = [{"type": "message_start", "message": message}]
    end: Json = {}
    for index, each in enumerate(told):
        if isinstance(each, Report):
            end = each.usage
            continue
        kind, delta = ("thinking", "thinking_delta") if each.thought else ("text", "text_delta")
        begun = {"type": kind, kind: ""}
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events.append({"type": "content_block_delta", "index": index, "delta": {"type": delta, kind: each.text}})
        events.append({"type": "content_block_stop", "index": index})
        if chance.random() < 0.2:
            events.append({"type": chance.choice(["ping", "something_new"])})
    if story.end == "closed at the end":
        events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    if story.finished:
        events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end})
        events.append({"type": "message_stop"})
        events += ["[DONE]"] if story.end == "done" and chance.random() < 0.3 else []
    elif story.end == "junk":
        events.append(chance.choice(JUNK))
    elif story.end == "error":
        events.append({"type": "error", "error": {"type": "api_error", "message": "Its own words."}})
    return events


# From events to bytes.


def dressed(events: list[Json | str], chance: Random) -> bytes:
    """The same events in any form that the standard allows."""
    style = chance.choice([b"\n", b"\n", b"\r\n", b"\r", None])
    out = [b"\xef\xbb\xbf"] if chance.random() < 0.1 else []

    def line(content: bytes) -> None:
        out.append(content)
        ends = [style] if style is not None else [b"\n", b"\r\n", b"\r"]
        if not content and out[-2:-1] == [b"\r"]:
            ends = [end for end in ends if end != b"\n"]  # which would be the second half of a CRLF, and no empty line
        out.append(chance.choice(ends))

    for event in events:
        text = event if isinstance(event, str) else json.dumps(event)
        if chance.random() < 0.1:
            line(chance.choice([b": OPENROUTER PROCESSING", b":", b"id: 7", b"retry: 10", b"data_: no", b"event"]))
            if chance.random() < 0.5:
                line(b"")
        if isinstance(event, dict) and ("type" in event or chance.random() < 0.1):
            line(b"event: " + str(event.get("type", "x")).encode())
        halves = text.split(", ", 1) if isinstance(event, dict) and chance.random() < 0.1 else [text]
        for number, half in enumerate(halves):  # two `data:` lines are one text with a line end in it
            comma = "," if number < len(halves) - 1 else ""
            line((b"data:" if chance.random() < 0.2 else b"data: ") + (half + comma).encode())
        for _ in range(chance.choice([1, 1, 1, 2])):
            line(b"")
    return b"".join(out)


def ended(content: bytes, end: End, chance: Random) -> bytes:
    if end == "cut in an event":
        return content + b'data: {"id": "up-1", "choices": [{"index": 0, "delta": {"content": "half'
    if end in ("done", "no [DONE]") and chance.random() < 0.1:
        return content.rstrip(b"\r\n")  # the last event without its empty line
    return content


def cut(content: bytes, chance: Random) -> list[bytes]:
    """The bytes in pieces: all at once, at a few places, or each alone."""
    how = chance.random()
    if how < 0.3:
        return [content]
    if how < 0.35:
        return [content[at : at + 1] for at in range(len(content))]
    places = sorted(chance.randint(0, len(content)) for _ in range(chance.randint(1, 12)))
    pieces = [content[start:end] for start, end in zip([0, *places], [*places, len(content)], strict=True)]
    return [piece for piece in pieces if piece]


WORDS = [
    b"data: ", b"\n", b"\r", b"\n\n", b"\r\n", b"\xef\xbb\xbf", b"\xff", b"\x00", b'"error":', b'"usage":{', b"null", b"[DONE]",
    b"}", b"{", b'"', b"[", b"1e999", b'"choices":7', b"\\ud800", b": c\n\n", b"data: {}\n\n", b"data: []\n\n",
    b'"finish_reason":"', b'"index":-1', b'"index":99999999999999999999', b"-", b"9" * 40, b'"tool_calls":[{}]', b"true",
]  # fmt: skip


def mutated(content: bytes, chance: Random) -> bytes:
    """With some of it struck out, doubled, overwritten or broken off."""
    broken = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(broken))
        match chance.choice(["insert", "insert", "overwrite", "strike", "double", "flip", "truncate"]):
            case "insert":
                broken[at:at] = chance.choice(WORDS)
            case "overwrite":
                broken[at : at + chance.choice([1, 5, 50])] = chance.choice(WORDS)
            case "strike":
                del broken[at : at + chance.randint(1, 80)]
            case "double":
                broken[at:at] = broken[at : at + chance.randint(1, 200)]
            case "flip" if at < len(broken):
                broken[at] ^= 1 << chance.randint(0, 7)
            case "truncate" if chance.random() < 0.3:
                del broken[at:]
    return bytes(broken)
