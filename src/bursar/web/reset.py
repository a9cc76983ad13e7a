"""A forgotten password: a link by mail, to whoever has the address. Nothing here says whether it is somebody's."""

from starlette.responses import Response

from bursar import actions
from bursar.identity import EMAIL_CHARACTERS_MAX
from bursar.kernel.errors import TooMany
from bursar.web._context import Visit
from bursar.web._pages import own_path, render
from bursar.web.errors import wait
from bursar.web.sign_up import to_check_mail


async def show(visit: Visit) -> Response:
    return _page(visit)


async def send(visit: Visit) -> Response:
    parts = visit.site.parts
    email = visit.form.get("email", "").strip()[:EMAIL_CHARACTERS_MAX]
    try:
        await actions.request_reset(
            parts.database,
            email=email,
            public_url=parts.public_url,
            address=visit.address,
            next_path=own_path(visit.form.get("next", ""), ""),
        )
    except TooMany as waiting:
        return wait(_page(visit, waiting.status, {"form": waiting.in_full}), waiting)
    return to_check_mail(visit, email)


def _page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    next_path = own_path(visit.form.get("next", "") or visit.query("next"), "")
    email = visit.form.get("email", "")
    return render(visit, "forgot_password.html", status=status, email=email, next=next_path, errors=errors or {})
