"""Making answers: pages in their frame, redirects with a message for the next page, the headers that all of them carry."""

from typing import Any, Literal
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bursar.web import _session
from bursar.web._context import Visit, navigation

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}

FlashKind = Literal["success", "error", "info"]


def render(visit: Visit, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page. `values` are what the template's first comment lists beyond the frame's own variables."""
    frame = {
        "nav": None if visit.entry is None else navigation(visit),
        "csrf": visit.form_token(),
        "theme": _session.read_theme(visit.request),
        "flash": _flash_of(visit),
        "now": visit.now,
        "status": status,
    }
    return HTMLResponse(visit.site.templates.get_template(template).render(frame | values), status)


def redirect(visit: Visit, url: str, message: str | None = None, kind: FlashKind = "success") -> Response:
    """To a page of ours, which shows the message once."""
    response = RedirectResponse(url, 303)
    if message is not None:
        value = _session.sign(visit.site, _session.FLASH, [kind, message])
        _session.set_cookie(response, _session.FLASH, value, _session.MOMENT_SECONDS)
        visit.showed_flash = False
    return response


def finish(visit: Visit, response: Response) -> Response:
    """The cookies that the visit left to set, and the headers of every answer."""
    if visit.showed_flash:
        _session.clear_cookie(response, _session.FLASH)
    if visit.new_session is not None:
        _session.set_session(response, visit.new_session)
    if visit.new_visit is not None and visit.session is None:
        _session.set_cookie(response, _session.VISIT, visit.new_visit, _session.YEAR_SECONDS)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Vary", "Cookie")
    return secure(response)


def secure(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of the page; a page that it fetches whole is none."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-request-type") != "full"


def path_of(request: Request) -> str:
    """Path and query, as a browser would be sent there again."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def own_path(text: str, otherwise: str) -> str:
    """A path of ours to go to next; anything that could lead elsewhere is replaced."""
    is_ours = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and "\\" not in text
    return text if is_ours and len(text) <= 2_000 else otherwise


def came_from(request: Request, otherwise: str) -> str:
    """The path of our page that led here."""
    parts = urlsplit(request.headers.get("referer", ""))
    if parts.netloc != request.url.netloc:
        return otherwise
    return own_path(parts.path + (f"?{parts.query}" if parts.query else ""), otherwise)


def _flash_of(visit: Visit) -> list[dict[str, str]]:
    found = _session.read_signed(visit.site, visit.request, _session.FLASH)
    visit.showed_flash = _session.FLASH in visit.request.cookies
    return [{"kind": found[0], "text": found[1]}] if isinstance(found, list) else []
