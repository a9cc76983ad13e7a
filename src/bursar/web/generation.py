"""One request and its receipt: what was counted, by whom, and at which price."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from bursar import reports
from bursar.activity import Generation, UsageSource
from bursar.catalog import ChargeClass, ChargeLine
from bursar.kernel.errors import NotFound
from bursar.kernel.ids import GenerationId, is_id
from bursar.reports import FeedRow, Receipt
from bursar.web._context import Visit
from bursar.web._feed import finish_of, key_name_of
from bursar.web._pages import render
from bursar.web._render import usd_exact, usd_per_million, usd_price

LABELS: Mapping[ChargeClass, str] = {
    "prompt": "Input",
    "input_cache_read": "Cache read",
    "input_cache_write": "Cache write",
    "input_cache_write_1h": "Cache write, 1 hour",
    "audio": "Audio input",
    "image_token": "Image input",
    "completion": "Output",
    "internal_reasoning": "Reasoning",
    "audio_output": "Audio output",
    "image_output": "Image output",
    "request": "Request",
    "image": "Image",
}
SOURCES: Mapping[UsageSource, str] = {
    UsageSource.REPORTED: "The provider reported these counts.",
    UsageSource.COUNTED: "The provider reported nothing or was cut off, so Bursar counted what arrived.",
    UsageSource.ESTIMATED: "Nobody counted this, so Bursar estimated it from the length of what arrived.",
    UsageSource.NONE: "Nothing was produced.",
}


class NoSuchGeneration(NotFound):
    """No generation of this owner has this id."""


async def show(visit: Visit) -> Response:
    """Raises `NoSuchGeneration`."""
    name = visit.path("generation")
    receipt, row = await _find(visit, GenerationId(name)) if is_id(name, "gen") else (None, None)
    if receipt is None or row is None:
        raise NoSuchGeneration(
            f"There is no request {name[:60]} here.", remedy="One that is still running appears when it has ended."
        )
    return render(
        visit,
        "generation.html",
        row=row,
        generation=receipt.generation,
        finish=finish_of(row),
        key_name=key_name_of(row),
        attempts=_attempts(receipt.generation),
        source=SOURCES[receipt.source],
        receipt=_receipt(receipt),
    )


async def _find(visit: Visit, name: GenerationId) -> tuple[Receipt | None, FeedRow | None]:
    await visit.site.parts.gateway.caught_up()
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        receipt = await reports.receipt(snapshot, visit.owner, name)
        return receipt, await reports.feed_row(snapshot, visit.owner, name)


def _receipt(receipt: Receipt) -> dict[str, Any] | None:
    if receipt.lines is None:
        return None
    saved = receipt.saved_by_caching
    return {
        "lines": [_line(line) for line in receipt.lines],
        "rounding": usd_price(receipt.rounding_attos) if receipt.rounding_attos else None,
        "not_charged": usd_exact(-receipt.not_charged) if receipt.not_charged else None,
        "charged": usd_exact(receipt.charged),
        "saved": None if saved is None else usd_exact(saved),
    }


def _line(line: ChargeLine) -> dict[str, str]:
    per_piece = line.kind in ("request", "image")
    return {
        "label": LABELS[line.kind],
        "count": f"{line.count:,}",
        "price": usd_price(line.price) if per_piece else usd_per_million(line.price),
        "unit": f"per {line.kind}" if per_piece else "per million tokens",
        "amount": usd_price(line.attos),
    }


def _attempts(generation: Generation) -> list[dict[str, Any]]:
    return [
        {
            "provider": tried["provider_name"],
            "model": tried["model"],
            "status": tried["status"],
            "error": tried.get("error"),
            "latency_ms": tried["latency_ms"],
        }
        for tried in json.loads(generation.attempts)
    ]
