"""Signing up, and becoming the operator of a fresh installation."""

from typing import Any

from starlette.responses import Response

from bursar import actions, identity
from bursar.identity import LinkPurpose
from bursar.kernel.errors import Conflict, InvalidField, LinkExpired, TooMany
from bursar.storage import SYSTEM
from bursar.web import _session
from bursar.web._context import Visit
from bursar.web._pages import own_path, redirect, render
from bursar.web.errors import wait
from bursar.web.sign_in import link_expired, signed_in

MAIL_SECONDS = 600


async def show(visit: Visit) -> Response:
    if visit.session is not None:
        return redirect(visit, own_path(visit.query("next"), "/"))
    if not visit.site.parts.sign_up_is_open:
        return _closed(visit)
    return _page(visit, 200, {})


async def send(visit: Visit) -> Response:
    parts, form = visit.site.parts, visit.form
    if not parts.sign_up_is_open:
        return _closed(visit)
    email = form.get("email", "").strip()
    try:
        await actions.sign_up(
            parts.database,
            parts.passwords,
            email=email,
            name=form.get("name", ""),
            password=form.get("password", ""),
            public_url=parts.public_url,
            address=visit.address,
            is_open=parts.sign_up_is_open,
            next_path=own_path(form.get("next", ""), ""),
        )
    except InvalidField as wrong:
        return _page(visit, wrong.status, {wrong.field: wrong.sentence})
    except TooMany as waiting:
        return wait(_page(visit, waiting.status, {"form": waiting.in_full}), waiting)
    return to_check_mail(visit, email)


def to_check_mail(visit: Visit, email: str) -> Response:
    response = redirect(visit, "/check-mail")
    _session.set_cookie(response, _session.MAIL, _session.sign(visit.site, _session.MAIL, email), seconds=MAIL_SECONDS)
    return response


async def check_mail(visit: Visit) -> Response:
    if visit.session is None:
        email = _session.read_signed(visit.site, visit.request, _session.MAIL)
        return _sent(visit, email, csrf=None) if isinstance(email, str) else redirect(visit, "/sign-in")
    return redirect(visit, "/") if visit.user.is_verified else _sent(visit, visit.user.email)


async def show_operator(visit: Visit) -> Response:
    token = visit.query("token")
    try:
        async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
            await identity.peek_link(snapshot, token, LinkPurpose.BECOME_OPERATOR)
    except LinkExpired as expired:
        return link_expired(visit, expired)
    return _operator_page(visit, token, 200, {})


async def send_operator(visit: Visit) -> Response:
    parts, form = visit.site.parts, visit.form
    token, email, password = form.get("token", ""), form.get("email", ""), form.get("password", "")
    try:
        await actions.become_operator(
            parts.database,
            parts.passwords,
            token=token,
            email=email,
            name=form.get("name", ""),
            password=password,
            address=visit.address,
        )
    except InvalidField as wrong:
        return _operator_page(visit, token, wrong.status, {wrong.field: wrong.sentence})
    except Conflict as taken:
        return _operator_page(visit, token, taken.status, {"email": taken.sentence})
    except LinkExpired as expired:
        return link_expired(visit, expired)
    session = await actions.sign_in(
        parts.database,
        parts.passwords,
        email=email,
        password=password,
        address=visit.address,
        user_agent=visit.user_agent,
    )
    return await signed_in(visit, session, "/", "You are the operator of this installation.")


def _page(visit: Visit, status: int, errors: dict[str, str]) -> Response:
    next_path = own_path(visit.form.get("next", "") or visit.query("next"), "")
    typed = {name: visit.form.get(name, "") for name in ("name", "email")}
    return render(visit, "sign_up.html", status=status, next=next_path, errors=errors, **typed)


def _operator_page(visit: Visit, token: str, status: int, errors: dict[str, str]) -> Response:
    typed = {name: visit.form.get(name, "") for name in ("name", "email")}
    return render(visit, "become_operator.html", status=status, token=token, errors=errors, **typed)


def _sent(visit: Visit, email: str, **nobody: Any) -> Response:
    return render(visit, "check_mail.html", email=email, console=not visit.site.parts.mail_delivers, **nobody)


def _closed(visit: Visit) -> Response:
    return render(visit, "sign_up_closed.html", status=403, support_email=visit.site.parts.support_email)
