"""What the links in mails open: verifying an address, setting a password. Each asks first and is spent by its button."""

from starlette.responses import Response

from bursar import actions, identity
from bursar.identity import LinkPurpose, User
from bursar.kernel.errors import InvalidField, LinkExpired
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._pages import redirect, render
from bursar.web.sign_in import link_expired
from bursar.web.sign_up import to_check_mail


async def show(visit: Visit) -> Response:
    token = visit.query("token")
    try:
        user = await _whose(visit, token, LinkPurpose.VERIFY_EMAIL)
    except LinkExpired as expired:
        return link_expired(visit, expired)
    return render(visit, "verify_email.html", token=token, email=user.email)


async def confirm(visit: Visit) -> Response:
    try:
        await actions.verify_email(visit.site.parts.database, visit.form.get("token", ""), address=visit.address)
    except LinkExpired as expired:
        return link_expired(visit, expired)
    if visit.session is not None:
        return redirect(visit, "/", "Your e-mail address is verified.")
    return redirect(visit, "/sign-in", "Your e-mail address is verified. Sign in to go on.")


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
        await actions.set_password(
            parts.database, parts.passwords, token=token, password=password, address=visit.address
        )
    except LinkExpired as expired:
        return link_expired(visit, expired)
    except InvalidField as wrong:
        return _password_page(visit, token, user, wrong.status, {wrong.field: wrong.sentence})
    return redirect(visit, "/sign-in", "Your password is set. Sign in with it.")


async def _whose(visit: Visit, token: str, purpose: LinkPurpose) -> User:
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        link = await identity.peek_link(snapshot, token, purpose)
        return await identity.get_user(snapshot, link.user)


def _password_page(
    visit: Visit, token: str, user: User, status: int = 200, errors: dict[str, str] | None = None
) -> Response:
    return render(visit, "set_password.html", status=status, token=token, email=user.email, errors=errors or {})
