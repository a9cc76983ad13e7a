"""Browsers in which somebody signed in before: strangers who try that person's address elsewhere never make them wait here.

The cookie lists a random name of this browser per user, signed; it proves nothing and opens nothing.
"""

from collections.abc import Mapping

from starlette.responses import Response

from bursar.kernel import secrets
from bursar.kernel.ids import UserId
from bursar.web import _session
from bursar.web._context import Visit

USERS_MAX = 8


def known(visit: Visit) -> Mapping[str, str]:
    """This browser's name for each user who signed in in it."""
    found = _session.read_signed(visit.site, visit.request, _session.KNOWN)
    return found if isinstance(found, dict) else {}


def remember(visit: Visit, response: Response, user: UserId) -> None:
    names: dict[str, str] = {user: known(visit).get(user) or secrets.mint_token()[:16]}
    names |= {other: name for other, name in known(visit).items() if other != user}
    kept = dict(list(names.items())[:USERS_MAX])
    value = _session.sign(visit.site, _session.KNOWN, kept)
    _session.set_cookie(response, _session.KNOWN, value, _session.YEAR_SECONDS)
