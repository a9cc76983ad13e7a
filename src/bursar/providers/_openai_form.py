"""Chat completions in our form → what OpenAI-compatible providers take, and their answers without what the client wants hidden.

Our form has OpenRouter's words; OpenRouter itself gets them as they are. Everybody else knows OpenAI's, and many refuse a field
they do not know, wherever it stands:

1. `reasoning` becomes `reasoning_effort`: its effort, else the effort that its budget (`max_tokens`) comes nearest to. Whether a
   model thinks at all is not ours to switch: `enabled` alone says nothing there.
2. `reasoning.exclude`, or `include_reasoning: false`: the thoughts are taken out of the answer here.
3. `cache_control`, wherever it stands, and `reasoning` and `reasoning_details` of messages are left out. These providers cache by
   themselves, and have their own word for thoughts that are sent back (`reasoning_content`), which stays.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

_SET_HERE = frozenset({"model", "stream", "stream_options", "anthropic_beta"})
_OPENROUTERS = frozenset({"cache_control", "reasoning", "include_reasoning"})
_OPENROUTERS_IN_MESSAGES = frozenset({"cache_control", "reasoning", "reasoning_details"})
_THOUGHTS = frozenset({"reasoning", "reasoning_content", "reasoning_details"})
_BUDGETS = ((1_024, "minimal"), (4_096, "low"), (16_384, "medium"))
"""Budgets up to so many tokens, and the effort that spends about as much."""
_LARGEST = "high"


@lru_cache(maxsize=256)
def takes_our_form(base_url: str) -> bool:
    """Whether OpenRouter is behind this address."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return False
    return host == "openrouter.ai" or host.endswith(".openrouter.ai")


def hides_reasoning(chat: Mapping[str, Any]) -> bool:
    reasoning = chat.get("reasoning")
    excluded = isinstance(reasoning, dict) and reasoning.get("exclude") is True
    return excluded or chat.get("include_reasoning") is False


def openai_body(chat: Mapping[str, Any]) -> dict[str, Any]:
    """The request without what is set by whoever sends it (`model`, `stream`). The input is not changed."""
    said = {name: value for name, value in chat.items() if name not in _SET_HERE and name not in _OPENROUTERS}
    effort = _effort(chat.get("reasoning"))
    if effort is not None:
        said["reasoning_effort"] = effort
    for name in ("messages", "tools"):
        if isinstance(said.get(name), list):
            said[name] = [_plain(each) for each in said[name]]
    return said


def openrouter_body(chat: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chat.items() if name not in _SET_HERE}


def without_thoughts(answer: dict[str, Any], part: str) -> dict[str, Any]:
    """A chunk (`part` is delta) or a whole answer (message) without reasoning. Returns it, changed in place."""
    for choice in answer["choices"]:
        said = choice.get(part)
        if isinstance(said, dict) and not _THOUGHTS.isdisjoint(said):
            choice[part] = {name: value for name, value in said.items() if name not in _THOUGHTS}
    return answer


def with_reasoning(answer: dict[str, Any], part: str) -> dict[str, Any]:
    """A chunk or a whole answer in which `reasoning_content`, as DeepSeek, Qwen and vLLM call it, stands under our name as well: clients
    read the one, and some send the other back, which those providers ask for. Returns it, changed in place."""
    for choice in answer["choices"]:
        said = choice.get(part)
        if isinstance(said, dict) and said.get("reasoning_content") is not None and said.get("reasoning") is None:
            said["reasoning"] = said["reasoning_content"]
    return answer


def _effort(reasoning: Any) -> str | None:
    if not isinstance(reasoning, dict):
        return None
    effort, budget = reasoning.get("effort"), reasoning.get("max_tokens")
    if isinstance(effort, str):
        return "xhigh" if effort == "max" else effort  # OpenAI has no word above
    if isinstance(budget, int) and not isinstance(budget, bool):
        return next((name for most, name in _BUDGETS if budget <= most), _LARGEST)
    return None


def _plain(of: Any) -> Any:
    """A message or a tool without OpenRouter's words, itself where it has none."""
    if not isinstance(of, dict):
        return of
    if not _OPENROUTERS_IN_MESSAGES.isdisjoint(of):
        of = {name: value for name, value in of.items() if name not in _OPENROUTERS_IN_MESSAGES}
    for name in ("content", "function"):
        inner = of.get(name)
        if isinstance(inner, list):
            of = {**of, name: [_unmarked(part) for part in inner]}
        elif isinstance(inner, dict):
            of = {**of, name: _unmarked(inner)}
    return of


def _unmarked(part: Any) -> Any:
    if isinstance(part, dict) and "cache_control" in part:
        return {name: value for name, value in part.items() if name != "cache_control"}
    return part
