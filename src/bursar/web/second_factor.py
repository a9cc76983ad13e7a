"""Settings > Second factor: set up with an authenticator app, recovery codes, turned off again."""

from collections.abc import Sequence

from markupsafe import Markup
from starlette.responses import Response

from bursar import actions, identity
from bursar.actions import EmailNotVerified
from bursar.identity import SecondFactorOn
from bursar.kernel.errors import InvalidField, TooMany
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._pages import redirect, render
from bursar.web.errors import wait

HERE = "/settings/second-factor"
PREFERENCES = "/settings/preferences#security"
ISSUER = "Bursar"
GROUP = 4


async def show(visit: Visit) -> Response:
    """The secret to scan; where there is a factor already, what can be done with it."""
    return await _page(visit)


async def turn_on(visit: Visit) -> Response:
    """The answer shows the recovery codes, once: they are not stored, so there is nothing to redirect to."""
    try:
        codes, visit.new_session = await actions.turn_on_second_factor(
            visit.site.parts.database, visit.signed_in, code=visit.form.get("code", ""), address=visit.address
        )
    except InvalidField as wrong:
        return await _page(visit, wrong.status, {wrong.field: wrong.sentence})
    except TooMany as waiting:
        return wait(await _page(visit, waiting.status, {"form": waiting.in_full}), waiting)
    return _codes_page(visit, codes, is_new=True)


async def renew_codes(visit: Visit) -> Response:
    codes = await actions.renew_recovery_codes(visit.site.parts.database, visit.actor, visit.signed_in)
    return _codes_page(visit, codes, is_new=False)


async def ask_off(visit: Visit) -> Response:
    return render(
        visit,
        "confirm.html",
        title="Turn off the second factor?",
        text="Your password alone signs you in from then on. The recovery codes stop working.",
        action=f"{HERE}/off",
        fields=[],
        verb="Turn off",
        cancel_url=HERE,
        danger=True,
    )


async def turn_off(visit: Visit) -> Response:
    await actions.turn_off_second_factor(visit.site.parts.database, visit.actor, visit.signed_in)
    return redirect(visit, PREFERENCES, "Your second factor is off.")


async def _page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    database = visit.site.parts.database
    async with database.snapshot(SYSTEM) as snapshot:
        factor = await identity.find_second_factor(snapshot, visit.user.id)
    if factor is not None:
        return render(visit, "second_factor.html", since=factor.since, recovery_left=factor.recovery_left)
    try:
        secret = await actions.prepare_second_factor(database, visit.signed_in)
    except EmailNotVerified as refused:
        return redirect(visit, PREFERENCES, refused.in_full, "error")
    except SecondFactorOn:  # turned on in another tab meanwhile
        return redirect(visit, HERE)
    return render(
        visit,
        "second_factor_on.html",
        status=status,
        qr=_qr(secret, visit.user.email),
        secret=" ".join(secret[at : at + GROUP] for at in range(0, len(secret), GROUP)),
        errors=errors or {},
    )


def _qr(secret: str, email: str) -> Markup:
    """As SVG: nothing of it is loaded from anywhere, or kept."""
    # Imported here: few people set up a second factor, and never at a start.
    import pyotp
    import segno

    address = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)
    svg = segno.make(address, error="m").svg_inline(scale=5, border=2, svgclass="b-qr", lineclass=None, omitsize=True)
    return Markup(svg)  # noqa: S704 - made of squares by segno


def _codes_page(visit: Visit, codes: Sequence[str], *, is_new: bool) -> Response:
    return render(visit, "recovery_codes.html", codes=codes, is_new=is_new, email=visit.user.email)
