"""Trying any model in the current context: streamed by the gateway, billed to the context's owner, kept in the browser's tab."""

from starlette.responses import JSONResponse, Response

from bursar import reports
from bursar.kernel.errors import NotFound
from bursar.kernel.ids import GenerationId, is_id
from bursar.reports import FeedRow
from bursar.web._context import Visit
from bursar.web._feed import finish_of
from bursar.web._gateway import GatewayAnswer
from bursar.web._render import usd_cost, usd_exact


class NotSettled(NotFound):
    """No generation of this owner has this id, or not yet: a request appears when it has ended."""


async def stream(visit: Visit) -> Response:
    return GatewayAnswer(visit)


async def receipt(visit: Visit) -> Response:
    """What one answer was and cost, once it is charged. Raises `NotSettled`."""
    generation = visit.path("generation")
    row = None
    if is_id(generation, "gen"):
        async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
            row = await reports.feed_row(snapshot, visit.owner, GenerationId(generation))
    if row is None:
        raise NotSettled("There is no such answer here, or it is not charged yet.", remedy="Ask again in a moment.")
    return JSONResponse(_receipt(visit, row))


def _receipt(visit: Visit, row: FeedRow) -> dict[str, object]:
    return {
        "model": row.model,
        "provider": row.provider,
        "tokens_in": row.prompt_tokens,
        "tokens_out": row.completion_tokens,
        "tokens_per_second": row.tokens_per_second,
        "finish": finish_of(row),
        "cost_nanos": row.cost,
        "cost": usd_cost(row.cost),
        "cost_exact": usd_exact(row.cost),
        "url": f"{visit.base}/activity?at={row.id}#{row.id}",
    }
