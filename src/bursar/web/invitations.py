"""What the link of an invitation opens, and the invitations that wait under Preferences. Opening it changes nothing: mail scanners
open links too."""

from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from bursar import actions, identity, reports
from bursar.actions import InvitationGone, InvitedSomebodyElse, Joined
from bursar.identity import EmailTaken
from bursar.kernel.errors import Conflict, Forbidden, InvalidField, TooMany
from bursar.kernel.ids import InvitationId, is_id
from bursar.organizations import NoSuchInvitation
from bursar.reports import OpenInvitation
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._pages import redirect, render
from bursar.web.sign_in import signed_in

HERE = "/invitations/accept"
PREFERENCES = "/settings/preferences"


async def show(visit: Visit) -> Response:
    return await _page(visit, visit.query("token"))


async def accept(visit: Visit) -> Response:
    """By whoever is signed in; or by a new person, who signs up with it."""
    token = visit.form.get("token", "")
    if visit.session is None:
        return await _sign_up(visit, token)
    try:
        joined = await actions.accept_invitation(visit.site.parts.database, visit.actor, token=token)
    except InvitedSomebodyElse:
        return await _page(visit, token, 403)
    except InvitationGone as gone:
        return _gone(visit, gone)
    except (Conflict, Forbidden) as refused:
        return await _page(visit, token, refused.status, {"form": refused.in_full})
    return redirect(visit, *_welcome(joined))


async def decline(visit: Visit) -> Response:
    """Whoever has the link reads the invited address: nobody needs to sign in to say no."""
    try:
        await actions.decline_invitation(
            visit.site.parts.database, token=visit.form.get("token", ""), address=visit.address
        )
    except InvitationGone as gone:
        return _gone(visit, gone)
    return redirect(visit, "/" if visit.session is not None else "/sign-in", "The invitation is declined.")


async def accept_waiting(visit: Visit) -> Response:
    try:
        joined = await actions.accept_waiting_invitation(
            visit.site.parts.database, visit.actor, invitation=_invitation_id(visit)
        )
    except (Conflict, Forbidden) as refused:
        return redirect(visit, PREFERENCES, refused.in_full, "error")
    return redirect(visit, *_welcome(joined))


async def decline_waiting(visit: Visit) -> Response:
    await actions.decline_waiting_invitation(visit.site.parts.database, visit.actor, invitation=_invitation_id(visit))
    return redirect(visit, PREFERENCES, "The invitation is declined.")


async def waiting(visit: Visit) -> list[dict[str, Any]]:
    """For Preferences: what waits for the person's own verified address."""
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        found = await reports.waiting_invitations(snapshot, visit.user)
    return [
        {
            "id": each.invitation.id,
            "organization": each.organization,
            "role": each.invitation.role.value,
            "inviter": each.inviter,
            "expires_at": each.invitation.expires_at,
        }
        for each in found
    ]


async def _sign_up(visit: Visit, token: str) -> Response:
    parts, password = visit.site.parts, visit.form.get("password", "")
    try:
        joined = await actions.join_by_invitation(
            parts.database,
            parts.passwords,
            token=token,
            name=visit.form.get("name", ""),
            password=password,
            address=visit.address,
        )
    except InvalidField as wrong:
        return await _page(visit, token, wrong.status, {wrong.field: wrong.sentence})
    except InvitationGone as gone:
        return _gone(visit, gone)
    except EmailTaken:
        return redirect(visit, _sign_in_first(token))
    except (Conflict, Forbidden) as refused:
        return await _page(visit, token, refused.status, {"form": refused.in_full})
    try:
        session = await actions.sign_in(
            parts.database,
            parts.passwords,
            email=joined.user.email,
            password=password,
            address=visit.address,
            user_agent=visit.user_agent,
        )
    except TooMany as waiting:  # others at this address guessed: the account is there all the same
        return redirect(visit, "/sign-in", f"{_welcome(joined)[1]} {waiting.in_full}", "info")
    return await signed_in(visit, session, *_welcome(joined))


def _welcome(joined: Joined) -> tuple[str, str]:
    name, role = joined.organization.name, joined.role.with_article
    return f"/orgs/{joined.organization.slug}/overview", f"Welcome to {name}. You are {role} now."


async def _page(visit: Visit, token: str, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    try:
        async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
            found = await reports.open_invitation(snapshot, await actions.peek_invitation(snapshot, token))
    except InvitationGone as gone:
        return _gone(visit, gone)
    return render(
        visit,
        "accept_invitation.html",
        status=status,
        token=token,
        email=found.invitation.email,
        organization=found.organization,
        inviter=found.inviter,
        role=found.invitation.role.value,
        expires_at=found.invitation.expires_at,
        who=_who(visit, found),
        signed_in_as=None if visit.session is None else visit.user.email,
        here=_link(token),
        sign_in_url=_sign_in_first(token),
        name=visit.form.get("name", ""),
        errors=errors or {},
    )


def _who(visit: Visit, found: OpenInvitation) -> str:
    """Whom the page speaks to: the invited person signed in, somebody else, somebody who has an account and signs in first, or
    somebody new."""
    if visit.session is not None:
        mine = identity.normalize_email(visit.user.email) == found.invitation.email_normalized
        return "invited" if mine else "other"
    # An account whose address nobody proved may be a stranger's: the reader of the address starts afresh.
    return "account" if found.account is not None and found.account.is_verified else "new"


def _link(token: str) -> str:
    return f"{HERE}?{urlencode({'token': token})}"


def _sign_in_first(token: str) -> str:
    return f"/sign-in?{urlencode({'next': _link(token)})}"


def _gone(visit: Visit, gone: InvitationGone) -> Response:
    remedy = {"label": "Go to Bursar", "url": "/"} if visit.session is not None else None
    text = gone.in_full
    return render(visit, "link_expired.html", status=gone.status, text=text, remedy=remedy)


def _invitation_id(visit: Visit) -> InvitationId:
    invitation = visit.path("invitation")
    if not is_id(invitation, "inv"):
        raise NoSuchInvitation("No such invitation waits for you.", remedy="Preferences list what waits.")
    return InvitationId(invitation)
