"""The operator's pages: how things stand, mail that could only be printed, and whether the books are right."""

import json

from starlette.responses import Response

from bursar import reports, storage
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._operator import console
from bursar.web._parts import WebParts

SETTING = "BURSAR_SMTP_HOST"


async def show(visit: Visit) -> Response:
    """What waits for the operator, and whether all is well."""
    parts = visit.site.parts
    async with parts.database.snapshot(SYSTEM) as snapshot:
        check = await reports.last_check(snapshot)
        unsettled = await reports.deleted_with_credits(snapshot)
    kept = await storage.list_kept(parts.database)
    return await console(
        visit,
        "operator.html",
        check=check,
        mails=len(kept),
        mail_delivers=parts.mail_delivers,
        unsettled=len(unsettled),
    )


async def show_mail(visit: Visit) -> Response:
    kept = await storage.list_kept(visit.site.parts.database)
    return await console(
        visit,
        "operator_mail.html",
        smtp=visit.site.parts.mail_delivers,
        smtp_setting=SETTING,
        mails=[
            {
                "id": message.id,
                "to": message.summary.get("to", ""),
                "subject": message.summary.get("subject", ""),
                "created_at": message.created_at,
                "expires_at": message.expires_at,
                "link": message.payload.get("link"),
            }
            for message in kept
        ],
    )


async def show_books(visit: Visit) -> Response:
    """What the regular check found last."""
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        check = await reports.last_check(snapshot)
    return await console(
        visit,
        "operator_books.html",
        check=check,
        journals=_journals(visit.site.parts),
        setting="BURSAR_METRICS_TOKEN",
    )


async def verify_books(visit: Visit) -> Response:
    """Everything added up again, now: what `bursar ledger verify --json` prints, but for other machines' journals."""
    parts = visit.site.parts
    async with parts.database.snapshot(SYSTEM) as snapshot:
        found = reports.told(await reports.verify_all(snapshot))
    journals = _journals(parts)
    if journals is not None:
        found["journal"] = journals
    return Response(json.dumps(found), media_type="application/json")


def _journals(parts: WebParts) -> dict[str, int] | None:
    """How those of this node's workers stand together; None where there are none."""
    states = [tally.journal for tally in parts.tallies().values() if tally.journal is not None]
    if not states:
        return None
    return {"lag_records": sum(state.lag for state in states), "open": sum(state.open for state in states)}
