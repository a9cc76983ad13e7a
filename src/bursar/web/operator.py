"""The operator's pages: mail that could only be printed."""

from starlette.responses import Response

from bursar import storage
from bursar.web._context import Visit
from bursar.web._pages import render

SETTING = "BURSAR_SMTP_HOST"


async def show_mail(visit: Visit) -> Response:
    kept = await storage.list_kept(visit.site.parts.database)
    return render(
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
