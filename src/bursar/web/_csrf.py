"""Forms that were not shown by us are refused.

A form carries a token bound to the session (or, signed out, to a random cookie), and the browser must not say that the form
comes from another site. Tokens are salted, so that two copies of a page never show the same one.
"""

from starlette.requests import Request

from bursar.kernel import secrets
from bursar.kernel.errors import Forbidden
from bursar.web._parts import Site

_SALT_CHARACTERS = 16


class FormNotOurs(Forbidden):
    """The form's token or origin does not fit who sent it."""


def make_token(site: Site, binding: str) -> str:
    salt = secrets.mint_token()[:_SALT_CHARACTERS]
    return f"{salt}.{secrets.tag(site.form_key, 'form', f'{salt}.{binding}')}"


def require_own_form(site: Site, request: Request, binding: str | None, token: str) -> None:
    """Raises `FormNotOurs`. `binding` is None where the browser sent no cookie the token could be bound to."""
    if not _is_from_here(site, request):
        raise FormNotOurs(
            "The form was sent from another site, so it was not carried out.",
            remedy="Open Bursar in a tab of its own and try again.",
        )
    salt, _, tag = token.partition(".")
    if binding is None or not secrets.same(secrets.tag(site.form_key, "form", f"{salt}.{binding}"), tag):
        raise FormNotOurs(
            "The page was too old, or its cookie was missing: nothing was changed.",
            remedy="Go back, reload the page and try again; what you typed is still there.",
        )


def _is_from_here(site: Site, request: Request) -> bool:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin in (f"{request.url.scheme}://{request.url.netloc}", site.parts.public_url)
