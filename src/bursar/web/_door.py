"""The door of every page, in this order: who is it, may they enter, is the form ours; then the page; then the headers."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bursar import actions
from bursar.access import Permission, require
from bursar.gateway import json_refusal
from bursar.kernel.errors import BursarError, Forbidden, NotAuthenticated
from bursar.web import _session, errors, step_up
from bursar.web._context import Visit, read_form
from bursar.web._csrf import require_own_form
from bursar.web._pages import came_from, finish, is_fragment, path_of, redirect
from bursar.web._parts import Site
from bursar.web.metrics import require_monitor

FORM_HEADER = "x-csrf-token"
"""Where a script of ours puts what a form has in its field `csrf`."""

_log = logging.getLogger("bursar.web")

Handler = Callable[[Visit], Awaitable[Response]]


class Entry(Enum):
    """Who may enter a page that has no context in its URL."""

    PUBLIC = "anybody"
    SIGNED_IN = "whoever is signed in"
    OPERATOR = "the operator"
    MONITOR = "whoever has the metrics token, or is on this machine"


Who = Entry | Permission
"""A `Permission` is asked of the role in the context that the URL names."""


@dataclass(frozen=True)
class PageRoute:
    """`page` is its name in the navigation. A route that does not say who may enter does not start.

    `is_call`: a script of ours calls it. Its form token comes in the header `X-CSRF-Token`, its body is left unread, and its
    refusals are JSON.

    `step_up`: it does what is dangerous (removes a second factor, deletes an organization, makes a management key), or shows the form for
    it. Whoever did not prove who they are within `identity.PROVED_FOR` is asked first and goes on from there.
    """

    method: str
    path: str
    handler: Handler
    who: Who | None = None
    page: str = ""
    is_call: bool = False
    step_up: bool = False


class Broken(BursarError):
    """A fault of ours; the log has it."""


class SessionEnded(NotAuthenticated):
    """A script of ours called for somebody who is not signed in any more."""


class ProofNeeded(Forbidden):
    """A script of ours called for something dangerous, and who it is was proved too long ago."""


class OperatorOnly(Forbidden):
    """The page is for whoever runs this installation."""


async def enter(site: Site, route: PageRoute, request: Request) -> Response:
    visit = Visit(site, request, page=route.page)
    try:
        visit.session, visit.entries = await _session.find_session(site, request)
        await _note_seen(visit)
        response = await _admit(visit, route) or await route.handler(visit)
    except BursarError as error:
        if error.status >= 500:
            _log.warning("%s %s: %s: %s", request.method, route.path, error.name, error.sentence)
        response = _told(error) if route.is_call else await errors.refused(visit, error)
    except ClientDisconnect:
        response = Response(status_code=400)
    except Exception:  # noqa: BLE001 - the last door: what nobody foresaw becomes a page and a line in the log
        _log.exception("%s %s failed", request.method, route.path)
        response = (
            _told(Broken("It is our fault and was written to the log.", remedy="Try again."))
            if route.is_call
            else errors.broken(visit)
        )
    if isinstance(route.who, Permission) and visit.entry is not None:
        _session.set_cookie(response, _session.CONTEXT, visit.entry.slug or "personal", _session.YEAR_SECONDS)
    return finish(visit, response)


async def _admit(visit: Visit, route: PageRoute) -> Response | None:
    """None when they may enter; where to go first when they must sign in. Raises the refusal."""
    if route.who is Entry.MONITOR:
        require_monitor(visit)
        return None
    if visit.session is not None:
        visit.enter_last()
    elif route.is_call:
        raise SessionEnded("You are not signed in any more.", remedy="Sign in again to go on.")
    elif route.who is not Entry.PUBLIC:
        return _to_sign_in(visit)
    if isinstance(route.who, Permission):
        visit.enter(visit.request.path_params.get("slug"))
        require(visit.here.context, route.who)
    elif route.who is Entry.OPERATOR and not visit.user.is_operator:
        raise OperatorOnly("Only the operator of this installation can see this page.")
    if route.method == "POST":
        await _take_form(visit, route)
    if route.step_up and not visit.signed_in.is_proved(visit.now):
        if route.is_call:
            raise ProofNeeded("Confirm that it is you first.", remedy="Reload the page.")
        return await step_up.ask(visit)
    return None


async def _take_form(visit: Visit, route: PageRoute) -> None:
    if not route.is_call:
        visit.form = await read_form(visit.request)
    token = visit.request.headers.get(FORM_HEADER, "") if route.is_call else visit.form.get("csrf", "")
    require_own_form(visit.site, visit.request, visit.binding, token)


async def _note_seen(visit: Visit) -> None:
    if visit.session is not None and not visit.session.is_seen(visit.now):
        await actions.note_seen(visit.site.parts.database, visit.session)


def _told(error: BursarError) -> Response:
    """A refusal for a script, in the gateway's envelope."""
    status, headers, body = json_refusal(error)
    return Response(body, status, headers)


def _to_sign_in(visit: Visit) -> Response:
    request = visit.request
    target = came_from(request, "/") if request.method == "POST" else path_of(request)
    had_session = _session.SESSION in request.cookies or request.method == "POST"
    message = "Your session has ended; nothing was changed. Sign in to go on." if had_session else None
    url = "/sign-in" if target == "/" else f"/sign-in?{urlencode({'next': target})}"
    if is_fragment(request):
        return Response(status_code=401, headers={"HX-Redirect": url})
    return redirect(visit, url, message, "info")


async def unrouted(site: Site, request: Request, error: HTTPException) -> Response:
    """No page has this path, or the page does not take this method."""
    visit = Visit(site, request)
    try:
        visit.session, visit.entries = await _session.find_session(site, request)
        if visit.session is not None:
            visit.enter_last()
        response = errors.wrong_method(visit) if error.status_code == 405 else errors.not_found(visit)
    except BursarError as failed:
        response = await errors.refused(visit, failed)
    response.headers.update(error.headers or {})
    return finish(visit, response)
