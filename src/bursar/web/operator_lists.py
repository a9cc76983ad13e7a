"""The operator's lists: organizations with their seats and credits, and people."""

from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from bursar import actions, organizations, reports
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import OrganizationId, is_id
from bursar.kernel.paging import Cursor, Page
from bursar.organizations import NoSuchOrganization
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._operator import console, operator_of
from bursar.web._pages import redirect

SEARCH_CHARACTERS_MAX = 100


async def show_organizations(visit: Visit) -> Response:
    search = _search(visit)
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        page = await reports.page_organizations(snapshot, search, Cursor.decode(visit.query("at")))
        unsettled = [] if search else await reports.deleted_with_credits(snapshot)
    return await console(
        visit,
        "operator_organizations.html",
        rows=page.items,
        unsettled=unsettled,
        search=search,
        pager=_pager("/operator/organizations", search, page),
    )


async def show_users(visit: Visit) -> Response:
    search = _search(visit)
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        page = await reports.page_users(snapshot, search, Cursor.decode(visit.query("at")))
    return await console(
        visit, "operator_users.html", rows=page.items, search=search, pager=_pager("/operator/users", search, page)
    )


async def show_seats(visit: Visit) -> Response:
    return await _seats_page(visit)


async def set_seats(visit: Visit) -> Response:
    try:
        seats = int(visit.form.get("seats", ""))
    except ValueError:
        return await _seats_page(visit, 400, {"seats": "Write a number, like 25."})
    try:
        changed = await actions.set_seats(
            visit.site.parts.database, operator_of(visit), organization=_organization(visit), seats=seats
        )
    except InvalidField as wrong:
        return await _seats_page(visit, wrong.status, {wrong.field: wrong.sentence})
    return redirect(visit, "/operator/organizations", f"{changed.name} has {changed.seats_max:,} seats now.")


async def _seats_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    wanted = _organization(visit)
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        found = await organizations.get_organization(snapshot, wanted)
        seats = await organizations.count_seats(snapshot, wanted)
    return await console(
        visit,
        "operator_seats.html",
        status=status,
        organization=found,
        seats=seats,
        form={"seats": visit.form.get("seats", str(seats.maximum))},
        errors=errors or {},
    )


def _organization(visit: Visit) -> OrganizationId:
    wanted = visit.path("organization")
    if not is_id(wanted, "org"):
        raise NoSuchOrganization("There is no such organization.")
    return OrganizationId(wanted)


def _search(visit: Visit) -> str:
    return visit.query("q").strip()[:SEARCH_CHARACTERS_MAX]


def _pager(path: str, search: str, page: Page[Any]) -> dict[str, str | None]:
    def url(at: str | None) -> str | None:
        return None if at is None else f"{path}?{urlencode({'q': search, 'at': at} if search else {'at': at})}"

    return {"newer_url": url(page.newer), "older_url": url(page.older)}
