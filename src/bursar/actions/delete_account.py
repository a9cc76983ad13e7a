"""The end of somebody's account.

1. Not while an organization would lose its only admin, and not while this is the only operator.
2. Credits of the personal account are given up, if the person says so: they are written off, all or nothing.
3. The person leaves every organization as by leaving (`_departure`), personal keys are deleted, sessions end, links stop working.
4. The row stays without name, address and password: activity, ledger and audit log still have somebody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bursar import audit, identity, keys, ledger, organizations, payments
from bursar.access import Actor, Permission, Role
from bursar.actions._departure import depart
from bursar.actions._mails import post
from bursar.actions._recall import CreditsInUse, recall
from bursar.actions._standing import enter_locked
from bursar.identity import User
from bursar.kernel.errors import Conflict, InvalidField
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos, format_exact
from bursar.mail import account_deleted
from bursar.organizations import Organization
from bursar.payments import MoveState
from bursar.storage import SYSTEM, Database, Snapshot, Tx


class AccountStillNeeded(Conflict):
    """Somebody else depends on it."""


@dataclass(frozen=True)
class Belongings:
    """What goes with an account: `only_admin_of` keep it, of them `alone_in` have nobody else."""

    organizations: Sequence[Organization]
    only_admin_of: Sequence[Organization]
    alone_in: Sequence[Organization]
    keys: int
    credits: Nanos
    is_only_operator: bool


async def belongings(snapshot: Snapshot, user: User) -> Belongings:
    """In system scope."""
    owner = OwnerId(user.id)
    entered = await organizations.list_of_user(snapshot, user.id)
    only: list[Organization] = []
    alone: list[Organization] = []
    for organization, role in entered:
        members = await organizations.list_members(snapshot, organization.id)
        if role is Role.ADMIN and sum(member.role is Role.ADMIN for member in members) == 1:
            (only if len(members) > 1 else alone).append(organization)
    return Belongings(
        organizations=[organization for organization, _ in entered],
        only_admin_of=[*only, *alone],
        alone_in=alone,
        keys=len(await keys.list_keys(snapshot, owner)),
        credits=(await ledger.balance(snapshot, owner)).total,
        is_only_operator=user.is_operator and len(await identity.list_operators(snapshot)) == 1,
    )


async def delete_account(
    database: Database, actor: Actor, user: User, *, confirmation: str, gives_up_credits: bool, public_url: str
) -> None:
    """For good. `confirmation` is the address, typed again.

    Raises `InvalidField` (`confirmation`, `credits`), `AccountStillNeeded`, `CreditsInUse`, `CannotCorrect`.
    """
    if identity.normalize_email(confirmation) != identity.normalize_email(user.email):
        raise InvalidField("confirmation", f"Type {user.email} to delete your account.")
    owner = OwnerId(user.id)
    if gives_up_credits:
        await recall(database, owner)
    async with database.begin(SYSTEM) as tx:
        await _leave_everything(tx, actor, user, public_url)
        await _give_up(tx, actor, owner, gives_up=gives_up_credits)
        for key in await keys.list_keys(tx, owner):
            await keys.delete(tx, key)
            await audit.record(tx, actor, owner, "key.deleted", key.id, name=key.name, label=key.label)
        for limit in await ledger.list_limits(tx, owner):
            await ledger.remove_limit(tx, owner, limit.subject)
        await payments.cancel_pending(tx, owner)
        await identity.remove_second_factor(tx, user.id)
        await identity.end_sessions_of(tx, user.id)
        await identity.spend_links_of(tx, user.id, undo_too=True)
        await identity.delete_user(tx, user.id)
        await audit.record(tx, actor, owner, "user.deleted", user.id)
        await post(tx, account_deleted(user.email, user.name))
        await tx.announce("user", user.id)


async def _leave_everything(tx: Tx, actor: Actor, user: User, public_url: str) -> None:
    entered = sorted(await organizations.list_of_user(tx, user.id), key=lambda each: each[0].id)
    for organization, _ in entered:
        await enter_locked(tx, actor, organization.id, Permission.LEAVE)
    found = await belongings(tx, user)
    if found.only_admin_of:
        others = [each for each in found.only_admin_of if each not in found.alone_in]
        remedies = [
            *([f"Make somebody else an admin of {_names(others)}."] if others else []),
            *([f"Delete {_names(found.alone_in)}: nobody else is in it."] if found.alone_in else []),
        ]
        raise AccountStillNeeded(
            f"You are the only admin of {_names(found.only_admin_of)}.", remedy=" ".join(remedies), user=user.id
        )
    if found.is_only_operator:
        raise AccountStillNeeded(
            "You are the only operator of this installation.",
            remedy="Add another one first: bursar users add --operator.",
            user=user.id,
        )
    for organization, _ in entered:
        await depart(tx, actor, organization.id, user.id, hand_over_to=None, public_url=public_url)


async def _give_up(tx: Tx, actor: Actor, owner: OwnerId, *, gives_up: bool) -> None:
    for move in await payments.list_moves(tx, owner):
        if move.state is MoveState.OPEN:
            await payments.close_move(tx, move, MoveState.WITHDRAWN, by=actor.user, answer=None)
            await audit.record(tx, actor, owner, "credits.move_withdrawn", move.id, amount_nanos=move.amount)
    left = await ledger.balance(tx, owner)
    if not left.total:
        return
    if not gives_up:
        raise InvalidField("credits", f"Say that you give up {format_exact(left.total)} of credits, or use them first.")
    if left.leased or left.held:
        raise CreditsInUse(
            f"{format_exact(left.leased + left.held)} is reserved for requests that run.",
            remedy="Disable your personal keys and wait until the requests end; then try again. Nothing was changed.",
        )
    await ledger.write_off(tx, owner, left.unleased, reason="The account was deleted.", by=actor.user)
    await audit.record(tx, actor, owner, "credits.given_up", owner, amount_nanos=left.unleased)


def _names(found: Sequence[Organization]) -> str:
    return ", ".join(each.name for each in found)
