"""The operator's pages: how things stand, mail that could only be printed, and whether the books are right."""

import json

from starlette.responses import Response

from bursar import reports, storage
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._operator import console

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
        journal=visit.site.parts.journal_state(),
        setting="BURSAR_METRICS_TOKEN",
    )


async def verify_books(visit: Visit) -> Response:
    """Everything added up again, now: what `bursar ledger verify --json` prints, but for other machines' journals."""
    parts = visit.site.parts
    async with parts.database.snapshot(SYSTEM) as snapshot:
        found = reports.told(await reports.verify_all(snapshot))
    state = parts.journal_state()
    if state is not None:
        found["journal"] = {"lag_records": state.lag, "open": state.open}
    return Response(json.dumps(found), media_type="application/json")
