"""Requests to move personal credits to an organization, for the operator to carry out or refuse."""

from starlette.responses import Response

from bursar import actions, reports
from bursar.actions import Answer
from bursar.kernel.errors import Conflict, InvalidField
from bursar.kernel.ids import CreditMoveId, is_id
from bursar.kernel.money import format_credits
from bursar.payments import MoveState, NoSuchMove
from bursar.storage import SYSTEM
from bursar.web._context import Visit
from bursar.web._operator import console, operator_of
from bursar.web._pages import redirect

HERE = "/operator/credit-moves"
_ANSWERS = {"carry-out": Answer.CARRY_OUT, "refuse": Answer.REFUSE}
ANSWERED_SHOWN = 50


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def answer(visit: Visit) -> Response:
    move = visit.path("move")
    if not is_id(move, "mov"):
        raise NoSuchMove("There is no such request.")
    wanted = _ANSWERS.get(visit.form.get("answer", ""))
    if wanted is None:
        return await _page(visit, 400, {"form": "Press one of the two buttons."})
    try:
        closed = await actions.answer_credit_move(
            visit.site.parts.database,
            operator_of(visit),
            move=CreditMoveId(move),
            answer=wanted,
            note=visit.form.get("note", ""),
        )
    except InvalidField as wrong:
        return await _page(visit, wrong.status, {wrong.field: wrong.sentence})
    except Conflict as cannot:
        return await _page(visit, cannot.status, {"form": cannot.in_full})
    done = "was moved" if closed.state is MoveState.CARRIED_OUT else "was not moved, and the person was told why"
    return redirect(visit, HERE, f"{format_credits(closed.amount)} {done}.")


async def _page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    """`errors` are of the request that the form was about."""
    async with visit.site.parts.database.snapshot(SYSTEM) as snapshot:
        waiting = await reports.moves_to_answer(snapshot, is_open=True)
        answered = await reports.moves_to_answer(snapshot, is_open=False, limit=ANSWERED_SHOWN)
    return await console(
        visit,
        "operator_moves.html",
        status=status,
        waiting=waiting,
        answered=answered,
        about=visit.path("move") if errors else None,
        form={"note": visit.form.get("note", "")},
        errors=errors or {},
    )
