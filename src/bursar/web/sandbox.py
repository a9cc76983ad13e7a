"""The pretended card processor's page. Its button sends the same signed event that a real processor would."""

from starlette.responses import Response

from bursar import actions, payments
from bursar.access import Permission, require
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import PurchaseId, is_id
from bursar.payments import NoSuchPurchase, Purchase, PurchaseState
from bursar.processors import EventKind, SandboxProcessor
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._pages import FlashKind, redirect, render
from bursar.web._render import usd

_EVENTS = {"pay": EventKind.PAID, "cancel": EventKind.CANCELLED}


async def show(visit: Visit) -> Response:
    _, purchase = await _open(visit)
    if purchase.state is not PurchaseState.PENDING:
        return _back(visit, purchase)
    return render(
        visit,
        "sandbox_checkout.html",
        purchase_id=purchase.id,
        owner_name=visit.here.name if visit.here.organization else "your personal account",
        amount_nanos=purchase.amount,
    )


async def decide(visit: Visit) -> Response:
    """However often it is pressed, the purchase is paid once: `receive_event` sees to that."""
    sandbox, purchase = await _open(visit)
    kind = _EVENTS.get(visit.form.get("outcome", ""))
    if kind is None:
        raise InvalidField("outcome", "Press one of the two buttons.")
    body, signature = sandbox.event(kind, purchase.id, purchase.amount)
    after = await actions.receive_event(visit.site.parts.database, sandbox, body, signature)
    return _back(visit, after or purchase)


async def _open(visit: Visit) -> tuple[SandboxProcessor, Purchase]:
    """The purchase, for a person who may buy where it belongs; to anybody else there is none. Raises `NoSuchPurchase`."""
    sandbox, wanted = visit.site.parts.sandbox, visit.path("purchase")
    purchase = None
    if sandbox is not None and is_id(wanted, "pur"):
        async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
            purchase = await payments.find_purchase(snapshot, PurchaseId(wanted))
    entry = next((entry for entry in visit.entries if purchase and entry.context.owner == purchase.owner), None)
    if sandbox is None or purchase is None or entry is None or purchase.processor != sandbox.name:
        raise NoSuchPurchase("There is no such purchase.", remedy="Start again from the credits page.")
    visit.entry = entry
    require(entry.context, Permission.BUY_CREDITS)
    return sandbox, purchase


def _back(visit: Visit, purchase: Purchase) -> Response:
    said: dict[PurchaseState, tuple[str, FlashKind]] = {
        PurchaseState.PAID: (f"{usd(purchase.amount)} of credits were added.", "success"),
        PurchaseState.CANCELLED: ("The purchase was canceled; nothing was charged.", "info"),
        PurchaseState.PENDING: ("The purchase waits for the card processor.", "info"),
    }
    message, kind = said[purchase.state]
    return redirect(visit, f"{visit.base}/credits", message, kind)
