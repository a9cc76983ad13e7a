"""Organization settings: name, address, billing contact, seats, and the end. Admins only; the door tells members whom to ask."""

from urllib.parse import urlsplit

from starlette.responses import Response

from bursar import actions, reports
from bursar.kernel.errors import Conflict, InvalidField
from bursar.reports import Outline
from bursar.web._context import Visit
from bursar.web._pages import redirect, render

_FIELDS = ("name", "slug", "billing_email")


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def save(visit: Visit) -> Response:
    form = visit.form
    try:
        saved = await actions.update_organization(
            visit.site.parts.database,
            visit.actor,
            organization=visit.organization,
            name=form.get("name", ""),
            slug=form.get("slug", ""),
            billing_email=form.get("billing_email", ""),
        )
    except InvalidField as wrong:
        return await _page(visit, wrong.status, {wrong.field: wrong.sentence})
    moved = "" if saved.slug == visit.here.slug else f" Its pages are at /orgs/{saved.slug} now."
    return redirect(visit, f"/orgs/{saved.slug}/settings", f"The organization is saved.{moved}")


async def ask_delete(visit: Visit) -> Response:
    return await _delete_page(visit)


async def delete(visit: Visit) -> Response:
    try:
        deleted = await actions.delete_organization(
            visit.site.parts.database,
            visit.actor,
            organization=visit.organization,
            confirmation=visit.form.get("confirmation", ""),
        )
    except InvalidField as wrong:
        return await _delete_page(visit, wrong.status, {wrong.field: wrong.sentence})
    except Conflict as left:  # the page says what is left, and what to do about it
        return await _delete_page(visit, left.status)
    return redirect(visit, "/personal/overview", f"{deleted.organization.name} was deleted.")


async def _page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    found = await _outline(visit)
    saved = {
        "name": found.organization.name,
        "slug": found.organization.slug,
        "billing_email": found.organization.billing_email or "",
    }
    return render(
        visit,
        "organization.html",
        status=status,
        form={name: visit.form.get(name, saved[name]) for name in _FIELDS},
        errors=errors or {},
        host=urlsplit(visit.site.parts.public_url).netloc,
        seats=found.seats,
        left_nanos=found.balance.total,
        support_email=visit.site.parts.support_email,
    )


async def _delete_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    found = await _outline(visit)
    return render(
        visit,
        "delete_organization.html",
        status=status,
        errors=errors or {},
        confirmation=visit.form.get("confirmation", ""),
        seats=found.seats,
        keys=found.keys,
        purchases=found.purchases,
        left_nanos=found.balance.total,
        busy_nanos=found.balance.leased + found.balance.held,
        support_email=visit.site.parts.support_email,
    )


async def _outline(visit: Visit) -> Outline:
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        return await reports.outline(snapshot, visit.organization)
