"""Step-up: "Confirm that it is you", before what is dangerous.

A route says `step_up=True` in `_routes.py`; the door does the rest. Whoever only opens a page is sent to `/confirm` and back. Whoever
sent a form is asked in its place, by a form that has what was typed and goes to the same address: the door looks at the proof in it,
and the deed is done. Passwords that were typed are not written into a page; that form says so beside their fields.
"""

from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.responses import Response

from bursar import actions, identity
from bursar.identity import PROVED_FOR, LinkPurpose
from bursar.kernel.errors import InvalidField, LinkExpired, TooMany
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._pages import came_from, own_path, path_of, redirect, render
from bursar.web.errors import wait

HERE = "/confirm"
PASSWORD = "step_up_password"  # noqa: S105 - a field's name
CODE = "step_up_code"
"""The fields of the proof: one of them is enough. No form of a page has fields of these names."""
OTHERWISE = "/settings/preferences"


async def ask(visit: Visit) -> Response | None:
    """None where who it is was proved lately, or the form that was sent carries a proof that fits; else the page that asks for it."""
    if visit.signed_in.is_proved(visit.now):
        return None
    path = visit.request.url.path
    if visit.request.method != "POST":
        return redirect(visit, f"{HERE}?{urlencode({'next': path_of(visit.request)})}")
    back = came_from(visit.request, OTHERWISE)
    if PASSWORD not in visit.form and CODE not in visit.form:
        return await _page(visit, path, visit.form, back, status=403)
    try:
        await _prove(visit)
    except (InvalidField, TooMany) as wrong:
        return await _refused(visit, wrong, path, visit.form, back)
    return None


async def show(visit: Visit) -> Response:
    next_path = own_path(visit.query("next"), OTHERWISE)
    if visit.signed_in.is_proved(visit.now):
        return redirect(visit, next_path)
    return await _page(visit, HERE, {"next": next_path}, OTHERWISE)


async def send(visit: Visit) -> Response:
    next_path = own_path(visit.form.get("next", ""), OTHERWISE)
    try:
        await _prove(visit)
    except (InvalidField, TooMany) as wrong:
        return await _refused(visit, wrong, HERE, {"next": next_path}, OTHERWISE)
    return redirect(visit, next_path)


async def send_mail(visit: Visit) -> Response:
    parts = visit.site.parts
    next_path = own_path(visit.form.get("next", ""), OTHERWISE)
    await actions.mail_proof(parts.database, visit.signed_in, public_url=parts.public_url, next_path=next_path)
    return redirect(visit, f"{HERE}/sent")


async def show_sent(visit: Visit) -> Response:
    console = not visit.site.parts.mail_delivers
    return render(visit, "check_mail.html", email=visit.user.email, console=console, csrf=None)


async def show_link(visit: Visit) -> Response:
    """Asks first: mail scanners open links, and this one works once."""
    token = visit.query("token")
    try:
        async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
            link = await identity.peek_link(snapshot, token, LinkPurpose.PROVE)
    except LinkExpired as expired:
        return _expired(visit, expired)
    if link.user != visit.user.id:
        return _expired(visit, LinkExpired("This link is for somebody else than who is signed in here."))
    return render(visit, "confirm_by_link.html", token=token)


async def follow_link(visit: Visit) -> Response:
    try:
        visit.new_session, next_path = await actions.confirm_by_link(
            visit.site.parts.database, visit.signed_in, visit.form.get("token", ""), address=visit.address
        )
    except LinkExpired as expired:
        return _expired(visit, expired)
    return redirect(visit, own_path(next_path, OTHERWISE))


async def _prove(visit: Visit) -> None:
    """Raises `InvalidField`, `TooMany`."""
    parts = visit.site.parts
    visit.new_session = await actions.confirm_identity(
        parts.database,
        parts.passwords,
        visit.signed_in,
        password=visit.form.get(PASSWORD, ""),
        code=visit.form.get(CODE, "").strip(),
        address=visit.address,
    )


async def _refused(
    visit: Visit, wrong: InvalidField | TooMany, action: str, fields: Mapping[str, str], back: str
) -> Response:
    if isinstance(wrong, InvalidField):
        return await _page(visit, action, fields, back, wrong.status, {f"step_up_{wrong.field}": wrong.sentence})
    return wait(await _page(visit, action, fields, back, wrong.status, {"form": f"{wrong} {wrong.remedy}"}), wrong)


async def _page(
    visit: Visit,
    action: str,
    fields: Mapping[str, str],
    back: str,
    status: int = 200,
    errors: dict[str, str] | None = None,
) -> Response:
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        has_password = await identity.find_password_hash(snapshot, visit.user.id) is not None
        has_factor = await identity.find_second_factor(snapshot, visit.user.id) is not None
    kept = [(name, value) for name, value in fields.items() if name not in ("csrf", CODE) and "password" not in name]
    return render(
        visit,
        "confirm_identity.html",
        status=status,
        action=action,
        fields=kept,
        has_password=has_password,
        has_factor=has_factor,
        next=fields.get("next", back) if action == HERE else back,
        back=back,
        minutes=PROVED_FOR.seconds // 60,
        errors=errors or {},
    )


def _expired(visit: Visit, expired: LinkExpired) -> Response:
    remedy = {"label": "Go to Preferences", "url": OTHERWISE}
    return render(visit, "link_expired.html", status=expired.status, text=expired.sentence, remedy=remedy)
