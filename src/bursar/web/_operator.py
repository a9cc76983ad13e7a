"""The frame of the operator's console: one navigation over all its pages, with what waits for an answer."""

from typing import Any

from starlette.responses import Response

from bursar import reports
from bursar.access import Actor, ActorKind
from bursar.reports import Installation
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._pages import render


async def console(visit: Visit, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page of it; `visit.page` names the tab."""
    return render(visit, template, status=status, installation=await installation_of(visit), **values)


async def installation_of(visit: Visit) -> Installation:
    """What the console's navigation shows."""
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        return await reports.installation(snapshot)


def operator_of(visit: Visit) -> Actor:
    """The person as the operator: what the audit log says of what they do here."""
    return Actor(ActorKind.OPERATOR, user=visit.user.id, address=visit.address)
