"""Organizations and who belongs to them. `/organization/members` and `/organization/settings` are OpenRouter's; the rest is our own:
OpenRouter has no API for it.

A management key of a personal account creates organizations and lists the person's. One of an organization manages that one, with the
present rights of the admin who created it; what it is not about answers as if it did not exist.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from bursar import actions, organizations, reports
from bursar.access import Role
from bursar.actions import Departure, Then
from bursar.api import _schemas
from bursar.api._answers import NothingToUpdate, acknowledged, json_answer, time_text
from bursar.api._describe import MANAGEMENT_ONLY, Offset, answers
from bursar.api._door import Manager
from bursar.api._once import Asked, IdempotencyKey, once
from bursar.api._schemas import Strict, example
from bursar.kernel.errors import Forbidden, NotFound
from bursar.kernel.ids import OrganizationId, UserId, is_id, is_personal
from bursar.keys import Key
from bursar.organizations import NoSuchMember, NoSuchOrganization, Organization, slug_from
from bursar.reports import MemberRow
from bursar.storage import SYSTEM, Database, Scope, Snapshot

PAGE_MEMBERS_MAX = 100
PAGE_MEMBERS = 50
TEXT_CHARACTERS_MAX = 254

OrganizationName = Annotated[str, Field(min_length=1, max_length=80)]
Slug = Annotated[str, Field(min_length=2, max_length=48, description="Its name in URLs, like `acme-robotics`.")]
OrganizationPath = Annotated[str, Path(description="`id` of the organization.")]
MembersAtOnce = Annotated[int, Query(ge=1, le=PAGE_MEMBERS_MAX)]
UserPath = Annotated[str, Path(description="`user_id` of the member.")]
RoleName = Literal["admin", "member"]


class NewOrganization(Strict):
    name: OrganizationName
    slug: Slug | None = Field(None, description="Made of the name where it is left out.")

    model_config = example({"name": "Acme Robotics", "slug": "acme-robotics"})


class OrganizationUpdate(Strict):
    name: OrganizationName | None = None
    slug: Slug | None = None
    billing_email: Annotated[str, Field(max_length=TEXT_CHARACTERS_MAX)] | None = Field(
        None, description="Whom to write to about money; null: all admins."
    )

    model_config = example({"name": "Acme Robotics GmbH", "billing_email": "billing@acme.example"})


class RoleUpdate(Strict):
    role: RoleName

    model_config = example({"role": "admin"})


class SettingsUpdate(Strict):
    is_filtered_model_catalog_enabled: bool

    model_config = example({"is_filtered_model_catalog_enabled": True})


class NotAnOrganization(NotFound):
    """The management key belongs to a personal account."""


class PersonalKeyNeeded(Forbidden):
    """What a person does for themselves needs a management key of their personal account."""


def organization_of(manager: Manager) -> OrganizationId:
    """Raises `NotAnOrganization`."""
    if is_personal(manager.owner):
        raise NotAnOrganization(
            "This management key belongs to a personal account, which is not an organization.",
            remedy="Use a management key of the organization.",
        )
    return OrganizationId(manager.owner)


def person_of(manager: Manager) -> UserId:
    """Raises `PersonalKeyNeeded`."""
    if not is_personal(manager.owner):
        raise PersonalKeyNeeded(
            "A management key of an organization does nothing for a person.",
            remedy="Use a management key of the personal account.",
        )
    return manager.user


def router(database: Database, managed: Any, public_url: str) -> APIRouter:
    routes = APIRouter(tags=["Organizations"])
    _finding(routes, database, managed)
    _changing(routes, database, managed)
    _memberships(routes, database, managed, public_url)
    _openrouters(routes, database, managed)
    return routes


def _finding(routes: APIRouter, database: Database, managed: Any) -> None:
    @routes.get(
        "/organizations",
        summary="List organizations",
        operation_id="listOrganizations",
        responses=answers(_schemas.OrganizationsAnswer, 401, 403, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def list_organizations(manager: Manager = managed) -> Response:
        """Of a personal account's key: all that the person is in, by name. Of an organization's key: that one."""
        async with database.snapshot(SYSTEM) as snapshot:
            return json_answer({"data": [await _told(snapshot, *each) for each in await _mine(snapshot, manager)]})

    @routes.post(
        "/organizations",
        summary="Create an organization",
        operation_id="createOrganization",
        status_code=201,
        responses=answers(_schemas.OrganizationAnswer, 400, 401, 403, 409, 503, status=201),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def create_organization(
        request: Request, body: NewOrganization, idempotency_key: IdempotencyKey = None, manager: Manager = managed
    ) -> Response:
        """With a management key of the personal account of whoever becomes its first admin; their address must be verified. It is managed
        with a management key of its own, which is created on its page API keys."""
        creator = person_of(manager)

        async def do(then: Then[Organization]) -> None:
            await actions.create_organization(
                database,
                manager.actor,
                creator=creator,
                name=body.name,
                slug=body.slug if body.slug is not None else slug_from(body.name),
                then=then,
            )

        async def told(tx: Snapshot, made: Organization) -> dict[str, Any]:
            return {"data": await _told(tx, made, Role.ADMIN)}

        return await once(Asked(request, database, manager, idempotency_key, body), do, told)

    @routes.get(
        "/organizations/{organization_id}",
        summary="One organization",
        operation_id="getOrganization",
        responses=answers(_schemas.OrganizationAnswer, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def get_organization(organization_id: OrganizationPath, manager: Manager = managed) -> Response:
        async with database.snapshot(SYSTEM) as snapshot:
            for found, role in await _mine(snapshot, manager):
                if found.id == organization_id:
                    return json_answer({"data": await _told(snapshot, found, role)})
        raise _no_such_organization()


def _changing(routes: APIRouter, database: Database, managed: Any) -> None:
    @routes.patch(
        "/organizations/{organization_id}",
        summary="Change an organization",
        operation_id="updateOrganization",
        responses=answers(_schemas.OrganizationAnswer, 400, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def update_organization(
        organization_id: OrganizationPath, body: OrganizationUpdate, manager: Manager = managed
    ) -> Response:
        """Only what is named changes. With another slug its pages have other addresses; keys and ids stay."""
        organization = _own(manager, organization_id)
        if not body.model_fields_set:
            raise NothingToUpdate("No update fields provided.", remedy="Name at least one field that can be changed.")
        address = (body.billing_email or "") if "billing_email" in body.model_fields_set else None
        await actions.update_organization(
            database,
            manager.actor,
            organization=organization,
            name=body.name,
            slug=body.slug,
            billing_email=address,
        )
        async with database.snapshot(SYSTEM) as snapshot:
            found = await organizations.get_organization(snapshot, organization)
            return json_answer({"data": await _told(snapshot, found, Role.ADMIN)})

    @routes.delete(
        "/organizations/{organization_id}",
        summary="Delete an organization",
        operation_id="deleteOrganization",
        responses=answers(_schemas.DeletedAnswer, 400, 401, 403, 404, 409, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def delete_organization(
        organization_id: OrganizationPath,
        confirmation: Annotated[
            str,
            Query(
                max_length=TEXT_CHARACTERS_MAX, description="The organization's slug, so that nothing else is deleted."
            ),
        ],
        manager: Manager = managed,
    ) -> Response:
        """For good, with its memberships, invitations and keys, the one that asks included. 409 while it has credits: use them up, or let the
        operator settle them. Its ledger, activity and audit log are kept."""
        organization = _own(manager, organization_id)
        await actions.delete_organization(database, manager.actor, organization=organization, confirmation=confirmation)
        return json_answer({"deleted": True})


def _memberships(routes: APIRouter, database: Database, managed: Any, public_url: str) -> None:
    @routes.get(
        "/memberships",
        summary="List the members with their roles",
        operation_id="listMemberships",
        responses=answers(_schemas.MembershipsAnswer, 400, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def list_memberships(
        offset: Offset = 0, limit: MembersAtOnce = PAGE_MEMBERS, manager: Manager = managed
    ) -> Response:
        """Longest first. 404 for a personal account's key."""
        return _page_of(await _members(database, manager), offset, limit, _membership)

    @routes.patch(
        "/memberships/{user_id}",
        summary="Change a member's role",
        operation_id="updateMembership",
        responses=answers(_schemas.MembershipAnswer, 400, 401, 403, 404, 409, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def update_membership(user_id: UserPath, body: RoleUpdate, manager: Manager = managed) -> Response:
        """In force at once, everywhere. Who becomes a member loses the management keys they made. The last admin stays one: 409."""
        organization = organization_of(manager)
        await actions.change_role(
            database,
            manager.actor,
            organization=organization,
            member=_member(user_id),
            role=Role(body.role),
            public_url=public_url,
        )
        async with database.snapshot(Scope(manager.owner)) as snapshot:
            row, _ = await reports.member_and_keys(snapshot, organization, _member(user_id))
        return json_answer({"data": _membership(row)})

    @routes.delete(
        "/memberships/{user_id}",
        summary="Remove a member",
        operation_id="deleteMembership",
        responses=answers(_schemas.DepartureAnswer, 400, 401, 403, 404, 409, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def delete_membership(
        user_id: UserPath,
        keys: Annotated[
            Literal["disable", "hand_over"],
            Query(
                description="What becomes of the keys that they created. `hand_over`: to the admin who created this management key, who "
                "should rotate them, since the person knows their secrets."
            ),
        ] = "disable",
        manager: Manager = managed,
    ) -> Response:
        """In force at once, everywhere; what runs with a key that is disabled by it is cut. The admins are told by mail. Leaving is
        `POST /organization/leave`; the last admin stays: 409."""
        gone = await actions.remove_member(
            database,
            manager.actor,
            organization=organization_of(manager),
            member=_member(user_id),
            hand_over_keys=keys == "hand_over",
            public_url=public_url,
        )
        return json_answer({**_departure(gone), **await acknowledged(database)})

    @routes.post(
        "/organization/leave",
        summary="Leave the organization",
        operation_id="leaveOrganization",
        responses=answers(_schemas.DepartureAnswer, 401, 403, 404, 409, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def leave_organization(manager: Manager = managed) -> Response:
        """Whoever created the management key leaves: the keys they created stop at once, the one that asks included, and their personal
        account stays as it is. The last admin stays: 409."""
        organization = organization_of(manager)
        gone = await actions.leave_organization(
            database, manager.actor, organization=organization, public_url=public_url
        )
        return json_answer({**_departure(gone), **await acknowledged(database)})


def _openrouters(routes: APIRouter, database: Database, managed: Any) -> None:
    @routes.get(
        "/organization/members",
        summary="List the members, as OpenRouter does",
        operation_id="listOrganizationMembers",
        responses=answers(_schemas.OrganizationMembersAnswer, 400, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def list_organization_members(
        offset: Offset = 0, limit: MembersAtOnce = PAGE_MEMBERS, manager: Manager = managed
    ) -> Response:
        """Longest first. A name is one text here: its first word is `first_name`. 404 for a personal account's key."""
        return _page_of(await _members(database, manager), offset, limit, _openrouters_member)

    @routes.get(
        "/organization/settings",
        summary="The organization's settings",
        operation_id="getOrganizationSettings",
        responses=answers(_schemas.OrganizationSettingsAnswer, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def get_organization_settings(manager: Manager = managed) -> Response:
        """404 for a personal account's key."""
        organization = organization_of(manager)
        async with database.snapshot(Scope(manager.owner)) as snapshot:
            return json_answer(_settings(await organizations.get_organization(snapshot, organization)))

    @routes.patch(
        "/organization/settings",
        summary="Change the organization's settings",
        operation_id="updateOrganizationSettings",
        responses=answers(_schemas.OrganizationSettingsAnswer, 400, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def update_organization_settings(body: SettingsUpdate, manager: Manager = managed) -> Response:
        """Whether the organization's API keys list only those models that they may use, which until there are guardrails are all."""
        changed = await actions.update_organization(
            database,
            manager.actor,
            organization=organization_of(manager),
            is_catalog_filtered=body.is_filtered_model_catalog_enabled,
        )
        return json_answer(_settings(changed))


async def _mine(snapshot: Snapshot, manager: Manager) -> Sequence[tuple[Organization, Role]]:
    """What the key may know of, with the role of whoever created it. In system scope."""
    if is_personal(manager.owner):
        return await organizations.list_of_user(snapshot, manager.user)
    found = await organizations.get_organization(snapshot, OrganizationId(manager.owner))
    return [(found, Role.ADMIN)]


def _own(manager: Manager, organization_id: str) -> OrganizationId:
    """The key's organization, where the path names it. Raises `NoSuchOrganization`."""
    if organization_id != manager.owner:
        raise _no_such_organization()
    return OrganizationId(organization_id)


def _member(user_id: str) -> UserId:
    if not is_id(user_id, "user"):
        raise NoSuchMember("There is no such member here.", remedy="GET /api/v1/memberships lists them.")
    return UserId(user_id)


def _no_such_organization() -> NoSuchOrganization:
    return NoSuchOrganization(
        "There is no such organization here.", remedy="An organization is managed with a management key of its own."
    )


def _page_of(
    found: Sequence[MemberRow], offset: int, limit: int, tell: Callable[[MemberRow], dict[str, Any]]
) -> Response:
    data = [tell(row) for row in found[offset : offset + limit]]
    return json_answer({"data": data, "total_count": len(found)})


async def _members(database: Database, manager: Manager) -> Sequence[MemberRow]:
    organization = organization_of(manager)
    async with database.snapshot(Scope(manager.owner)) as snapshot:
        return (await reports.members_of(snapshot, organization)).members


async def _told(snapshot: Snapshot, found: Organization, role: Role) -> dict[str, Any]:
    seats = await organizations.count_seats(snapshot, found.id)
    return {
        "id": found.id,
        "name": found.name,
        "slug": found.slug,
        "billing_email": found.billing_email,
        "role": role.value,
        "seats": {"members": seats.members, "pending": seats.pending, "maximum": seats.maximum},
        "created_at": time_text(found.created_at),
    }


def _membership(row: MemberRow) -> dict[str, Any]:
    return {
        "user_id": row.person.id,
        "email": row.person.email,
        "name": row.person.name,
        "role": row.role.value,
        "since": time_text(row.since),
    }


def _openrouters_member(row: MemberRow) -> dict[str, Any]:
    first, _, last = row.person.name.partition(" ")
    return {
        "id": row.person.id,
        "email": row.person.email,
        "first_name": first or None,
        "last_name": last or None,
        "role": f"org:{row.role.value}",
    }


def _settings(found: Organization) -> dict[str, Any]:
    return {"data": {"id": found.id, "is_filtered_model_catalog_enabled": found.is_catalog_filtered}}


def _departure(gone: Departure) -> dict[str, Any]:
    return {
        "deleted": True,
        "user_id": gone.user.id,
        "keys_disabled": [_key(key) for key in gone.disabled],
        "keys_handed_over": [_key(key) for key in gone.handed_over],
        "keys_to_look_at": [_key(key) for key in gone.suspects],
    }


def _key(key: Key) -> dict[str, Any]:
    return {"hash": key.hash, "name": key.name, "label": key.label, "is_management_key": key.kind.value == "management"}
