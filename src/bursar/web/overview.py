"""How things stand, and the three steps of a fresh start."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from bursar import reports
from bursar.reports import Overview, Period, Person, Share
from bursar.web._context import Visit
from bursar.web._feed import CHAT_KEY, chart_of, generation
from bursar.web._pages import redirect, render


async def forward(visit: Visit) -> Response:
    """The bare address of a context leads to its overview, which knows whether it exists."""
    return redirect(visit, f"{visit.request.url.path.rstrip('/')}/overview")


async def show(visit: Visit) -> Response:
    organization = visit.here.organization
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        found = await reports.overview(snapshot, visit.owner)
        admins = await reports.admins_of(snapshot, organization) if organization and not found.has_credits else ()
    started = found.has_generation
    return render(
        visit,
        "overview.html",
        kpi={
            "balance_nanos": found.balance.total,
            "days_left": found.days_left,
            "spend_today_nanos": found.spent_today,
            "spend_7d_nanos": found.spent_week,
            "spend_30d_nanos": found.spent_month,
        },
        start=None if started else _start(visit, found, admins),
        chart=chart_of(found.usage, "spend") if started else None,
        top_models=_ranks(visit, found.top_models, "model"),
        top_keys=_ranks(visit, found.top_keys, "key"),
        top_members=_ranks(visit, found.top_members, None) if organization else None,
        recent=[generation(row) for row in found.recent.items],
    )


def _start(visit: Visit, found: Overview, admins: Sequence[Person]) -> dict[str, Any]:
    return {
        "credits_done": found.has_credits,
        "key_done": found.has_key,
        "admins": admins,
        "api_base": visit.site.parts.api_base,
        "model": visit.site.parts.example_model(),
        "key": None,
    }


def _ranks(visit: Visit, shares: Sequence[Share], filter_name: str | None) -> list[dict[str, Any]]:
    most = max((share.cost for share in shares), default=0)
    ranks = []
    for share in shares:
        wanted = share.id or (CHAT_KEY if filter_name == "key" else "")
        query = {"period": Period.MONTH.value} | ({filter_name: wanted} if filter_name and wanted else {})
        ranks.append(
            {
                "name": share.name,
                "spend_nanos": share.cost,
                "share": share.cost * 100 // most if most else 0,
                "url": f"{visit.base}/activity?{urlencode(query)}",
            }
        )
    return ranks
