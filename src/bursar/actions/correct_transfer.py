"""An operator proposes to correct a transfer; another confirms it, and then it is posted. Two pairs of eyes where there are two."""

from bursar import audit, identity, ledger
from bursar.access import Actor, ActorKind
from bursar.kernel.errors import Conflict, Forbidden, InvalidInput
from bursar.kernel.ids import OwnerId, UserId
from bursar.kernel.money import Nanos
from bursar.ledger import Correction, Transfer
from bursar.storage import SYSTEM, Database, Snapshot

REASON_CHARACTERS_MAX = 500


class NotAnOperator(Forbidden):
    """Corrections are proposed and confirmed by operators, by their names."""


class ReasonMissing(InvalidInput):
    """A correction says why; its owner reads it."""


class SecondOperatorNeeded(Conflict):
    """Whoever proposed a correction does not confirm it."""


async def propose_correction(
    database: Database, *, owner: OwnerId, transfer: str, amount: Nanos | None, reason: str, operator: str
) -> Correction:
    """Nothing moves yet. `operator` is an operator's e-mail address, `amount` None all that is left to correct.

    Raises `NotAnOperator`, `ReasonMissing`, `ledger.NoSuchTransfer`, `ledger.CannotCorrect`.
    """
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= REASON_CHARACTERS_MAX:
        raise ReasonMissing(
            f"A correction needs a reason of at most {REASON_CHARACTERS_MAX} characters.",
            remedy="Say why, in words for its owner.",
        )
    async with database.begin(SYSTEM) as tx:
        by = await _operator(tx, operator)
        made = await ledger.propose_correction(tx, owner, transfer, amount, reason=reason, by=by)
        await audit.record(
            tx,
            _actor(by),
            owner,
            "correction.proposed",
            made.id,
            corrects=transfer,
            amount_nanos=made.amount,
            reason=reason,
        )
        return made


async def confirm_correction(database: Database, *, correction: str, operator: str, alone: bool) -> Transfer:
    """Posts it. `alone` is for the only operator of an installation, who confirms what they proposed.

    Raises `NotAnOperator`, `SecondOperatorNeeded`, `ledger.NoSuchCorrection`, `ledger.CorrectionDecided`,
    `ledger.InsufficientFunds`.
    """
    async with database.begin(SYSTEM) as tx:
        by = await _operator(tx, operator)
        proposed = await _proposed(tx, correction)
        if proposed.proposed_by == by:
            others = [user.email for user in await identity.list_operators(tx) if user.id != by]
            if others:
                raise SecondOperatorNeeded(
                    "Whoever proposed a correction does not confirm it.", remedy=f"Ask {' or '.join(others)}."
                )
            if not alone:
                raise SecondOperatorNeeded(
                    "You proposed this correction yourself.",
                    remedy="This installation has no other operator: say --alone to confirm it by yourself.",
                )
        posted = await ledger.confirm_correction(tx, proposed.owner, correction, by=by)
        await audit.record(
            tx,
            _actor(by),
            proposed.owner,
            "correction.confirmed",
            correction,
            corrects=proposed.corrects,
            amount_nanos=posted.amount,
            alone=proposed.proposed_by == by,
        )
        return posted


async def withdraw_correction(database: Database, *, correction: str, operator: str) -> Correction:
    """Raises `NotAnOperator`, `ledger.NoSuchCorrection`, `ledger.CorrectionDecided`."""
    async with database.begin(SYSTEM) as tx:
        by = await _operator(tx, operator)
        proposed = await _proposed(tx, correction)
        withdrawn = await ledger.withdraw_correction(tx, proposed.owner, correction, by=by)
        await audit.record(
            tx, _actor(by), proposed.owner, "correction.withdrawn", correction, corrects=proposed.corrects
        )
        return withdrawn


async def _proposed(snapshot: Snapshot, correction: str) -> Correction:
    found = await ledger.find_correction(snapshot, correction)
    if found is None:
        raise ledger.NoSuchCorrection(
            f"There is no correction {correction}.", remedy="`bursar ledger corrections` lists them."
        )
    return found


async def _operator(snapshot: Snapshot, email: str) -> UserId:
    found = await identity.get_by_email(snapshot, email)
    if not found.is_operator:
        raise NotAnOperator(
            f"{email} is not an operator of this installation.",
            remedy="Corrections are made by operators; `bursar users list` shows them.",
        )
    return found.id


def _actor(operator: UserId) -> Actor:
    return Actor(ActorKind.OPERATOR, user=operator)
