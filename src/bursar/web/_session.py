"""Cookies, and who is signed in.

Every cookie but the theme is `__Host-`: only this host, only over TLS (or on this machine), never readable by scripts.
"""

import base64
import binascii
import ipaddress
import json
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bursar import identity, reports
from bursar.identity import SESSION_LIFETIME, Session
from bursar.kernel import secrets
from bursar.reports import ContextEntry
from bursar.storage import SYSTEM
from bursar.web._parts import Site

SESSION = "__Host-bursar-session"
VISIT = "__Host-bursar-visit"
"""Random, for somebody signed out: what the forms they are shown are bound to."""
FLASH = "__Host-bursar-flash"
MAIL = "__Host-bursar-mail"
"""The address a message was just sent to, for the page that says so: addresses do not belong into URLs."""
SECOND = "__Host-bursar-second"
"""Whose password fitted a moment ago and who is to type a code: no session yet."""
KNOWN = "__Host-bursar-known"
"""Who signed in in this browser before: `_known.py`."""
CONTEXT = "__Host-bursar-context"
"""The slug of the last context (or "personal"), for pages that have none in their URL."""
THEME = "theme"

THEMES = ("light", "dark", "system")
TOKEN_CHARACTERS_MAX = 100
COOKIE_CHARACTERS_MAX = 3_000
YEAR_SECONDS = 31_536_000
MOMENT_SECONDS = 60
SECOND_SECONDS = 300
"""How long one may take to type the code of the second factor."""


async def find_session(site: Site, request: Request) -> tuple[Session | None, Sequence[ContextEntry]]:
    """Who is signed in, and the contexts that person has."""
    token = read_token(request, SESSION)
    if token is None:
        return None, ()
    async with site.parts.database.snapshot(SYSTEM) as snapshot:
        session = await identity.find_session(snapshot, token)
        return session, () if session is None else await reports.contexts_of(snapshot, session.user)


def read_token(request: Request, name: str) -> str | None:
    token = request.cookies.get(name)
    return token if token and len(token) <= TOKEN_CHARACTERS_MAX and token.isascii() else None


def set_session(response: Response, token: str) -> None:
    set_cookie(response, SESSION, token, int(SESSION_LIFETIME.total_seconds()))
    clear_cookie(response, VISIT)


def set_cookie(response: Response, name: str, value: str, seconds: int) -> None:
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def clear_cookie(response: Response, name: str) -> None:
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")


def set_theme(response: Response, theme: str, *, secure: bool) -> None:
    """Scripts may read and set this one, so that turning the light off needs no round trip."""
    response.set_cookie(THEME, theme, max_age=YEAR_SECONDS, path="/", secure=secure, httponly=False, samesite="lax")


def read_theme(request: Request) -> str:
    theme = request.cookies.get(THEME, "")
    return theme if theme in THEMES else "system"


def sign(site: Site, name: str, value: Any) -> str:
    """A JSON value as a cookie that only this installation can have written."""
    text = base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")
    return f"{text}.{secrets.tag(site.cookie_key, name, text)}"


def read_signed(site: Site, request: Request, name: str) -> Any:
    """The value, or None for none and for one that was not written here."""
    text, _, tag = request.cookies.get(name, "").partition(".")
    if not text or len(text) > COOKIE_CHARACTERS_MAX or not secrets.same(secrets.tag(site.cookie_key, name, text), tag):
        return None
    try:
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        return None


def is_plain_http_from_elsewhere(request: Request) -> bool:
    """Whether browsers will drop our cookies: they keep Secure ones over plain HTTP for this machine's own addresses only."""
    if request.url.scheme != "http":
        return False
    host = (request.url.hostname or "").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
