"""Invitations: an organization's key invites, sends again and revokes; a personal account's key sees what waits for the person and answers."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from bursar import actions, identity, organizations, reports
from bursar.access import Role
from bursar.actions import Invited, Then
from bursar.api import _schemas
from bursar.api._answers import json_answer, time_text
from bursar.api._describe import MANAGEMENT_ONLY, answers
from bursar.api._door import Manager
from bursar.api._once import Asked, IdempotencyKey, once
from bursar.api._organizations import TEXT_CHARACTERS_MAX, RoleName, organization_of, person_of
from bursar.api._schemas import Strict, example
from bursar.kernel.ids import InvitationId, is_id, is_personal
from bursar.organizations import BY_OPERATOR, Invitation, NoSuchInvitation
from bursar.storage import SYSTEM, Database, Scope, Snapshot

ADDRESSES_MAX = 50
InvitationPath = Annotated[str, Path(description="`id` of the invitation.")]


class NewInvitations(Strict):
    emails: list[Annotated[str, Field(max_length=TEXT_CHARACTERS_MAX)]] = Field(
        min_length=1, max_length=ADDRESSES_MAX, description="Each gets an invitation of its own."
    )
    role: RoleName = "member"

    model_config = example({"emails": ["sam@acme.example", "pia@acme.example"], "role": "member"})


def router(database: Database, managed: Any, public_url: str) -> APIRouter:
    routes = APIRouter(tags=["Invitations"])
    _inviting(routes, database, managed, public_url)
    _answering(routes, database, managed)
    return routes


def _inviting(routes: APIRouter, database: Database, managed: Any, public_url: str) -> None:
    @routes.get(
        "/invitations",
        summary="List invitations",
        operation_id="listInvitations",
        responses=answers(_schemas.InvitationsAnswer, 401, 403, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def list_invitations(manager: Manager = managed) -> Response:
        """Of an organization's key: those that wait or have expired. Of a personal account's key: those that wait for the person's own
        verified address, newest first."""
        if is_personal(manager.owner):
            return json_answer({"data": await _waiting(database, manager)})
        async with database.snapshot(Scope(manager.owner)) as snapshot:
            organization = organization_of(manager)
            name = (await organizations.get_organization(snapshot, organization)).name
            found = await organizations.list_pending(snapshot, organization)
        return json_answer({"data": [_invitation(each, name) for each in found]})

    @routes.post(
        "/invitations",
        summary="Invite people",
        operation_id="createInvitations",
        status_code=201,
        responses=answers(_schemas.InvitedAnswer, 400, 401, 403, 404, 409, 503, status=201),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def create_invitations(
        request: Request, body: NewInvitations, idempotency_key: IdempotencyKey = None, manager: Manager = managed
    ) -> Response:
        """Says of each address, in the order given, what became of it: one that cannot be invited keeps no other waiting. A link that works
        once goes to the address and is answered to nobody else. A pending invitation holds a seat for 7 days."""
        organization = organization_of(manager)

        async def do(then: Then[Sequence[Invited]]) -> None:
            await actions.invite_members(
                database,
                manager.actor,
                organization=organization,
                addresses=body.emails,
                role=Role(body.role),
                public_url=public_url,
                then=then,
            )

        async def told(tx: Snapshot, made: Sequence[Invited]) -> dict[str, Any]:
            name = (await organizations.get_organization(tx, organization)).name
            return {"data": [_invited(each, name) for each in made]}

        return await once(Asked(request, database, manager, idempotency_key, body), do, told)

    @routes.post(
        "/invitations/{invitation_id}/resend",
        summary="Send an invitation again",
        operation_id="resendInvitation",
        responses=answers(_schemas.InvitationAnswer, 401, 403, 404, 409, 429, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def resend_invitation(invitation_id: InvitationPath, manager: Manager = managed) -> Response:
        """With a new link, good for 7 days; the old one is dead. Not twice within 5 minutes: 429."""
        organization = organization_of(manager)
        sent = await actions.resend_invitation(
            database,
            manager.actor,
            organization=organization,
            invitation=_invitation_id(invitation_id),
            public_url=public_url,
        )
        async with database.snapshot(Scope(manager.owner)) as snapshot:
            name = (await organizations.get_organization(snapshot, organization)).name
        return json_answer({"data": _invitation(sent, name)})

    @routes.delete(
        "/invitations/{invitation_id}",
        summary="Revoke an invitation",
        operation_id="deleteInvitation",
        responses=answers(_schemas.DeletedAnswer, 401, 403, 404, 409, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def delete_invitation(invitation_id: InvitationPath, manager: Manager = managed) -> Response:
        """Its link is dead and its seat free. 409 for one that was answered already."""
        organization = organization_of(manager)
        await actions.revoke_invitation(
            database, manager.actor, organization=organization, invitation=_invitation_id(invitation_id)
        )
        return json_answer({"deleted": True})


def _answering(routes: APIRouter, database: Database, managed: Any) -> None:
    @routes.post(
        "/invitations/{invitation_id}/accept",
        summary="Accept an invitation to oneself",
        operation_id="acceptInvitation",
        responses=answers(_schemas.JoinedAnswer, 401, 403, 404, 409, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def accept_invitation(invitation_id: InvitationPath, manager: Manager = managed) -> Response:
        """With a management key of the personal account whose verified address is invited."""
        person_of(manager)
        joined = await actions.accept_waiting_invitation(
            database, manager.actor, invitation=_invitation_id(invitation_id)
        )
        return json_answer(
            {
                "data": {
                    "organization_id": joined.organization.id,
                    "name": joined.organization.name,
                    "slug": joined.organization.slug,
                    "role": joined.role.value,
                }
            }
        )

    @routes.post(
        "/invitations/{invitation_id}/decline",
        summary="Decline an invitation to oneself",
        operation_id="declineInvitation",
        responses=answers(_schemas.DeclinedAnswer, 401, 403, 404, 409, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def decline_invitation(invitation_id: InvitationPath, manager: Manager = managed) -> Response:
        """With a management key of the personal account whose verified address is invited."""
        person_of(manager)
        await actions.decline_waiting_invitation(database, manager.actor, invitation=_invitation_id(invitation_id))
        return json_answer({"declined": True})


def _invitation_id(text: str) -> InvitationId:
    if not is_id(text, "inv"):
        raise NoSuchInvitation("There is no such invitation here.", remedy="GET /api/v1/invitations lists them.")
    return InvitationId(text)


async def _waiting(database: Database, manager: Manager) -> list[dict[str, Any]]:
    async with database.snapshot(SYSTEM) as snapshot:
        person = await identity.get_user(snapshot, manager.user)
        found = await reports.waiting_invitations(snapshot, person)
    return [_invitation(each.invitation, each.organization) for each in found]


def _invitation(found: Invitation, organization: str) -> dict[str, Any]:
    return {
        "id": found.id,
        "organization_id": found.organization,
        "organization_name": organization,
        "email": found.email,
        "role": found.role.value,
        "state": found.state.value,
        "invited_by_user_id": None if found.invited_by == BY_OPERATOR else found.invited_by,
        "created_at": time_text(found.created_at),
        "sent_at": time_text(found.sent_at),
        "expires_at": time_text(found.expires_at),
    }


def _invited(each: Invited, organization: str) -> dict[str, Any]:
    return {
        "email": each.address,
        "outcome": each.outcome.value,
        "message": each.text or None,
        "invitation": None if each.invitation is None else _invitation(each.invitation, organization),
    }
