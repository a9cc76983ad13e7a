"""Signing in by password or by a one-time link, signing out, and where one lands."""

from starlette.responses import Response

from bursar import actions, identity, reports
from bursar.actions import InvalidSignIn, SecondFactorNeeded
from bursar.identity import LinkPurpose
from bursar.kernel.errors import InvalidField, LinkExpired, TooMany
from bursar.kernel.ids import UserId
from bursar.storage import SYSTEM
from bursar.web import _session
from bursar.web._context import Visit, base_of
from bursar.web._known import known, remember
from bursar.web._pages import own_path, redirect, render
from bursar.web.errors import plain_http_warning, wait


async def land(visit: Visit) -> Response:
    return redirect(visit, "/sign-in" if visit.session is None else f"{visit.base}/overview")


async def show(visit: Visit) -> Response:
    next_path = own_path(visit.query("next"), "")
    if visit.session is not None:
        return redirect(visit, next_path or "/")
    return _page(visit, next_path)


async def send(visit: Visit) -> Response:
    parts, form = visit.site.parts, visit.form
    next_path = own_path(form.get("next", ""), "")
    email = form.get("email", "")
    try:
        token = await actions.sign_in(
            parts.database,
            parts.passwords,
            email=email,
            password=form.get("password", ""),
            address=visit.address,
            user_agent=visit.user_agent,
            known=known(visit),
        )
    except SecondFactorNeeded as half:
        response = redirect(visit, "/sign-in/code")
        value = [half.user, half.mark, int(visit.now.timestamp()), next_path]
        signed = _session.sign(visit.site, _session.SECOND, value)
        _session.set_cookie(response, _session.SECOND, signed, _session.SECOND_SECONDS)
        return response
    except InvalidSignIn as refused:
        return _page(visit, next_path, refused.status, email=email, errors={"form": f"{refused}"})
    except TooMany as waiting:
        told = {"form": waiting.in_full}
        return wait(_page(visit, next_path, waiting.status, email=email, errors=told), waiting)
    return await signed_in(visit, token, next_path or "/")


async def show_code(visit: Visit) -> Response:
    return _code_page(visit) if _half_way(visit) is not None else _start_again(visit)


async def send_code(visit: Visit) -> Response:
    """The second step of signing in: what the first found out is in a cookie that only we can have written, for a few minutes."""
    half_way = _half_way(visit)
    if half_way is None:
        return _start_again(visit)
    user, mark, next_path = half_way
    try:
        token, left = await actions.sign_in_second(
            visit.site.parts.database,
            user=user,
            mark=mark,
            code=visit.form.get("code", ""),
            address=visit.address,
            user_agent=visit.user_agent,
            known=known(visit),
        )
    except LinkExpired:
        return _start_again(visit)
    except InvalidField as wrong:
        return _code_page(visit, wrong.status, {wrong.field: wrong.sentence})
    except TooMany as waiting:
        return wait(_code_page(visit, waiting.status, {"form": waiting.in_full}), waiting)
    said = None if left is None else f"You used a recovery code: {left} left. New ones are under Preferences."
    response = await signed_in(visit, token, next_path or "/", said)
    _session.clear_cookie(response, _session.SECOND)
    return response


def _half_way(visit: Visit) -> tuple[UserId, str, str] | None:
    """Whose password fitted a moment ago, its mark, and where they wanted to go."""
    value = _session.read_signed(visit.site, visit.request, _session.SECOND)
    if not isinstance(value, list) or visit.now.timestamp() - value[2] >= _session.SECOND_SECONDS:
        return None
    return UserId(value[0]), value[1], own_path(value[3], "")


def _start_again(visit: Visit) -> Response:
    response = redirect(
        visit, "/sign-in", "That took too long, or something was changed meanwhile. Sign in again.", "info"
    )
    _session.clear_cookie(response, _session.SECOND)
    return response


def _code_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    return render(visit, "sign_in_code.html", status=status, errors=errors or {})


async def signed_in(visit: Visit, token: str, url: str, message: str | None = None) -> Response:
    """Hands the session over; one that this browser had before ends."""
    database = visit.site.parts.database
    earlier = _session.read_token(visit.request, _session.SESSION)
    if earlier is not None:
        await actions.sign_out(database, earlier)
    response = redirect(visit, url, message)
    _session.set_session(response, token)
    async with database.snapshot(SYSTEM) as snapshot:
        session = await identity.find_session(snapshot, token)
    if session is not None:
        remember(visit, response, session.user.id)
    return response


async def leave(visit: Visit) -> Response:
    token = _session.read_token(visit.request, _session.SESSION)
    assert token is not None
    await actions.sign_out(visit.site.parts.database, token)
    # Somebody who signs out to go on as another goes on where they were.
    response = redirect(visit, own_path(visit.form.get("next", ""), "/sign-in"), "You are signed out.")
    for name in (_session.SESSION, _session.CONTEXT, _session.MAIL):
        _session.clear_cookie(response, name)
    return response


async def show_link(visit: Visit) -> Response:
    """Asks first: mail scanners and previews open links, and this one works once."""
    token = visit.query("token")
    try:
        async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
            link = await identity.peek_link(snapshot, token, LinkPurpose.SIGN_IN)
            user = await identity.get_user(snapshot, link.user)
    except LinkExpired as expired:
        return link_expired(visit, expired)
    return render(visit, "one_time_link.html", token=token, name=user.name)


async def follow_link(visit: Visit) -> Response:
    database = visit.site.parts.database
    try:
        token = await actions.sign_in_by_link(
            database, visit.form.get("token", ""), address=visit.address, user_agent=visit.user_agent
        )
    except LinkExpired as expired:
        return link_expired(visit, expired)
    async with database.snapshot(SYSTEM) as snapshot:
        session = await identity.find_session(snapshot, token)
        assert session is not None, "it was opened a moment ago"
        entries = await reports.contexts_of(snapshot, session.user)
    # With exactly one organization that is where the work is; with several, nobody but the person can say.
    entry = entries[1] if len(entries) == 2 else entries[0]
    return await signed_in(visit, token, f"{base_of(entry)}/overview")


def link_expired(visit: Visit, expired: LinkExpired, remedy: dict[str, str] | None = None) -> Response:
    if remedy is None and visit.session is not None:
        remedy = {"label": "Go to Bursar", "url": "/"}
    return render(visit, "link_expired.html", status=expired.status, text=expired.sentence, remedy=remedy)


def _page(
    visit: Visit, next_path: str, status: int = 200, email: str = "", errors: dict[str, str] | None = None
) -> Response:
    warning = plain_http_warning(visit) if _session.is_plain_http_from_elsewhere(visit.request) else None
    return render(
        visit,
        "sign_in.html",
        status=status,
        email=email,
        next=next_path,
        errors=errors or {},
        plain_http_warning=warning,
        sign_up_open=visit.site.parts.sign_up_is_open,
    )
