"""What overview and activity both draw: rows of generations, and the chart."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from bursar.reports import FeedRow, Period, Usage, UsageTotals
from bursar.web._chart import Bucket, Chart, stacked_bars
from bursar.web._render import compact, usd

METRICS = ("spend", "tokens", "requests")

_AMOUNTS: dict[str, Callable[[UsageTotals], int]] = {
    "spend": lambda totals: totals.cost,
    "tokens": lambda totals: totals.tokens,
    "requests": lambda totals: totals.requests,
}
_TEXTS: dict[str, Callable[[int], str]] = {"spend": usd, "tokens": compact, "requests": "{:,}".format}
_TICK_EVERY = {Period.DAY: 4, Period.WEEK: 1, Period.MONTH: 4}
_FINISHES = {"failed": "error", "interrupted": "error", "cancelled": "canceled"}

CHAT_KEY = "chat"
"""What filters for `NO_KEY` in a URL."""
BUCKET_NAMES = {Period.DAY: "Hour", Period.WEEK: "Day", Period.MONTH: "Day"}


def generation(row: FeedRow) -> dict[str, Any]:
    """One row of _generations.html."""
    return {
        "id": row.id,
        "created_at": row.created_at,
        "model": row.model,
        "provider": row.provider or "–",
        "key_name": key_name_of(row),
        "member": row.user_name,
        "tokens_in": row.prompt_tokens,
        "tokens_out": row.completion_tokens,
        "tokens_per_second": row.tokens_per_second,
        "finish": finish_of(row),
        "cost_nanos": row.cost,
        "source": row.usage_source,
    }


def key_name_of(row: FeedRow) -> str:
    """By which key; what had none was asked on the page Chat."""
    return row.key_name or "Chat"


def finish_of(row: FeedRow) -> str:
    """How it ended, in one word: what went wrong, or the model's own reason to stop."""
    return _FINISHES.get(row.status) or row.finish_reason or "stop"


def chart_of(usage: Usage, metric: str) -> Chart:
    """Bars by model, one per hour or day."""
    amount, text, every = _AMOUNTS[metric], _TEXTS[metric], _TICK_EVERY[usage.period]
    buckets: list[Bucket] = []
    for number, bucket in enumerate(usage.buckets):
        label, tick = _labels(bucket.start, usage.period)
        values = [(model, amount(totals)) for model, totals in bucket.by_model.items()]
        buckets.append((label, tick if number % every == 0 else None, values))
    return stacked_bars(buckets, text=text)


def _labels(start: datetime, period: Period) -> tuple[str, str]:
    """The full name of a bar and the text below it."""
    if period is Period.DAY:
        return f"{start:%b} {start.day}, {start:%H:%M}", f"{start:%H:%M}"
    return f"{start:%a, %b} {start.day}", f"{start:%b} {start.day}"
