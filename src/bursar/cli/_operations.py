"""What an operator scripts with: each operation is one action, by name, with plain JSON in and out.

A command runs its operation in the server that holds the data directory, or by itself when there is none (`_socket.py`).
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from bursar import actions, identity, keys, ledger, organizations, reports
from bursar.access import Actor, Role
from bursar.app import Installation
from bursar.cli._output import InvalidOption
from bursar.kernel.errors import BursarError
from bursar.kernel.ids import CreditMoveId, OrganizationId, OwnerId, is_id
from bursar.kernel.money import Nanos, format_exact, parse_credits
from bursar.keys import KeyKind
from bursar.ledger import Correction
from bursar.storage import SYSTEM

Operation = Callable[..., Awaitable[dict[str, Any]]]

OPERATOR = Actor.operator()


class NoSuchOperation(BursarError):
    """The server that runs is of another version."""

    status = 400


async def add_user(
    installation: Installation, *, email: str, name: str, verified: bool, operator: bool
) -> dict[str, Any]:
    user, url = await actions.add_user(
        installation.database,
        OPERATOR,
        email=email,
        name=name,
        public_url=installation.public_url,
        verified=verified,
        is_operator=operator,
    )
    return {"id": user.id, "email": user.email, "set_password_url": url}


async def reset_user(installation: Installation, *, email: str) -> dict[str, Any]:
    user, url = await actions.reset_user(
        installation.database, OPERATOR, email=email, public_url=installation.public_url
    )
    return {"id": user.id, "email": user.email, "set_password_url": url}


async def reset_second_factor(installation: Installation, *, email: str) -> dict[str, Any]:
    user = await actions.reset_second_factor(installation.database, OPERATOR, email=email)
    return {"id": user.id, "email": user.email, "second_factor": False}


async def sign_out_user(installation: Installation, *, email: str) -> dict[str, Any]:
    user, count = await actions.sign_out_user(installation.database, OPERATOR, email=email)
    return {"id": user.id, "email": user.email, "sessions_ended": count}


async def list_users(installation: Installation) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        users = await identity.list_users(snapshot)
    return {
        "users": [
            {
                "id": user.id,
                "email": user.email,
                "name": user.name,
                "verified": user.is_verified,
                "operator": user.is_operator,
            }
            for user in users
        ]
    }


async def add_organization(installation: Installation, *, name: str, slug: str, admin: str) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        creator = await identity.get_by_email(snapshot, admin)
    organization = await actions.create_organization(
        installation.database, OPERATOR, creator=creator.id, name=name, slug=slug or organizations.slug_from(name)
    )
    return {"id": organization.id, "slug": organization.slug, "name": organization.name}


async def list_organizations(installation: Installation) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await organizations.list_organizations(snapshot)
        members = {each.id: len(await organizations.list_members(snapshot, each.id)) for each in found}
    return {
        "organizations": [
            {"id": each.id, "slug": each.slug, "name": each.name, "members": members[each.id], "seats": each.seats_max}
            for each in found
        ]
    }


async def set_seats(installation: Installation, *, organization: str, seats: int) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await organizations.get_by_slug(snapshot, organization)
    changed = await actions.set_seats(installation.database, OPERATOR, organization=found.id, seats=seats)
    return {"id": changed.id, "slug": changed.slug, "seats": changed.seats_max}


async def settle_organization(
    installation: Installation,
    *,
    organization: str,
    to_organization: str | None,
    to_user: str | None,
    write_off: bool,
    reason: str,
) -> dict[str, Any]:
    """An id names also an organization that was deleted."""
    if sum((to_organization is not None, to_user is not None, write_off)) != 1:
        raise InvalidOption(
            "Say what becomes of the credits.", remedy="Use one of --to-organization, --to-user and --write-off."
        )
    if is_id(organization, "org"):
        settled = OrganizationId(organization)
    else:
        async with installation.database.snapshot(SYSTEM) as snapshot:
            settled = (await organizations.get_by_slug(snapshot, organization)).id
    to = None if write_off else await _owner(installation, to_organization, to_user)
    amount = await actions.settle_organization(
        installation.database, OPERATOR, organization=settled, to=to, reason=reason
    )
    return {
        "organization": settled,
        "to": to_organization or to_user,
        "amount_nanos": amount,
        "amount": format_exact(amount),
    }


async def list_moves(installation: Installation, *, answered: bool) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        return {"moves": [_move(row) for row in await reports.moves_to_answer(snapshot, is_open=not answered)]}


async def answer_move(installation: Installation, *, move: str, answer: str, note: str) -> dict[str, Any]:
    answers = {"carry_out": actions.Answer.CARRY_OUT, "refuse": actions.Answer.REFUSE}
    closed = await actions.answer_credit_move(
        installation.database, OPERATOR, move=CreditMoveId(move), answer=answers[answer], note=note
    )
    async with installation.database.snapshot(SYSTEM) as snapshot:
        return _move((await reports.move_rows(snapshot, [closed]))[0])


def _move(row: reports.MoveRow) -> dict[str, Any]:
    return {
        "move": row.move.id,
        "from": None if row.person is None else row.person.email,
        "organization": row.organization_slug or row.organization_name,
        "amount_nanos": row.move.amount,
        "amount": format_exact(row.move.amount),
        "note": row.move.note,
        "state": row.move.state.value,
        "answer": row.move.answer,
    }


async def add_member(installation: Installation, *, organization: str, email: str, role: str) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await organizations.get_by_slug(snapshot, organization)
        user = await identity.get_by_email(snapshot, email)
    await actions.add_member(installation.database, OPERATOR, organization=found.id, user=user.id, role=_role(role))
    return {
        "organization": {"id": found.id, "slug": found.slug},
        "user": {"id": user.id, "email": user.email},
        "role": role,
    }


async def list_members(installation: Installation, *, organization: str) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await organizations.get_by_slug(snapshot, organization)
        listed = await reports.members_of(snapshot, found.id)
    return {
        "organization": {"id": found.id, "slug": found.slug},
        "seats": {"taken": listed.seats.taken, "maximum": listed.seats.maximum},
        "members": [
            {
                "id": row.person.id,
                "email": row.person.email,
                "name": row.person.name,
                "role": row.role.value,
                "since": row.since.isoformat(),
            }
            for row in listed.members
        ],
        "invitations": [
            {
                "id": row.invitation.id,
                "email": row.invitation.email,
                "role": row.invitation.role.value,
                "state": row.invitation.state.value,
                "expires_at": row.invitation.expires_at.isoformat(),
            }
            for row in listed.invitations
        ],
    }


async def invite_members(installation: Installation, *, organization: str, addresses: str, role: str) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await organizations.get_by_slug(snapshot, organization)
    answers = await actions.invite_members(
        installation.database,
        OPERATOR,
        organization=found.id,
        addresses=actions.addresses_in(addresses),
        role=_role(role),
        public_url=installation.public_url,
    )
    return {
        "organization": {"id": found.id, "slug": found.slug},
        "invitations": [
            {
                "email": each.address,
                "outcome": each.outcome.value,
                "text": each.text,
                "id": None if each.invitation is None else each.invitation.id,
            }
            for each in answers
        ],
    }


async def revoke_invitation(installation: Installation, *, organization: str, email: str) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await organizations.get_by_slug(snapshot, organization)
        invitation = await organizations.find_pending(snapshot, found.id, identity.normalize_email(email))
    if invitation is None:
        raise InvalidOption(
            f"No invitation to {email} waits there.",
            remedy=f"`bursar members list --organization {organization}` shows what does.",
        )
    await actions.revoke_invitation(installation.database, OPERATOR, organization=found.id, invitation=invitation.id)
    return {"id": invitation.id, "email": invitation.email, "state": "revoked"}


async def change_role(installation: Installation, *, organization: str, email: str, role: str) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await organizations.get_by_slug(snapshot, organization)
        user = await identity.get_by_email(snapshot, email)
    changed = await actions.change_role(
        installation.database,
        OPERATOR,
        organization=found.id,
        member=user.id,
        role=_role(role),
        public_url=installation.public_url,
    )
    return {"user": {"id": user.id, "email": user.email}, "role": changed.role.value}


async def remove_member(installation: Installation, *, organization: str, email: str) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await organizations.get_by_slug(snapshot, organization)
        user = await identity.get_by_email(snapshot, email)
    gone = await actions.remove_member(
        installation.database, OPERATOR, organization=found.id, member=user.id, public_url=installation.public_url
    )
    return {
        "user": {"id": user.id, "email": user.email},
        "keys_disabled": [{"id": key.id, "name": key.name, "label": key.label} for key in gone.disabled],
    }


async def grant_credits(
    installation: Installation,
    *,
    organization: str | None,
    email: str | None,
    amount: str,
    reason: str,
    transfer: str | None,
) -> dict[str, Any]:
    nanos = _positive(amount)
    owner = await _owner(installation, organization, email)
    name = await actions.grant_credits(
        installation.database, OPERATOR, owner=owner, amount=nanos, reason=reason, transfer_id=transfer
    )
    return {"owner": owner, "transfer": name, "amount_nanos": nanos, "amount": format_exact(nanos)}


async def propose_correction(
    installation: Installation,
    *,
    organization: str | None,
    email: str | None,
    transfer: str,
    amount: str | None,
    reason: str,
    operator: str,
) -> dict[str, Any]:
    made = await actions.propose_correction(
        installation.database,
        owner=await _owner(installation, organization, email),
        transfer=transfer,
        amount=None if amount is None else _positive(amount),
        reason=reason,
        operator=operator,
    )
    return _correction(made)


async def confirm_correction(
    installation: Installation, *, correction: str, operator: str, alone: bool
) -> dict[str, Any]:
    posted = await actions.confirm_correction(
        installation.database, correction=correction, operator=operator, alone=alone
    )
    return {
        "correction": posted.id,
        "owner": posted.owner,
        "corrects": posted.reference,
        "from": posted.debit.value,
        "to": posted.credit.value,
        "amount_nanos": posted.amount,
        "amount": format_exact(posted.amount),
    }


async def withdraw_correction(installation: Installation, *, correction: str, operator: str) -> dict[str, Any]:
    return _correction(
        await actions.withdraw_correction(installation.database, correction=correction, operator=operator)
    )


async def list_corrections(installation: Installation) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        return {"corrections": [_correction(each) for each in await ledger.list_corrections(snapshot)]}


def _correction(made: Correction) -> dict[str, Any]:
    return {
        "correction": made.id,
        "owner": made.owner,
        "corrects": made.corrects,
        "amount_nanos": made.amount,
        "amount": format_exact(made.amount),
        "reason": made.reason,
        "state": made.state.value,
        "proposed_by": made.proposed_by,
        "decided_by": made.decided_by,
    }


async def add_key(
    installation: Installation,
    *,
    organization: str | None,
    email: str,
    name: str,
    management: bool,
    expires_at: str | None = None,
) -> dict[str, Any]:
    """A key that `email` counts as the creator of, billed to the organization, or to the person without one."""
    async with installation.database.snapshot(SYSTEM) as snapshot:
        creator = await identity.get_by_email(snapshot, email)
        if organization is not None:
            found = await organizations.get_by_slug(snapshot, organization)
            await actions.require_own_address(snapshot, creator.id)
            if await organizations.find_role(snapshot, found.id, creator.id) is None:
                raise InvalidOption(
                    f"{email} is not a member of {organization}.", remedy="Add them with: bursar members add"
                )
    key, plaintext = await actions.create_key(
        installation.database,
        installation.checker,
        OPERATOR,
        owner=await _owner(installation, organization, email),
        creator=creator.id,
        name=name,
        kind=KeyKind.MANAGEMENT if management else KeyKind.INFERENCE,
        expires_at=None if expires_at is None else _moment(expires_at),
    )
    return {"id": key.id, "hash": key.hash, "name": key.name, "kind": key.kind.value, "key": plaintext}


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidOption(f"--expires-at {text[:40]} is no moment.", remedy="Write it like 2027-01-31T00:00:00Z.")
    return moment.astimezone(UTC)


async def disable_key(installation: Installation, *, key_hash: str, disabled: bool = True) -> dict[str, Any]:
    found = await _key(installation, key_hash)
    await actions.set_key_disabled(installation.database, OPERATOR, owner=found.owner, key=found.id, disabled=disabled)
    heard = await _heard(installation) if disabled else {}
    return {"id": found.id, "hash": found.hash, "disabled": disabled, **heard}


async def rotate_key(installation: Installation, *, key_hash: str, grace_seconds: int) -> dict[str, Any]:
    found = await _key(installation, key_hash)
    key, plaintext = await actions.rotate_key(
        installation.database,
        installation.checker,
        OPERATOR,
        owner=found.owner,
        key=found.id,
        grace=timedelta(seconds=grace_seconds),
    )
    until = None if key.previous_until is None else key.previous_until.isoformat()
    told = {"id": key.id, "hash": key.hash, "name": key.name, "kind": key.kind.value, "key": plaintext}
    return {**told, "previous_until": until, **await _heard(installation)}


async def delete_key(installation: Installation, *, key_hash: str) -> dict[str, Any]:
    found = await _key(installation, key_hash)
    await actions.delete_key(installation.database, OPERATOR, owner=found.owner, key=found.id)
    return {"id": found.id, "hash": found.hash, "deleted": True, **await _heard(installation)}


async def _key(installation: Installation, key_hash: str) -> keys.Key:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await keys.find_by_hash(snapshot, key_hash)
    if found is None or found.deleted_at is not None:
        raise keys.NoSuchKey("No key has this hash.", remedy="`bursar keys add --json` shows a key's hash.")
    return found


async def _heard(installation: Installation) -> dict[str, Any]:
    heard = await actions.ask_who_heard(installation.database)
    return {"acknowledged": heard.everywhere, "acknowledged_by": heard.by, "workers": heard.of}


async def list_nodes(installation: Installation) -> dict[str, Any]:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        found = await reports.list_nodes(snapshot)
    return {
        "nodes": [
            {
                "id": node.id,
                "host": node.host,
                "this": node.id == installation.database.node,
                "seen_seconds_ago": node.seen_seconds_ago,
                "workers": [
                    {
                        "id": worker.id,
                        "state": worker.state,
                        "leases": {
                            "owners": worker.owners,
                            "amount_nanos": worker.leased,
                            "amount": format_exact(worker.leased),
                        },
                        "watermark_lag": worker.lag,
                    }
                    for worker in node.workers
                ],
            }
            for node in found
        ]
    }


async def forget_node(installation: Installation, *, node: str, confirmed: bool) -> dict[str, Any]:
    """Not `confirmed`: only tells what would return to whom."""
    if confirmed:
        found = await actions.forget_node(installation.database, OPERATOR, node)
    else:
        found = await actions.look_at_node(installation.database, node)
    return {
        "node": node,
        "forgotten": confirmed,
        "workers": [worker.id for worker in found.workers],
        "returns": [
            {
                "owner": each.owner,
                "leased_nanos": each.leased,
                "held_nanos": each.held,
                "requests": each.requests,
                "amount": format_exact(Nanos(each.leased + each.held)),
            }
            for each in found.returns
        ],
    }


OPERATIONS: dict[str, Operation] = {
    "nodes.list": list_nodes,
    "nodes.forget": forget_node,
    "users.add": add_user,
    "users.reset": reset_user,
    "users.reset_second_factor": reset_second_factor,
    "users.sign_out": sign_out_user,
    "users.list": list_users,
    "organizations.add": add_organization,
    "organizations.list": list_organizations,
    "organizations.seats": set_seats,
    "organizations.settle": settle_organization,
    "members.add": add_member,
    "members.list": list_members,
    "members.invite": invite_members,
    "members.revoke": revoke_invitation,
    "members.role": change_role,
    "members.remove": remove_member,
    "credits.grant": grant_credits,
    "credits.moves.list": list_moves,
    "credits.moves.answer": answer_move,
    "ledger.correct": propose_correction,
    "ledger.confirm": confirm_correction,
    "ledger.withdraw": withdraw_correction,
    "ledger.corrections": list_corrections,
    "keys.add": add_key,
    "keys.delete": delete_key,
    "keys.disable": disable_key,
    "keys.rotate": rotate_key,
}


async def operate(installation: Installation, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Raises whatever the action refuses with."""
    operation = OPERATIONS.get(name)
    if operation is None:
        raise NoSuchOperation(
            f"The running server does not know {name}.", remedy="Restart it with this version of Bursar."
        )
    return await operation(installation, **arguments)


async def _owner(installation: Installation, organization: str | None, email: str | None) -> OwnerId:
    async with installation.database.snapshot(SYSTEM) as snapshot:
        if organization is not None:
            return OwnerId(OrganizationId((await organizations.get_by_slug(snapshot, organization)).id))
        if email is not None:
            user = await identity.get_by_email(snapshot, email)
            await actions.require_own_address(snapshot, user.id)
            return OwnerId(user.id)
    raise InvalidOption("Say for whom.", remedy="Use --organization SLUG or --user E-MAIL.")


def _positive(amount: str) -> Nanos:
    try:
        nanos = parse_credits(amount)
    except ValueError as error:
        raise InvalidOption(f"The amount cannot be used: {error}.", remedy="Write it like 25 or 0.50.") from None
    if nanos <= 0:
        raise InvalidOption("The amount must be more than nothing.", remedy="Write an amount like 25 or 0.50.")
    return nanos


def _role(text: str) -> Role:
    if text not in ("admin", "member"):
        raise InvalidOption(f"There is no role {text}.", remedy="Use admin or member.")
    return Role(text)
