"""What the links in mails open: verifying an address, setting a password. Each asks first and is spent by its button."""

from urllib.parse import urlencode

from starlette.responses import Response

from bursar import actions, identity
from bursar.identity import LinkPurpose, User
from bursar.kernel.errors import InvalidField, LinkExpired, TooMany
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._known import remember
from bursar.web._pages import own_path, redirect, render
from bursar.web.errors import wait
from bursar.web.sign_in import link_expired
from bursar.web.sign_up import to_check_mail


async def show(visit: Visit) -> Response:
    token = visit.query("token")
    try:
        user = await _whose(visit, token, LinkPurpose.VERIFY_EMAIL)
    except LinkExpired as expired:
        return link_expired(visit, expired)
    return await _verify_page(visit, token, user)


async def confirm(visit: Visit) -> Response:
    parts, token = visit.site.parts, visit.form.get("token", "")
    try:
        user = await _whose(visit, token, LinkPurpose.VERIFY_EMAIL)
        _, next_path = await actions.verify_email(
            parts.database,
            parts.passwords,
            token,
            password=visit.form.get("password"),
            signed_in=None if visit.session is None else visit.user.id,
            address=visit.address,
        )
    except LinkExpired as expired:
        return link_expired(visit, expired)
    except InvalidField as wrong:
        return await _verify_page(visit, token, user, wrong.status, {wrong.field: wrong.sentence})
    except TooMany as waiting:
        told = {"form": waiting.in_full}
        return wait(await _verify_page(visit, token, user, waiting.status, told), waiting)
    next_path = own_path(next_path, "")
    if visit.session is not None:
        return redirect(visit, next_path or "/", "Your e-mail address is verified.")
    response = redirect(visit, sign_in_url(next_path), "Your e-mail address is verified. Sign in to go on.")
    remember(visit, response, user.id)
    return response


async def choose_instead(visit: Visit) -> Response:
    """Somebody reads the mail but does not know the password: perhaps a stranger chose it."""
    try:
        token = await actions.choose_password_instead(visit.site.parts.database, visit.form.get("token", ""))
    except LinkExpired as expired:
        return link_expired(visit, expired)
    return redirect(visit, f"/set-password?token={token}")


async def resend(visit: Visit) -> Response:
    if visit.user.is_verified:
        return redirect(visit, "/", "Your e-mail address is verified already.", "info")
    parts = visit.site.parts
    await actions.resend_verification(parts.database, visit.user, public_url=parts.public_url)
    return to_check_mail(visit, visit.user.email)


async def show_password(visit: Visit) -> Response:
    token = visit.query("token")
    try:
        user = await _whose(visit, token, LinkPurpose.SET_PASSWORD)
    except LinkExpired as expired:
        return link_expired(visit, expired)
    return _password_page(visit, token, user)


async def set_password(visit: Visit) -> Response:
    """Sets it, and leaves signing in to the sign-in page: a link that was mailed never signs in."""
    parts = visit.site.parts
    token, password = visit.form.get("token", ""), visit.form.get("password", "")
    try:
        user = await _whose(visit, token, LinkPurpose.SET_PASSWORD)
        _, next_path = await actions.set_password(
            parts.database, parts.passwords, token=token, password=password, address=visit.address
        )
    except LinkExpired as expired:
        return link_expired(visit, expired)
    except InvalidField as wrong:
        return _password_page(visit, token, user, wrong.status, {wrong.field: wrong.sentence})
    response = redirect(visit, sign_in_url(own_path(next_path, "")), "Your password is set. Sign in with it.")
    remember(visit, response, user.id)  # whoever tries this address elsewhere does not keep them waiting
    return response


def sign_in_url(next_path: str) -> str:
    return f"/sign-in?{urlencode({'next': next_path})}" if next_path else "/sign-in"


async def _whose(visit: Visit, token: str, purpose: LinkPurpose) -> User:
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        link = await identity.peek_link(snapshot, token, purpose)
        return await identity.get_user(snapshot, link.user)


async def _verify_page(
    visit: Visit, token: str, user: User, status: int = 200, errors: dict[str, str] | None = None
) -> Response:
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        has_password = await identity.find_password_hash(snapshot, user.id) is not None
    is_here = visit.session is not None and visit.user.id == user.id
    return render(
        visit,
        "verify_email.html",
        status=status,
        token=token,
        email=user.email,
        asks_password=has_password and not is_here,
        errors=errors or {},
    )


def _password_page(
    visit: Visit, token: str, user: User, status: int = 200, errors: dict[str, str] | None = None
) -> Response:
    return render(visit, "set_password.html", status=status, token=token, email=user.email, errors=errors or {})
