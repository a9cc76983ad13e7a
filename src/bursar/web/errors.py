"""Refusals as pages: what happened, whom to ask or where to go, and the status."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from bursar import reports
from bursar.access import PermissionDenied
from bursar.kernel.errors import BursarError, TooMany, Unavailable
from bursar.kernel.ids import OrganizationId
from bursar.reports import NoSuchContext, Person
from bursar.storage import Scope
from bursar.web._context import Visit
from bursar.web._csrf import FormNotOurs
from bursar.web._pages import is_fragment, path_of, render
from bursar.web._session import is_plain_http_from_elsewhere

_TITLES = {
    403: "This is not open to you",
    404: "There is nothing here",
    405: "That does not work here",
    413: "That is too much",
    429: "One moment, please",
    500: "Something went wrong",
    503: "One moment, please",
}
_HOME = {"label": "Go to your personal account", "url": "/personal/overview"}
_SIGN_IN = {"label": "Go to sign in", "url": "/sign-in"}


async def refused(visit: Visit, error: BursarError) -> Response:
    """The page of a refusal that no form shows beside a field."""
    text = error.in_full
    admins: Sequence[Person] = ()
    if isinstance(error, FormNotOurs) and is_plain_http_from_elsewhere(visit.request):
        text = plain_http_warning(visit)
    elif isinstance(error, NoSuchContext):
        text = error.sentence
    elif isinstance(error, PermissionDenied) and visit.entry is not None and visit.entry.organization is not None:
        admins = await _admins(visit, visit.entry.organization)
        text = error.sentence if admins else text
    elif error.status == 500:
        text = "It is our fault and was written to the log. Nothing of what you asked for was done."
    response = _page(visit, error.status, text, admins)
    return wait(response, error) if isinstance(error, TooMany | Unavailable) else response


def wait(response: Response, error: TooMany | Unavailable) -> Response:
    """The answer, which says when to try again."""
    response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def not_found(visit: Visit) -> Response:
    return _page(visit, 404, "There is no page at this address.")


def wrong_method(visit: Visit) -> Response:
    return _page(visit, 405, "This address is opened by a form. Go back and use its button.")


def broken(visit: Visit) -> Response:
    return _page(
        visit, 500, "It is our fault and was written to the log. Try again; if it stays so, tell the operator."
    )


def plain_http_warning(visit: Visit) -> str:
    public = visit.site.parts.public_url
    where = f"Open {public} instead" if public.startswith("https://") else "Reach Bursar over HTTPS"
    return (
        "This page was loaded over plain HTTP from another host, where browsers do not keep the cookie that signs you in. "
        f"{where}, or open it on the machine Bursar runs on. The operator sets BURSAR_PUBLIC_URL, and "
        "BURSAR_TRUSTED_PROXIES for a server in front."
    )


def _page(visit: Visit, status: int, text: str, admins: Sequence[Person] = ()) -> Response:
    if is_fragment(visit.request):
        # A whole page does not fit into a part of one: let the browser load it.
        return Response(status_code=status, headers={"HX-Redirect": path_of(visit.request)})
    values: dict[str, Any] = {
        "title": _TITLES.get(status, "That did not work"),
        "text": text,
        "remedy": _remedy(visit, status),
        "admins": [{"name": person.name, "email": person.email} for person in admins],
    }
    return render(visit, "error.html", status=status, **values)


def _remedy(visit: Visit, status: int) -> dict[str, str]:
    if status in (429, 503) and visit.request.method == "GET":
        return {"label": "Try again", "url": path_of(visit.request)}
    if visit.session is None:
        return _SIGN_IN
    if visit.entry is None or visit.entry.organization is None:
        return _HOME
    return {"label": "Go to the overview", "url": f"{visit.base}/overview"}


async def _admins(visit: Visit, organization: OrganizationId) -> Sequence[Person]:
    async with visit.site.parts.database.snapshot(Scope(visit.owner)) as snapshot:
        return await reports.admins_of(snapshot, organization)
