"""Limits: of a key by whoever manages it, budgets of members and of the organization by its admins."""

from dataclasses import dataclass
from datetime import datetime

from bursar import activity, audit, ledger, organizations
from bursar.access import Actor, Permission
from bursar.actions._standing import enter
from bursar.audit import Change
from bursar.kernel.errors import InvalidInput
from bursar.kernel.ids import KeyId, OrganizationId, OwnerId, UserId, is_personal
from bursar.kernel.money import Nanos
from bursar.ledger import Limit, Period
from bursar.storage import Database, Scope, Tx


class PersonalBudget(InvalidInput):
    """A personal account has credits and keys with limits, and no budgets."""


@dataclass(frozen=True, slots=True)
class Allowing:
    """So many nanos in each window of the period."""

    amount: Nanos
    period: Period = Period.TOTAL


async def set_budget(
    database: Database, actor: Actor, *, organization: OwnerId, member: UserId | None, budget: Allowing | None
) -> None:
    """Of one member (their keys and their chat), or of the whole organization; None: no budget. In force on every worker within a
    second. Raises `PermissionDenied`, `NoSuchMember`, `PersonalBudget`."""
    if is_personal(organization):
        raise PersonalBudget("A personal account has no budgets.", remedy="Set the limit of a key instead.")
    async with database.begin(Scope(organization)) as tx:
        await enter(tx, actor, organization, Permission.SET_BUDGETS)
        if member is not None:
            await organizations.get_member(tx, OrganizationId(organization), member)
        await put_limit(tx, actor, organization, organization if member is None else member, budget)


async def put_limit(tx: Tx, actor: Actor, owner: OwnerId, subject: str, limit: Allowing | None) -> None:
    """Inside the transaction of whoever has checked the permission; audited."""
    if limit is None:
        before = await ledger.remove_limit(tx, owner, subject)
        if before is not None:
            amount, period = Change(before.amount, None), Change(before.period.value, None)
            await audit.record(tx, actor, owner, "limit.removed", subject, amount_nanos=amount, period=period)
        return

    async def spent(since: datetime) -> int:
        key = KeyId(subject) if subject.startswith("key_") else None
        user = UserId(subject) if key is None and subject != owner else None
        return await activity.spent(tx, owner, since, key=key, user=user)

    before = await ledger.set_limit(tx, Limit(owner, subject, limit.amount, limit.period), spent=spent)
    amount = Change(None if before is None else before.amount, limit.amount)
    period = Change(None if before is None else before.period.value, limit.period.value)
    if amount.is_one or period.is_one:
        await audit.record(tx, actor, owner, "limit.set", subject, amount_nanos=amount, period=period)
