"""Members: everybody reads who is there; admins invite, change roles and remove; everybody can leave."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from bursar import actions, reports
from bursar.access import Permission, Role
from bursar.actions import Invited, InviteOutcome
from bursar.kernel.errors import Conflict, InvalidField, TooMany
from bursar.kernel.ids import InvitationId, UserId, is_id
from bursar.keys import Key
from bursar.organizations import InvitationState, LastAdminStays, NoSuchInvitation, NoSuchMember, Seats
from bursar.reports import InvitationRow, MemberRow
from bursar.web import step_up
from bursar.web._context import Visit
from bursar.web._pages import redirect, render
from bursar.web._told import ask_servers

LETTING_GO, TAKING_OVER = "disable", "hand_over"
"""What becomes of the keys of somebody who is removed."""


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def invite(visit: Visit) -> Response:
    """Whom it can; the rest stays in the box, with what is wrong beside it. Making somebody an admin asks for a proof first."""
    if _role(visit) is Role.ADMIN and (asked := await step_up.ask(visit)) is not None:
        return asked
    try:
        answers = await actions.invite_members(
            visit.site.parts.database,
            visit.actor,
            organization=visit.organization,
            addresses=actions.addresses_in(visit.form.get("addresses", "")),
            role=_role(visit),
            public_url=visit.site.parts.public_url,
        )
    except InvalidField as wrong:
        return await _page(visit, wrong.status, errors={wrong.field: wrong.sentence})
    if all(answer.outcome is InviteOutcome.INVITED for answer in answers):
        return redirect(visit, _here(visit), _said(answers))
    return await _page(visit, answers=answers)


async def resend(visit: Visit) -> Response:
    try:
        sent = await actions.resend_invitation(
            visit.site.parts.database,
            visit.actor,
            organization=visit.organization,
            invitation=_invitation_id(visit),
            public_url=visit.site.parts.public_url,
        )
    except (Conflict, TooMany) as refused:
        return redirect(visit, _here(visit), refused.in_full, "error")
    return redirect(
        visit, _here(visit), f"A new invitation is on its way to {sent.email}. The link sent before is dead."
    )


async def revoke(visit: Visit) -> Response:
    try:
        revoked = await actions.revoke_invitation(
            visit.site.parts.database,
            visit.actor,
            organization=visit.organization,
            invitation=_invitation_id(visit),
        )
    except Conflict as refused:
        return redirect(visit, _here(visit), refused.sentence, "error")
    return redirect(visit, _here(visit), f"The invitation of {revoked.email} is revoked, and its seat is free.")


async def show_role(visit: Visit) -> Response:
    return await _role_page(visit)


async def change_role(visit: Visit) -> Response:
    member = _user_id(visit)
    try:
        changed = await actions.change_role(
            visit.site.parts.database,
            visit.actor,
            organization=visit.organization,
            member=member,
            role=_role(visit),
            public_url=visit.site.parts.public_url,
        )
    except InvalidField as wrong:
        return await _role_page(visit, wrong.status, {wrong.field: wrong.sentence})
    except LastAdminStays as refused:
        return await _role_page(visit, refused.status, {"role": refused.in_full})
    name = "You are" if member == visit.user.id else f"{(await _one(visit))[0].person.name} is"
    return redirect(visit, _here(visit), f"{name} {changed.role.with_article} now.")


async def ask_remove(visit: Visit) -> Response:
    return await _remove_page(visit)


async def remove(visit: Visit) -> Response:
    choice = visit.form.get("keys", LETTING_GO)
    if choice not in (LETTING_GO, TAKING_OVER):
        return await _remove_page(visit, 400, {"keys": "Choose what becomes of the keys."})
    try:
        gone = await actions.remove_member(
            visit.site.parts.database,
            visit.actor,
            organization=visit.organization,
            member=_user_id(visit),
            hand_over_keys=choice == TAKING_OVER,
            public_url=visit.site.parts.public_url,
        )
    except Conflict as refused:
        return await _remove_page(visit, refused.status, {"form": refused.in_full})
    keys = ""
    if gone.handed_over:
        keys = f" You answer for {_count(len(gone.handed_over), 'key')} now: rotate {_them(gone.handed_over)}."
    elif gone.disabled:
        keys = f" {_count(len(gone.disabled), 'key')} of theirs {'is' if len(gone.disabled) == 1 else 'are'} disabled."
    where = f"{visit.base}/keys" if gone.handed_over else _here(visit)
    said, everywhere = await ask_servers(visit)
    message = f"{gone.user.name} is no longer a member.{keys} {said}".strip()
    return redirect(visit, where, message, "success" if everywhere else "info")


async def ask_leave(visit: Visit) -> Response:
    return await _leave_page(visit)


async def leave(visit: Visit) -> Response:
    name = visit.here.name
    try:
        await actions.leave_organization(
            visit.site.parts.database,
            visit.actor,
            organization=visit.organization,
            public_url=visit.site.parts.public_url,
        )
    except LastAdminStays as refused:
        return await _leave_page(visit, refused.status, {"form": refused.in_full})
    visit.entry = None  # the context that the URL names is theirs no more, so it is not the one to come back to
    return redirect(visit, "/personal/overview", f"You left {name}. Your personal account is as it was.", "success")


def _here(visit: Visit) -> str:
    return f"{visit.base}/members"


def _role(visit: Visit) -> Role:
    """The one that the form names; one that no organization has where it names none, which the action refuses."""
    role = visit.form.get("role", "")
    return Role(role) if role in set(Role) else Role.PERSONAL


def _user_id(visit: Visit) -> UserId:
    user = visit.path("user")
    if not is_id(user, "user"):
        raise NoSuchMember("There is no such member here.", remedy="Go back to the list of members.")
    return UserId(user)


def _invitation_id(visit: Visit) -> InvitationId:
    invitation = visit.path("invitation")
    if not is_id(invitation, "inv"):
        raise NoSuchInvitation("There is no such invitation here.", remedy="Go back to the list of members.")
    return InvitationId(invitation)


async def _one(visit: Visit) -> tuple[MemberRow, Sequence[Key]]:
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        return await reports.member_and_keys(snapshot, visit.organization, _user_id(visit))


async def _page(
    visit: Visit,
    status: int = 200,
    *,
    errors: dict[str, str] | None = None,
    answers: Sequence[Invited] = (),
) -> Response:
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        found = await reports.members_of(snapshot, visit.organization)
    manages = visit.may(Permission.MANAGE_MEMBERS)
    left = [answer for answer in answers if answer.outcome is not InviteOutcome.INVITED]
    typed = "\n".join(answer.address for answer in left) if answers else visit.form.get("addresses", "")
    return render(
        visit,
        "members.html",
        status=status,
        can_manage=manages,
        seats=_seats(found.seats),
        members=[_member(visit, row) for row in found.members],
        invitations=[_invitation(row) for row in found.invitations] if manages else [],
        form={"addresses": typed, "role": visit.form.get("role", Role.MEMBER.value)},
        errors=errors or {},
        invited=_said(answers) if len(left) < len(answers) else None,
        not_invited=[{"address": answer.address, "text": answer.text} for answer in left],
        mail_delivers=visit.site.parts.mail_delivers,
    )


def _seats(seats: Seats) -> dict[str, Any]:
    return {
        "taken": seats.taken,
        "members": seats.members,
        "pending": seats.pending,
        "maximum": seats.maximum,
        "percent": min(100, seats.taken * 100 // seats.maximum) if seats.maximum else 100,
        "free": seats.free,
    }


def _member(visit: Visit, row: MemberRow) -> dict[str, Any]:
    return {
        "id": row.person.id,
        "name": row.person.name,
        "email": row.person.email,
        "role": row.role.value,
        "since": row.since,
        "is_you": row.person.id == visit.user.id,
    }


def _invitation(row: InvitationRow) -> dict[str, Any]:
    invitation = row.invitation
    return {
        "id": invitation.id,
        "email": invitation.email,
        "role": invitation.role.value,
        "inviter": row.inviter,
        "counts": row.counts,
        "sent_at": invitation.sent_at,
        "expires_at": invitation.expires_at,
        "expired": invitation.state is InvitationState.EXPIRED,
    }


async def _role_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    row, made = await _one(visit)
    return render(
        visit,
        "member_role.html",
        status=status,
        member=_member(visit, row),
        management_keys=[key.name for key in made if key.kind == "management" and key.disabled_at is None],
        role=visit.form.get("role", row.role.value),
        errors=errors or {},
    )


async def _remove_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    row, made = await _one(visit)
    if row.person.id == visit.user.id:
        return redirect(visit, f"{visit.base}/leave")
    return render(
        visit,
        "member_remove.html",
        status=status,
        member=_member(visit, row),
        keys=[_key(key) for key in made],
        working=sum(key.disabled_at is None for key in made),
        choice=visit.form.get("keys", LETTING_GO),
        errors=errors or {},
    )


async def _leave_page(visit: Visit, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    organization = visit.organization
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        _, made = await reports.member_and_keys(snapshot, organization, visit.user.id)
        found = await reports.members_of(snapshot, organization)
    others = [row for row in found.members if row.person.id != visit.user.id]
    is_last_admin = visit.here.context.role is Role.ADMIN and not any(row.role is Role.ADMIN for row in others)
    return render(
        visit,
        "leave.html",
        status=status,
        keys=[_key(key) for key in made if key.disabled_at is None],
        stays=("alone" if not others else "last_admin") if is_last_admin else None,
        errors=errors or {},
    )


def _key(key: Key) -> dict[str, Any]:
    return {
        "name": key.name,
        "label": key.label,
        "kind": key.kind.value,
        "last_used_at": key.last_used_at,
        "disabled": key.disabled_at is not None,
    }


def _said(answers: Sequence[Invited]) -> str:
    invited = [answer.address for answer in answers if answer.outcome is InviteOutcome.INVITED]
    if len(invited) == 1:
        return f"The invitation to {invited[0]} is on its way."
    return f"{len(invited)} invitations are on their way."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _them(some: Sequence[object]) -> str:
    return "it" if len(some) == 1 else "them"
