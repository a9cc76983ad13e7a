"""Settings > Preferences: where a person is signed in, and signing out there."""

from typing import Any

from starlette.responses import Response

from bursar import actions
from bursar.identity import Session
from bursar.kernel.ids import SessionId
from bursar.web._agents import device
from bursar.web._context import Visit
from bursar.web._pages import redirect

HERE = "/settings/preferences#sessions"


async def end(visit: Visit) -> Response:
    await actions.end_session_of(
        visit.site.parts.database, visit.actor, visit.signed_in, SessionId(visit.path("session"))
    )
    return redirect(visit, HERE, "You are signed out there.")


async def end_others(visit: Visit) -> Response:
    count = await actions.end_other_sessions(visit.site.parts.database, visit.actor, visit.signed_in)
    where = "one other place" if count == 1 else f"{count} other places"
    return redirect(visit, HERE, f"You are signed out in {where}." if count else "You are signed in here only.")


def row(visit: Visit, session: Session) -> dict[str, Any]:
    """For the list."""
    return {
        "id": session.id,
        "device": device(session.user_agent),
        "agent": session.user_agent or "",
        "address": session.address or "an unknown address",
        "since": session.created_at,
        "seen_at": session.seen_at,
        "is_here": session.id == visit.signed_in.id,
    }
