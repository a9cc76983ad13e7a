"""The feed of requests with its filters and chart, and the same rows as CSV."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from bursar import keys, reports
from bursar.kernel.ids import KeyId, is_id
from bursar.kernel.paging import Cursor, Page
from bursar.reports import NO_KEY, ActivityFilter, FeedRow, Period, Usage
from bursar.storage import Snapshot
from bursar.web._context import Visit
from bursar.web._csv import csv_answer, harmless
from bursar.web._feed import BUCKET_NAMES, CHAT_KEY, METRICS, chart_of, finish_of, generation, key_name_of
from bursar.web._pages import is_fragment, render
from bursar.web._render import compact, usd, usd_exact

DELTA_PERCENT_MAX = 999
"""More than tenfold compares with next to nothing, which says nothing."""
COLUMNS = (
    *("time_utc", "generation_id", "model", "provider", "api_key", "member", "prompt_tokens", "completion_tokens"),
    *("reasoning_tokens", "cached_tokens", "first_token_ms", "duration_ms", "finish", "cost_usd", "usage_source"),
    *("cache_write_tokens", "cache_write_1h_tokens", "audio_tokens", "image_tokens"),
    *("audio_output_tokens", "image_output_tokens"),
)


@dataclass(frozen=True)
class Wanted:
    """The filters as the URL says them; what makes no sense there is as if it were not."""

    key: str
    model: str
    period: Period
    metric: str

    @classmethod
    def read(cls, visit: Visit) -> "Wanted":
        key, period, metric = visit.query("key"), visit.query("period"), visit.query("metric")
        return cls(
            key if key == CHAT_KEY or is_id(key, "key") else "",
            visit.query("model")[:200],
            Period(period) if period in set(Period) else Period.MONTH,
            metric if metric in METRICS else METRICS[0],
        )

    def filter(self, visit: Visit) -> ActivityFilter:
        return ActivityFilter(
            key=NO_KEY if self.key == CHAT_KEY else KeyId(self.key) if self.key else None,
            model=self.model or None,
            since=self.period.start(visit.now),
        )

    def query(self, **more: str | None) -> str:
        values = {"period": self.period.value, "metric": self.metric, "key": self.key, "model": self.model} | more
        return urlencode({name: value for name, value in values.items() if value})


async def show(visit: Visit) -> Response:
    wanted = Wanted.read(visit)
    filters = wanted.filter(visit)
    await visit.site.parts.gateway.caught_up()  # what was answered a moment ago is shown
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        page = await reports.activity_feed(snapshot, visit.owner, filters, _cursor(visit))
        usage = await reports.usage(snapshot, visit.owner, wanted.period, filters)
        key_options, models = await _choices(snapshot, visit, wanted)
        ever = bool(page.items) or await _has_any(snapshot, visit)
    url = f"{visit.base}/activity"
    response = render(
        visit,
        "_activity.html" if is_fragment(visit.request) else "activity.html",
        filters={"key": wanted.key, "model": wanted.model, "period": wanted.period.value, "metric": wanted.metric},
        key_options=key_options,
        model_options=models,
        kpis=_kpis(usage),
        chart=chart_of(usage, wanted.metric),
        bucket_name=BUCKET_NAMES[wanted.period],
        any_requests=ever,
        generations=[generation(row) for row in page.items],
        pager=_pager(url, wanted, page, usage.total.requests),
        csv_url=f"{visit.base}/activity.csv?{wanted.query(metric=None)}",
    )
    response.headers["Vary"] = "HX-Request, HX-Request-Type, Cookie"
    return response


async def export(visit: Visit) -> Response:
    """What the page shows with these filters, all pages of it."""
    wanted = Wanted.read(visit)
    filters = replace(wanted.filter(visit), until=None)
    name = f"bursar-activity-{visit.here.slug or 'personal'}-{wanted.period.value}-{visit.now:%Y-%m-%d}.csv"
    await visit.site.parts.gateway.caught_up()
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        batches = reports.export_rows(snapshot, visit.owner, filters)
        return await csv_answer(name, COLUMNS, ([_cells(row) for row in batch] async for batch in batches))


def _cells(row: FeedRow) -> Sequence[object]:
    return (
        f"{row.created_at:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
        *(harmless(text or "") for text in (row.id, row.model, row.provider, key_name_of(row), row.user_name)),
        *(row.prompt_tokens, row.completion_tokens, row.reasoning_tokens, row.cached_tokens),
        *("" if row.first_token_ms is None else row.first_token_ms, row.duration_ms),
        *(harmless(finish_of(row)), usd_exact(row.cost).replace("$", "").replace(",", "")),
        *(row.usage_source, row.cache_write_tokens, row.cache_write_1h_tokens, row.audio_tokens, row.image_tokens),
        *(row.audio_output_tokens, row.image_output_tokens),
    )


def _cursor(visit: Visit) -> Cursor | None:
    at = visit.query("at")
    if is_id(at, "gen"):
        return Cursor("older", f"{at}0")  # the page that begins with this one: the next string after it in order
    cursor = Cursor.decode(visit.query("page"))
    return cursor if cursor is not None and is_id(cursor.id, "gen") else None


async def _choices(snapshot: Snapshot, visit: Visit, wanted: Wanted) -> tuple[Sequence[tuple[str, str]], Sequence[str]]:
    """What was used in the longest period, and what is filtered by now, so that a choice never goes missing."""
    used, used_models = await reports.filter_choices(snapshot, visit.owner, Period.MONTH.start(visit.now))
    key_options, models = [(key or CHAT_KEY, name) for key, name in used], list(used_models)
    if wanted.key and wanted.key not in dict(key_options):
        key = await keys.find_key(snapshot, visit.owner, KeyId(wanted.key)) if wanted.key != CHAT_KEY else None
        otherwise = "Chat" if wanted.key == CHAT_KEY else wanted.key
        key_options.append((wanted.key, key.name if key is not None else otherwise))
    if wanted.model and wanted.model not in models:
        models.append(wanted.model)
    return key_options, models


async def _has_any(snapshot: Snapshot, visit: Visit) -> bool:
    return bool((await reports.activity_feed(snapshot, visit.owner, ActivityFilter(), None, 1)).items)


def _kpis(usage: Usage) -> Iterator[dict[str, Any]]:
    total, before = usage.total, usage.before
    speed, speed_before = total.tokens_per_second, before.tokens_per_second
    rows = (
        ("Spend", usd(total.cost), usd_exact(total.cost), total.cost, before.cost),
        ("Tokens", compact(total.tokens), f"{total.tokens:,}", total.tokens, before.tokens),
        ("Requests", f"{total.requests:,}", None, total.requests, before.requests),
        ("Avg. throughput", "–" if speed is None else f"{speed:,} tok/s", None, speed or 0, speed_before or 0),
    )
    for label, value, exact, now, then in rows:
        delta = (now - then) * 100 // then if then and now else None
        if delta is not None and delta > DELTA_PERCENT_MAX:
            delta = None
        yield {"label": label, "value": value, "exact": exact, "delta": delta}


def _pager(url: str, wanted: Wanted, page: Page[FeedRow], requests: int) -> dict[str, str | None]:
    return {
        "text": f"{requests:,} {'request' if requests == 1 else 'requests'}, newest first",
        "newer_url": f"{url}?{wanted.query(page=page.newer)}" if page.newer else None,
        "older_url": f"{url}?{wanted.query(page=page.older)}" if page.older else None,
    }
