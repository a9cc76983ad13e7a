"""Settings > Preferences: another password, another e-mail address, and the end of the account."""

from starlette.responses import Response

from bursar import actions, identity
from bursar.actions import AccountStillNeeded
from bursar.identity import EmailTaken, LinkPurpose
from bursar.kernel.errors import Conflict, InvalidField, LinkExpired, TooMany
from bursar.storage import SYSTEM
from bursar.web import _session
from bursar.web._context import Visit
from bursar.web._pages import redirect, render
from bursar.web.errors import wait
from bursar.web.sign_in import link_expired

PREFERENCES = "/settings/preferences#security"


async def show_password(visit: Visit) -> Response:
    return await _password_page(visit)


async def change_password(visit: Visit) -> Response:
    parts, form = visit.site.parts, visit.form
    try:
        visit.new_session = await actions.change_password(
            parts.database,
            parts.passwords,
            visit.signed_in,
            current=form.get("current_password", ""),
            password=form.get("password", ""),
            address=visit.address,
        )
    except InvalidField as wrong:
        return await _password_page(visit, wrong.status, {wrong.field: wrong.sentence})
    except TooMany as waiting:
        return wait(await _password_page(visit, waiting.status, {"form": waiting.in_full}), waiting)
    return redirect(visit, PREFERENCES, "Your password is changed. Everywhere else you are signed out.")


async def show_email(visit: Visit) -> Response:
    return _email_page(visit)


async def change_email(visit: Visit) -> Response:
    parts, email = visit.site.parts, visit.form.get("email", "").strip()
    try:
        await actions.request_email_change(
            parts.database, visit.actor, visit.signed_in, email=email, public_url=parts.public_url
        )
    except InvalidField as wrong:
        return _email_page(visit, wrong.status, {wrong.field: wrong.sentence})
    except TooMany as waiting:
        return wait(_email_page(visit, waiting.status, {"form": waiting.in_full}), waiting)
    return redirect(
        visit, PREFERENCES, f"Open the link in the message to {email}: until then your address stays.", "info"
    )


async def show_new_email(visit: Visit) -> Response:
    return await _link_page(visit, LinkPurpose.CHANGE_EMAIL, "change_email.html")


async def confirm_email(visit: Visit) -> Response:
    parts = visit.site.parts
    try:
        email = await actions.confirm_email_change(
            parts.database, visit.form.get("token", ""), public_url=parts.public_url, address=visit.address
        )
    except LinkExpired as expired:
        return link_expired(visit, expired)
    except EmailTaken as taken:
        return link_expired(visit, LinkExpired(f"{taken.sentence} Your address stays as it was."))
    return redirect(visit, "/sign-in" if visit.session is None else PREFERENCES, f"Your address is {email} now.")


async def show_undo(visit: Visit) -> Response:
    return await _link_page(visit, LinkPurpose.UNDO_EMAIL, "undo_email_change.html")


async def undo_email(visit: Visit) -> Response:
    try:
        token = await actions.undo_email_change(
            visit.site.parts.database, visit.form.get("token", ""), address=visit.address
        )
    except LinkExpired as expired:
        return link_expired(visit, expired)
    return redirect(visit, f"/set-password?token={token}", "You have your address back. Choose a new password now.")


async def ask_delete(visit: Visit) -> Response:
    return await _delete_page(visit)


async def delete(visit: Visit) -> Response:
    parts, form = visit.site.parts, visit.form
    try:
        await actions.delete_account(
            parts.database,
            visit.actor,
            visit.user,
            confirmation=form.get("confirmation", ""),
            gives_up_credits=form.get("credits", "") == "give up",
            public_url=parts.public_url,
        )
    except InvalidField as wrong:
        return await _delete_page(visit, wrong.status, {wrong.field: wrong.sentence})
    except AccountStillNeeded as needed:
        return await _delete_page(visit, needed.status)
    except Conflict as refused:
        return await _delete_page(visit, refused.status, {"form": refused.in_full})
    visit.new_session = None
    response = redirect(visit, "/sign-in", "Your account is deleted.")
    for name in (_session.SESSION, _session.CONTEXT, _session.MAIL, _session.KNOWN):
        _session.clear_cookie(response, name)
    return response


async def _password_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        has_password = await identity.find_password_hash(snapshot, visit.user.id) is not None
    return render(visit, "password.html", status=status, has_password=has_password, errors=errors or {})


def _email_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    return render(visit, "email.html", status=status, email=visit.form.get("email", ""), errors=errors or {})


async def _link_page(visit: Visit, purpose: LinkPurpose, template: str) -> Response:
    """Asks first: mail scanners open links, and these work once."""
    token = visit.query("token")
    try:
        async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
            link = await identity.peek_link(snapshot, token, purpose)
            user = await identity.get_user(snapshot, link.user)
    except LinkExpired as expired:
        return link_expired(visit, expired)
    return render(visit, template, token=token, now_email=user.email, other_email=link.detail)


async def _delete_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        found = await actions.belongings(snapshot, visit.user)
    return render(
        visit,
        "delete_account.html",
        status=status,
        belongings=found,
        confirmation=visit.form.get("confirmation", ""),
        gives_up=visit.form.get("credits", "") == "give up",
        errors=errors or {},
    )
