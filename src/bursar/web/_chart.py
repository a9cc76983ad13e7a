"""Stacked bars as plain geometry: integers in, positions and texts out.

Pure: no clock, no storage, no HTML. The template ``_chart.html`` draws what this module places.

Horizontal positions are texts in percent ("12.5%"), vertical ones are pixels, so that an SVG of any width draws the bars
without distorting the texts. Amounts stay integers (nanos, tokens, counts); only the geometry is a float.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypedDict

__all__ = ["SERIES_MAX", "Bar", "Bucket", "Chart", "Grid", "Legend", "Rect", "Row", "stacked_bars"]

SERIES_MAX = 7
"""Colours there are; with more series, the smallest are drawn together as "Other"."""

BUCKETS_MAX = 400
"""More bars than this cannot be told apart on any screen."""

OTHER = "Other"

PLOT_TOP = 8.0
PLOT_BOTTOM = 28.0
"""Pixels kept free above the highest grid line, and below the lowest one for the ticks."""

BAR_SHARE = 0.7
GAP_PIXELS = 1.5

Bucket: TypeAlias = tuple[str, str | None, Sequence[tuple[str, int]]]
"""(label, tick, values): the bar's full name ("Fri, Nov 13"), the text under it or None, and (series, amount) pairs.

A series may be missing from a bucket (it counts as 0) and may occur twice (the amounts add up). Amounts are never negative.
"""


class Rect(TypedDict):
    """One coloured piece of a bar. ``color``: "0" to "6", or "other"; ``y`` and ``height`` in pixels."""

    color: str
    y: float
    height: float


class Row(TypedDict):
    """One line of a bar's tooltip, the top of the stack first."""

    color: str
    name: str
    text: str


class Bar(TypedDict):
    """One bucket. ``x`` and ``width`` span the whole slot (what the pointer hits), ``bar_x`` and ``bar_width`` the bar in it."""

    label: str
    tick: str | None
    minor: bool
    x: str
    width: str
    bar_x: str
    bar_width: str
    center: str
    total: int
    total_text: str
    rects: list[Rect]
    tip: str
    summary: str


class Grid(TypedDict):
    """One horizontal line; the first is the zero line, and the only one of an empty chart."""

    y: float
    text: str


class Legend(TypedDict):
    """One series, the biggest first and "Other" last; also the columns of the table."""

    color: str
    name: str
    total: int
    text: str


class Chart(TypedDict):
    """All that ``_chart.html`` needs.

    ``tip`` of a bar is JSON for the tooltip: ``{"title", "total", "rows": [[color, name, text], …]}``.
    ``table`` holds (label, a text per legend entry, total) per bucket. ``empty`` is true when every amount is 0.
    """

    height: int
    plot_top: float
    plot_height: float
    grid: list[Grid]
    bars: list[Bar]
    legend: list[Legend]
    table: list[tuple[str, list[str], str]]
    total: int
    total_text: str
    empty: bool


