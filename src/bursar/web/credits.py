"""The balance, buying credits, and the statement. Members see the balance and whom to ask."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from bursar import actions, identity, organizations, payments, reports
from bursar.access import Permission
from bursar.identity import User
from bursar.kernel.errors import Conflict, InvalidField
from bursar.kernel.ids import (
    CreditMoveId,
    OrganizationId,
    PurchaseId,
    UserId,
    is_id,
    new_credit_move_id,
    new_purchase_id,
)
from bursar.payments import MoveAnswered, NoSuchMove, Purchase
from bursar.reports import Billing, StatementRow
from bursar.storage import SYSTEM
from bursar.web._context import Visit, base_of
from bursar.web._pages import redirect, render

SETTING = "BURSAR_PAYMENTS"
OTHER_AMOUNT = "custom"
DEFAULT_AMOUNT = "25"

_STATES = {"cancelled": "canceled"}
_KINDS = {
    "purchase": "Credits bought",
    "grant": "Credits granted",
    "usage": "Usage",
    "correction": "Correction",
    "move": "Credits moved",
}


async def forward(visit: Visit) -> Response:
    """Where a refusal of the API sends people: to the credits of the owner that was asked, or of where they were last."""
    wanted = visit.query("owner")
    entry = next((entry for entry in visit.entries if entry.context.owner == wanted), visit.here)
    return redirect(visit, f"{base_of(entry)}/credits")


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def buy(visit: Visit) -> Response:
    parts, form = visit.site.parts, visit.form
    is_other = form.get("amount") == OTHER_AMOUNT
    purchase = form.get("purchase_id", "")
    if not is_id(purchase, "pur"):
        return await _page(visit, InvalidField.status, {"form": "The page was incomplete; please try again."})
    try:
        checkout = await actions.start_purchase(
            parts.database,
            parts.processor,
            visit.actor,
            owner=visit.owner,
            purchase=PurchaseId(purchase),
            amount=form.get("custom_amount" if is_other else "amount", ""),
        )
    except InvalidField as wrong:
        field = "custom_amount" if wrong.field == "amount" and is_other else wrong.field
        return await _page(visit, wrong.status, {field: wrong.sentence})
    except Conflict as used:
        return await _page(
            visit, used.status, {"form": f"{used.sentence} Look at the amount and press the button again."}
        )
    return redirect(visit, checkout.url)


async def ask_move(visit: Visit) -> Response:
    """The operator is asked to move personal credits to an organization."""
    parts, form = visit.site.parts, visit.form
    move = form.get("move_id", "")
    if not is_id(move, "mov"):
        return await _page(visit, 400, move_errors={"form": "The page was incomplete; please try again."})
    try:
        await actions.request_credit_move(
            parts.database,
            visit.actor,
            owner=visit.owner,
            move=CreditMoveId(move),
            organization=OrganizationId(form.get("organization", "")),
            amount=form.get("move_amount", ""),
            note=form.get("note", ""),
            public_url=parts.public_url,
            support_email=parts.support_email,
        )
    except InvalidField as wrong:
        field = "move_amount" if wrong.field == "amount" else wrong.field
        return await _page(visit, wrong.status, move_errors={field: wrong.sentence})
    except Conflict as cannot:
        return await _page(visit, cannot.status, move_errors={"form": cannot.in_full})
    return redirect(visit, f"{visit.base}/credits", "The operator was asked. Nothing moves until they answer.")


async def withdraw_move(visit: Visit) -> Response:
    move = visit.path("move")
    if not is_id(move, "mov"):
        raise NoSuchMove("There is no such request.")
    try:
        await actions.withdraw_credit_move(
            visit.site.parts.database, visit.actor, owner=visit.owner, move=CreditMoveId(move)
        )
    except MoveAnswered as late:
        return redirect(visit, f"{visit.base}/credits", late.sentence, "info")
    return redirect(visit, f"{visit.base}/credits", "The request is withdrawn.")


async def _page(
    visit: Visit,
    status: int = 200,
    errors: dict[str, str] | None = None,
    move_errors: dict[str, str] | None = None,
) -> Response:
    organization = visit.here.organization
    sees_billing = visit.may(Permission.SEE_BILLING)
    billing, buyers, contact = None, {}, None
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        days_left = await reports.days_left(snapshot, visit.owner, visit.here.balance)
        admins = await reports.admins_of(snapshot, organization) if organization else ()
        if organization is not None:
            contact = (await organizations.get_organization(snapshot, organization)).billing_email
        if sees_billing:
            billing = await reports.billing(snapshot, visit.owner, visit.query("month") or None)
    if billing is not None:
        buyers = await _buyers(visit, billing.purchases)
    return render(
        visit,
        "credits.html",
        status=status,
        balance_nanos=visit.here.balance.total,
        days_left=days_left,
        admins=admins,
        purchase=_purchase_form(visit) if visit.may(Permission.BUY_CREDITS) else None,
        errors=errors or {},
        purchases=[_purchase(row, buyers) for row in billing.purchases] if billing else [],
        statement=[_statement(row) for row in billing.rows] if billing else [],
        pager=_pager(visit, billing),
        month="" if billing is None else f"{datetime.strptime(billing.month, '%Y-%m').replace(tzinfo=UTC):%B %Y}",
        move=_move(visit, move_errors or {}),
        moves=[] if organization is not None else await _moves(visit),
        billing_contact=contact,
    )


async def _buyers(visit: Visit, purchases: Sequence[Purchase]) -> dict[UserId, User]:
    """Names, also of people who are no longer members: that is why this asks beyond the owner."""
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        return await identity.users_by_id(snapshot, {purchase.created_by for purchase in purchases})


def _purchase_form(visit: Visit) -> dict[str, Any]:
    parts = visit.site.parts
    return {
        "enabled": parts.processor is not None,
        "sandbox": parts.sandbox is not None,
        "id": new_purchase_id(visit.now),
        "amount": visit.form.get("amount", DEFAULT_AMOUNT),
        "custom_amount": visit.form.get("custom_amount", ""),
        "setting": SETTING,
    }


def _purchase(purchase: Purchase, buyers: dict[UserId, User]) -> dict[str, Any]:
    buyer = buyers.get(purchase.created_by)
    return {
        "id": purchase.id,
        "created_at": purchase.created_at,
        "amount_nanos": purchase.amount,
        "status": _STATES.get(purchase.state.value, purchase.state.value),
        "by": buyer.name if buyer is not None else "Deleted user",
    }


def _statement(row: StatementRow) -> dict[str, Any]:
    by_day = row.requests is not None
    requests = f"{row.requests:,} {'request' if row.requests == 1 else 'requests'}" if by_day else None
    return {
        "id": row.reference or f"{row.at:%Y-%m-%d}",
        "created_at": row.at,
        "day": f"{row.at:%b} {row.at.day}" if by_day else None,
        "what": _KINDS.get(row.kind, row.kind.capitalize()),
        "detail": requests or _reason(row) or row.reference,
        "amount_nanos": row.amount,
        "balance_after_nanos": row.after,
    }


def _reason(row: StatementRow) -> str | None:
    return row.reason if row.corrects is None else f"{row.reason} (corrects {row.corrects})"


def _pager(visit: Visit, billing: Billing | None) -> dict[str, str | None]:
    def url(month: str | None) -> str | None:
        return f"{visit.base}/credits?month={month}#statement" if month else None

    return {
        "newer_url": url(billing.later) if billing else None,
        "older_url": url(billing.earlier) if billing else None,
    }


def _move(visit: Visit, errors: dict[str, str]) -> dict[str, Any] | None:
    """The form by which the operator is asked to move personal credits."""
    if visit.here.organization is not None:
        return None
    kept = visit.form if errors else {}
    return {
        "id": new_credit_move_id(visit.now),
        "organizations": [
            {"id": entry.organization, "name": entry.name} for entry in visit.entries if entry.organization is not None
        ],
        "form": {name: kept.get(name, "") for name in ("organization", "move_amount", "note")},
        "errors": errors,
    }


async def _moves(visit: Visit) -> list[dict[str, Any]]:
    """The person's requests. Names also of organizations that are no more: that is why this asks beyond the owner."""
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        moves = await payments.list_moves(snapshot, visit.owner)
        names = await organizations.names_of(snapshot, {move.organization for move in moves})
    return [
        {
            "id": move.id,
            "to": names[move.organization],
            "created_at": move.created_at,
            "amount_nanos": move.amount,
            "state": move.state.value,
            "answer": move.answer,
        }
        for move in moves
    ]
