"""Settings > Preferences: the person's name, security, organizations and theme."""

from urllib.parse import urlsplit

from starlette.responses import Response

from bursar import actions, identity, organizations
from bursar.actions import EmailNotVerified
from bursar.kernel.errors import InvalidField
from bursar.storage import SYSTEM
from bursar.web import _session, invitations
from bursar.web._context import Visit, organizations_of
from bursar.web._pages import came_from, own_path, redirect, render
from bursar.web.sessions import row as session_row

HERE = "/settings/preferences"


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def save(visit: Visit) -> Response:
    try:
        await actions.rename_user(visit.site.parts.database, visit.actor, visit.user.id, visit.form.get("name", ""))
    except InvalidField as wrong:
        return await _page(visit, wrong.status, {wrong.field: wrong.sentence})
    return redirect(visit, HERE, "Your profile is saved.")


async def set_theme(visit: Visit) -> Response:
    """For browsers without scripts; the others set the cookie themselves."""
    response = redirect(visit, came_from(visit.request, own_path(visit.form.get("next", ""), "/")))
    theme = visit.form.get("theme", "")
    if theme in _session.THEMES:
        _session.set_theme(response, theme, secure=visit.request.url.scheme == "https")
    return response


async def show_new(visit: Visit) -> Response:
    return _new_page(visit)


async def create(visit: Visit) -> Response:
    try:
        made = await actions.create_organization(
            visit.site.parts.database,
            visit.actor,
            creator=visit.user.id,
            name=visit.form.get("name", ""),
            slug=_slug(visit),
        )
    except InvalidField as wrong:
        return _new_page(visit, wrong.status, {wrong.field: wrong.sentence})
    except EmailNotVerified as unverified:
        return _new_page(visit, unverified.status, {"form": unverified.sentence})
    return redirect(visit, f"/orgs/{made.slug}/overview", f"{made.name} is ready. You are its admin.")


async def _page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        sessions = await identity.list_sessions(snapshot, visit.user)
        factor = await identity.find_second_factor(snapshot, visit.user.id)
        has_password = await identity.find_password_hash(snapshot, visit.user.id) is not None
    return render(
        visit,
        "preferences.html",
        status=status,
        form={"name": visit.form.get("name", visit.user.name)},
        errors=errors or {},
        organizations=organizations_of(visit),
        invitations=await invitations.waiting(visit),
        factor=factor,
        has_password=has_password,
        sessions=[session_row(visit, session) for session in sessions],
    )


def _slug(visit: Visit) -> str:
    """As it was typed, or made from the name."""
    return visit.form.get("slug", "").strip() or organizations.slug_from(visit.form.get("name", ""))


def _new_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    return render(
        visit,
        "create_organization.html",
        status=status,
        form={"name": visit.form.get("name", ""), "slug": _slug(visit)},
        errors=errors or {},
        host=urlsplit(visit.site.parts.public_url).netloc,
    )
