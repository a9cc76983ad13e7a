"""Brings reported usage into OpenAI's shape: hidden reasoning is a part of the completion tokens, and what came from a cache is
told among the details of the prompt."""

from typing import Any


def normalise_usage(answer: dict[str, Any]) -> dict[str, Any]:
    """Where `total_tokens` says that more was made than `completion_tokens` counts, the difference is reasoning.

    xAI and Google report hidden reasoning beside `completion_tokens` instead of inside it; charged as written, it would be
    free. Returns the answer, changed in place.
    """
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return answer
    _tell_cached(usage)
    prompt, completion, total = (
        _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if prompt is None or completion is None or total is None or total <= prompt + completion:
        return answer
    hidden = total - prompt - completion
    details = usage.get("completion_tokens_details")
    details = dict(details) if isinstance(details, dict) else {}
    details["reasoning_tokens"] = max(_count(details.get("reasoning_tokens")) or 0, hidden)
    usage["completion_tokens"] = total - prompt
    usage["completion_tokens_details"] = details
    return answer


def _tell_cached(usage: dict[str, Any]) -> None:
    """DeepSeek and Moonshot count what came from a cache beside the details."""
    cached = next((found for name in _CACHED if (found := _count(usage.get(name))) is not None), None)
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    if cached is not None and _count(details.get("cached_tokens")) is None:
        usage["prompt_tokens_details"] = {**details, "cached_tokens": cached}


_CACHED = ("prompt_cache_hit_tokens", "cached_tokens")


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
