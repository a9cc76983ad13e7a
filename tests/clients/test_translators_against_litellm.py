"""Our translators held against another public pair, litellm's, on shared cases from a seed.

What differs on purpose, and is therefore put alike before the comparison or kept out of the cases:

| where                         | ours                                                   | litellm's                                        |
|-------------------------------|--------------------------------------------------------|--------------------------------------------------|
| text of a tool's result       | always a list of blocks, as a cache mark needs one     | a string                                         |
| one plain text of a user      | a string to OpenAI, as some servers know nothing else  | a list with one part where it came as one        |
| thinking in our form          | OpenRouter's `reasoning_details`, signed and in order  | `thinking_blocks` and `reasoning_content`        |
| an effort as a budget         | a share of the client's limit, and always below it     | fixed per effort, also where the limit is lower  |
| temperature above 1           | 1, the most that Anthropic takes                       | as it came                                       |
| temperature and top_p at once | temperature alone, as a Claude takes one of them       | both                                             |
| white space as text           | left out, as Anthropic refuses it                      | a sentence of its own in its place               |
| parallel calls allowed        | not said, as it is so anyway                           | said                                             |
| reasoning tokens not reported | 0: they are a part of what is charged in any case      | guessed from the text                            |
| a tool that failed            | "Error: " before its text: our form has no word for it | lost                                             |
"""

import copy
import json
from random import Random
from typing import Any

import pytest

from bursar.catalog import Usage
from bursar.gateway import _skin_messages_form as form
from bursar.gateway._meter import _FINISH
from bursar.gateway._wire import usage_object
from bursar.kernel.money import Nanos
from bursar.providers._anthropic_form import completion, messages_request
from tests.gateway.talks import MODEL, answer, chat, client_request, message
from tests.support.clients import run_client
from tests.support.scale import SEED, scaled

pytestmark = pytest.mark.clients

Json = dict[str, Any]
CASES = scaled(2_000)
"""Of each kind."""


MAKERS = {
    "chat_to_messages": chat,
    "message_to_completion": message,
    "messages_to_chat": client_request,
    "completion_to_message": answer,
}


def cases_of(kind: str) -> list[Json]:
    return [MAKERS[kind](Random(f"{SEED} {kind} {number}")) for number in range(CASES)]


@pytest.fixture(scope="module")
def theirs() -> dict[str, list[Any]]:
    """By kind: what litellm makes of each case."""
    asked = [{"kind": kind, "model": MODEL, "body": case} for kind in MAKERS for case in cases_of(kind)]
    found = run_client("litellm", "litellm_oracle.py", {}, given=json.dumps(asked))
    return {kind: found[at * CASES : (at + 1) * CASES] for at, kind in enumerate(MAKERS)}


# Putting alike what differs on purpose.


def as_blocks(content: Any) -> list[Json]:
    found = [{"type": "text", "text": content}] if isinstance(content, str) else copy.deepcopy(content or [])
    for block in found:
        if block["type"] == "tool_result":
            block["content"] = as_blocks(block.get("content"))
    return found


def anthropic_alike(body: Json) -> Json:
    said = {name: value for name, value in body.items() if value not in (None, [], {})}
    if "system" in said:
        said["system"] = as_blocks(said["system"])
    said["messages"] = [{"role": each["role"], "content": as_blocks(each["content"])} for each in said["messages"]]
    if said.get("tool_choice", {}).get("disable_parallel_tool_use") is False:  # which is what leaving it out means
        said["tool_choice"] = {name: value for name, value in said["tool_choice"].items() if value is not False}
    said["tools"] = [{name: value for name, value in tool.items() if name != "type"} for tool in said.get("tools", [])]
    return said


def thoughts_of(said: Json) -> list[Any]:
    ours = [detail.get("data") or (detail["text"], detail["signature"]) for detail in said.get("reasoning_details", [])]
    theirs = [
        block.get("data") or (block["thinking"], block["signature"]) for block in said.get("thinking_blocks") or []
    ]
    return ours or theirs


def calls_of(said: Json) -> list[Any]:
    return [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"] or "{}"))
        for call in said.get("tool_calls") or []
    ]


def turn_alike(said: Json) -> Json:
    told = {
        "role": said["role"],
        "content": as_blocks(said.get("content")),
        "thoughts": thoughts_of(said),
        "calls": calls_of(said),
    }
    return {**told, "answers": said.get("tool_call_id")}


def chat_alike(body: Json) -> Json:
    return {**body, "messages": [turn_alike(each) for each in body["messages"]]}


# The comparison.


def test_a_chat_says_the_same_to_anthropic(theirs: dict[str, list[Any]]) -> None:
    for case, found in zip(cases_of("chat_to_messages"), theirs["chat_to_messages"], strict=True):
        ours = messages_request(case, MODEL).body
        assert anthropic_alike(ours) == anthropic_alike(found), case


def test_anthropics_answer_is_the_same_completion(theirs: dict[str, list[Any]]) -> None:
    for case, found in zip(cases_of("message_to_completion"), theirs["message_to_completion"], strict=True):
        ours = completion(case, created=1)
        [mine], [other] = ours["choices"], found["choices"]
        assert turn_alike(mine["message"]) == turn_alike(other["message"]), case
        assert _FINISH[mine["finish_reason"]] == other["finish_reason"], case
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert ours["usage"][name] == found["usage"][name], case
        for name in ("cached_tokens", "cache_write_tokens"):
            assert ours["usage"]["prompt_tokens_details"][name] == (
                found["usage"]["prompt_tokens_details"][name] or 0
            ), case


def test_an_anthropic_client_asks_for_the_same_chat(theirs: dict[str, list[Any]]) -> None:
    for case, found in zip(cases_of("messages_to_chat"), theirs["messages_to_chat"], strict=True):
        assert chat_alike(form.chat_fields({**case, "model": MODEL})) == chat_alike(found), case


def test_an_anthropic_client_gets_the_same_message(theirs: dict[str, list[Any]]) -> None:
    for case, found in zip(cases_of("completion_to_message"), theirs["completion_to_message"], strict=True):
        counts = case["usage"]
        cached = counts["prompt_tokens_details"]["cached_tokens"]
        used = Usage(counts["prompt_tokens"], counts["completion_tokens"], cached_tokens=cached)
        ours = form.message({**case, "usage": usage_object(used, Nanos(0))}, None)
        assert ours["content"] == found["content"], case
        assert ours["stop_reason"] == found["stop_reason"], case
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens"):
            assert ours["usage"][name] == found["usage"].get(name, 0), case