def stacked_bars(
    buckets: Sequence[Bucket],
    *,
    text: Callable[[int], str],
    axis_text: Callable[[int], str] | None = None,
    names: Mapping[str, str] | None = None,
    height: int = 248,
    lines: int = 4,
) -> Chart:
    """Place one stacked bar per bucket.

    ``text`` writes an amount for people ("$2.23", "26.9M"); ``axis_text`` does so for the axis, where amounts are round
    (``text`` by default). ``names`` gives a series a name other than its key. ``height`` is in pixels; ``lines`` is the
    most grid lines above zero.

    Series are ordered by their total, the biggest at the bottom of every bar; beyond ``SERIES_MAX`` the smallest are added up
    as "Other". Raises ValueError for a negative amount, or for more than ``BUCKETS_MAX`` buckets.
    """
    if len(buckets) > BUCKETS_MAX:
        raise ValueError(f"A chart has at most {BUCKETS_MAX} buckets, not {len(buckets)}.")
    stacks = [_added_up(values) for _, _, values in buckets]
    order = _ordered(stacks)
    shown = order if len(order) <= SERIES_MAX else order[: SERIES_MAX - 1]
    rest = order[len(shown) :]
    colors = [str(index) for index in range(len(shown))] + (["other"] if rest else [])
    titles = [(names or {}).get(key, key) for key in shown] + ([OTHER] if rest else [])
    rows = [
        [stack.get(key, 0) for key in shown] + ([sum(stack.get(key, 0) for key in rest)] if rest else [])
        for stack in stacks
    ]
    totals = [sum(row) for row in rows]

    step = _nice_step(max(totals, default=0), lines)
    top = step * max(1, -(-max(totals, default=0) // step))
    plot_height = height - PLOT_TOP - PLOT_BOTTOM
    write_axis = axis_text or text
    grid: list[Grid] = [
        {"y": round(PLOT_TOP + plot_height * (1 - value / top), 2), "text": write_axis(value)}
        for value in (range(0, top + 1, step) if order else [0])
    ]
    slot = 100 / max(1, len(buckets))
    ticks_seen = 0
    bars: list[Bar] = []
    for index, ((label, tick, _), row, total) in enumerate(zip(buckets, rows, totals, strict=True)):
        pieces: list[Row] = [
            {"color": color, "name": name, "text": text(amount)}
            for color, name, amount in zip(colors, titles, row, strict=True)
            if amount
        ]
        pieces.reverse()
        minor = tick is not None and ticks_seen % 2 == 1
        ticks_seen += tick is not None
        bars.append(
            {
                "label": label,
                "tick": tick,
                "minor": minor,
                "x": _percent(index * slot),
                "width": _percent(slot),
                "bar_x": _percent((index + (1 - BAR_SHARE) / 2) * slot),
                "bar_width": _percent(BAR_SHARE * slot),
                "center": _percent((index + 0.5) * slot),
                "total": total,
                "total_text": text(total),
                "rects": _stack(row, colors, top, plot_height),
                "tip": _tip(label, text(total), pieces),
                "summary": _summary(label, text(total), pieces),
            }
        )
    sums = [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * len(colors)
    return {
        "height": height,
        "plot_top": PLOT_TOP,
        "plot_height": plot_height,
        "grid": grid,
        "bars": bars,
        "legend": [
            {"color": color, "name": name, "total": amount, "text": text(amount)}
            for color, name, amount in zip(colors, titles, sums, strict=True)
        ],
        "table": [
            (label, [text(amount) for amount in row], text(total))
            for (label, _, _), row, total in zip(buckets, rows, totals, strict=True)
        ],
        "total": sum(totals),
        "total_text": text(sum(totals)),
        "empty": sum(totals) == 0,
    }


def _added_up(values: Sequence[tuple[str, int]]) -> dict[str, int]:
    stack: dict[str, int] = {}
    for key, amount in values:
        if amount < 0:
            raise ValueError(f"An amount in a chart is never negative: {key!r} has {amount}.")
        stack[key] = stack.get(key, 0) + amount
    return stack


def _ordered(stacks: Sequence[Mapping[str, int]]) -> list[str]:
    """The keys with anything to draw, the biggest total first, equal ones by name."""
    totals: dict[str, int] = {}
    for stack in stacks:
        for key, amount in stack.items():
            totals[key] = totals.get(key, 0) + amount
    return sorted((key for key, total in totals.items() if total), key=lambda key: (-totals[key], key))


def _nice_step(highest: int, lines: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, … that reaches ``highest`` in at most ``lines`` steps."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if factor * scale * lines >= highest:
                return factor * scale
        scale *= 10


def _stack(row: Sequence[int], colors: Sequence[str], top: int, plot_height: float) -> list[Rect]:
    """From the zero line up, with a hairline between the pieces; a piece is never thinner than it can be seen."""
    rects: list[Rect] = []
    base = PLOT_TOP + plot_height
    below = 0
    for amount, color in zip(row, colors, strict=True):
        if not amount:
            continue
        full = plot_height * amount / top
        y = base - plot_height * below / top - full
        rects.append({"color": color, "y": round(y, 2), "height": round(max(full - GAP_PIXELS, min(full, 0.75)), 2)})
        below += amount
    return rects


def _percent(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") + "%"


def _tip(label: str, total: str, rows: Sequence[Row]) -> str:
    content = {"title": label, "total": total, "rows": [[row["color"], row["name"], row["text"]] for row in rows]}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _summary(label: str, total: str, rows: Sequence[Row]) -> str:
    """The bar in words, for those who do not see it."""
    parts = ", ".join(f"{row['name']} {row['text']}" for row in reversed(rows))
    return f"{label}: {total}" + (f" ({parts})" if parts else "")
