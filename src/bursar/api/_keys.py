"""`/keys` with a management key, in OpenRouter's shape; and budgets of members and of the organization, which are our own."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from bursar import actions, keys, ledger, reports
from bursar.actions import Allowing, KeyChanges, Then, Unchanged
from bursar.api import _answers, _schemas
from bursar.api._answers import NothingToUpdate, json_answer
from bursar.api._describe import MANAGEMENT_ONLY, Offset, answers
from bursar.api._door import Manager
from bursar.api._once import Asked, IdempotencyKey, Secret, once
from bursar.api._schemas import Strict
from bursar.kernel.errors import NotFound
from bursar.kernel.ids import OwnerId, UserId
from bursar.kernel.money import Nanos, parse_credits
from bursar.keys import Key, KeyChecker, NoSuchKey
from bursar.ledger import Period
from bursar.storage import Database, Scope, Snapshot

PAGE_KEYS = 100
LIMIT_USD_MAX = 10**9
NAME_CHARACTERS_MAX = 100
GRACE_SECONDS_MAX = int(keys.GRACE_MAX.total_seconds())
GRACE_SECONDS_DEFAULT = 86_400

_NANO = Decimal("0.000000001")


def _number(value: Any) -> Any:
    """A JSON number as an exact decimal of the digits that were written; text is none."""
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


LimitUsd = Annotated[
    Annotated[Decimal, Field(ge=0, le=LIMIT_USD_MAX)] | None,
    BeforeValidator(_number),
    Field(description="USD, cut to nano-dollars. 0 allows nothing that costs; null: no limit."),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": LIMIT_USD_MAX}, {"type": "null"}]}),
]
ResetName = Literal["daily", "weekly", "monthly"] | None


_UTC_WITH_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)


def _in_utc(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text) if _UTC_WITH_SECONDS.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError("write a time in UTC with its seconds, like 2027-01-31T00:00:00Z")
    return text


ExpiresAt = Annotated[
    Annotated[str, AfterValidator(_in_utc)] | None,
    Field(description="UTC, with seconds: 2027-01-31T00:00:00Z. Never changed afterwards; null: never."),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX, description="Says what uses it.")]
Hash = Annotated[str, Path(description="`hash` of the key, or the one it had before it was last rotated.")]


class NewKey(Strict):
    name: Name
    limit: LimitUsd = None
    limit_reset: ResetName = Field(
        None, description="When the limit begins anew, 00:00 UTC; weeks on Monday; null: never."
    )
    include_byok_in_limit: bool = False
    creator_user_id: str | None = Field(
        None, description="The member whose key it is; null: who made the management key."
    )
    workspace_id: str | None = Field(None, description="There is one workspace for each owner.")
    expires_at: ExpiresAt = None
    external: None = Field(None, description="Keys of partners are not supported.")


class Rotation(Strict):
    grace_seconds: int = Field(
        GRACE_SECONDS_DEFAULT,
        ge=0,
        le=GRACE_SECONDS_MAX,
        description="For so long the secret before still works; 0: it ends at once.",
    )


class KeyUpdate(Strict):
    name: Name | None = None
    disabled: bool | None = None
    limit: LimitUsd = None
    limit_reset: ResetName = None
    include_byok_in_limit: bool | None = None
    workspace_id: str | None = Field(None, description="There is one workspace for each owner.")


class Budget(Strict):
    limit: LimitUsd
    limit_reset: ResetName = None


class NoSuchWorkspace(NotFound):
    """Each owner has one workspace, and this is none of theirs."""


def router(
    database: Database, managed: Any, checker: KeyChecker, caught_up: Callable[[], Awaitable[None]]
) -> APIRouter:
    routes = APIRouter(tags=["Keys"])
    _reading(routes, database, managed, caught_up)
    _writing(routes, database, managed, checker, caught_up)
    _budgets(routes, database, managed, caught_up)
    return routes


def _reading(routes: APIRouter, database: Database, managed: Any, caught_up: Callable[[], Awaitable[None]]) -> None:
    @routes.get(
        "/keys",
        summary="List the API keys",
        operation_id="listKeys",
        responses=answers(_schemas.ManagedKeysAnswer, 400, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def list_keys(
        offset: Offset = 0,
        include_disabled: bool = False,
        include_expired: bool = False,
        workspace_id: str | None = None,
        manager: Manager = managed,
    ) -> Response:
        """Newest first, 100 at a time; disabled and expired ones only when asked for. Management keys are not listed."""
        _require_own(manager.owner, workspace_id)
        await caught_up()
        async with database.snapshot(Scope(manager.owner)) as snapshot:
            found = await keys.page_keys(
                snapshot,
                manager.owner,
                offset=offset,
                count=PAGE_KEYS,
                disabled=include_disabled,
                expired=include_expired,
            )
            return json_answer({"data": await _described(snapshot, found)})

    @routes.get(
        "/keys/{hash}",
        summary="One API key",
        operation_id="getKey",
        responses=answers(_schemas.ManagedKeyAnswer, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def get_key(hash: Hash, manager: Manager = managed) -> Response:  # noqa: A002
        await caught_up()
        found = await _get(database, manager.owner, hash)
        return await _told(database, found)


def _writing(
    routes: APIRouter,
    database: Database,
    managed: Any,
    checker: KeyChecker,
    caught_up: Callable[[], Awaitable[None]],
) -> None:
    created = answers(_schemas.CreatedKeyAnswer, 400, 401, 403, 404, 409, 503, status=201)

    async def told(tx: Snapshot, made: tuple[Key, str]) -> dict[str, Any]:
        return {"data": (await _described(tx, [made[0]]))[0], "key": Secret(made[1])}

    @routes.post(
        "/keys",
        summary="Create an API key",
        operation_id="createKeys",
        status_code=201,
        responses=created,
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def create_key(
        request: Request, body: NewKey, idempotency_key: IdempotencyKey = None, manager: Manager = managed
    ) -> Response:
        """`key` is the secret: it is told once and stored nowhere."""
        _require_own(manager.owner, body.workspace_id)
        amount = _nanos(body.limit)

        async def do(then: Then[tuple[Key, str]]) -> None:
            await actions.create_key(
                database,
                checker,
                manager.actor,
                owner=manager.owner,
                creator=manager.user if body.creator_user_id is None else UserId(body.creator_user_id),
                name=body.name,
                limit=None if amount is None else Allowing(amount, _period(body.limit_reset)),
                include_byok_in_limit=body.include_byok_in_limit,
                expires_at=None if body.expires_at is None else datetime.fromisoformat(body.expires_at).astimezone(UTC),
                then=then,
            )

        return await once(Asked(request, database, manager, idempotency_key, body), do, told)

    @routes.post(
        "/keys/{hash}/rotate",
        summary="Give an API key a new secret",
        operation_id="rotateKeys",
        responses=answers(_schemas.RotatedKeyAnswer, 400, 401, 403, 404, 409, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def rotate_key(
        request: Request,
        hash: Hash,  # noqa: A002
        body: Rotation,
        idempotency_key: IdempotencyKey = None,
        manager: Manager = managed,
    ) -> Response:
        """It stays the same key: name, limit, usage, creator. `key` is the new secret, told once; the one before works until
        `previous_until`. Its `hash` is another from now on; the one before finds the key until it is rotated again."""

        async def do(then: Then[tuple[Key, str]]) -> None:
            found = await _get(database, manager.owner, hash)
            await actions.rotate_key(
                database,
                checker,
                manager.actor,
                owner=manager.owner,
                key=found.id,
                grace=timedelta(seconds=body.grace_seconds),
                then=then,
            )

        asked = Asked(request, database, manager, idempotency_key, body)
        return await once(asked, do, told, status=200, after=partial(_answers.acknowledged, database))

    @routes.patch(
        "/keys/{hash}",
        summary="Change an API key",
        operation_id="updateKeys",
        responses=answers(_schemas.UpdatedKeyAnswer, 400, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def update_key(hash: Hash, body: KeyUpdate, manager: Manager = managed) -> Response:  # noqa: A002
        """Only what is named changes. It is in force on every server within a second; disabling cuts streams that run."""
        _require_own(manager.owner, body.workspace_id)
        if not body.model_fields_set:
            raise NothingToUpdate("No update fields provided.", remedy="Name at least one field that can be changed.")
        await caught_up()  # what was spent until now counts for a limit that comes now
        found = await _get(database, manager.owner, hash)
        changed = await actions.update_key(
            database, manager.actor, owner=manager.owner, key=found.id, changes=_changes(body)
        )
        return await _told(database, changed, **(await _answers.acknowledged(database) if body.disabled else {}))

    @routes.delete(
        "/keys/{hash}",
        summary="Delete an API key",
        operation_id="deleteKeys",
        responses=answers(_schemas.DeletedKeyAnswer, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def delete_key(hash: Hash, manager: Manager = managed) -> Response:  # noqa: A002
        """For good: requests with it are refused, streams on it are cut. Its activity stays."""
        found = await _get(database, manager.owner, hash)
        await actions.delete_key(database, manager.actor, owner=manager.owner, key=found.id)
        return json_answer({"deleted": True, **await _answers.acknowledged(database)})


def _budgets(routes: APIRouter, database: Database, managed: Any, caught_up: Callable[[], Awaitable[None]]) -> None:
    async def put(manager: Manager, member: UserId | None, body: Budget) -> Response:
        await caught_up()
        amount = _nanos(body.limit)
        budget = None if amount is None else Allowing(amount, _period(body.limit_reset))
        await actions.set_budget(database, manager.actor, organization=manager.owner, member=member, budget=budget)
        subject = manager.owner if member is None else member
        async with database.snapshot(Scope(manager.owner)) as snapshot:
            use = (await ledger.limit_uses(snapshot, manager.owner, [subject], snapshot.now)).get(subject)
        return json_answer({"data": None if use is None else _answers.budget(use)})

    @routes.patch(
        "/organization/budget",
        summary="Set the organization's budget",
        operation_id="setOrganizationBudget",
        responses=answers(_schemas.BudgetAnswer, 400, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def set_organizations(body: Budget, manager: Manager = managed) -> Response:
        """What all its keys and all chats together may spend. `limit` null: no budget."""
        return await put(manager, None, body)

    @routes.patch(
        "/organization/members/{user_id}/budget",
        summary="Set a member's budget",
        operation_id="setMemberBudget",
        responses=answers(_schemas.BudgetAnswer, 400, 401, 403, 404, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def set_members(user_id: str, body: Budget, manager: Manager = managed) -> Response:
        """What the keys that they created and their chats may spend. `limit` null: no budget."""
        return await put(manager, UserId(user_id), body)


async def _get(database: Database, owner: OwnerId, key_hash: str) -> Key:
    async with database.snapshot(Scope(owner)) as snapshot:
        found = await keys.find_key_by_hash(snapshot, owner, key_hash)
    if found is None:
        raise NoSuchKey("There is no such API key here.", remedy="GET /api/v1/keys lists them.")
    return found


async def _told(database: Database, key: Key, **more: Any) -> Response:
    async with database.snapshot(Scope(key.owner)) as snapshot:
        return json_answer({"data": (await _described(snapshot, [key]))[0], **more})


async def _described(snapshot: Snapshot, found: Sequence[Key]) -> list[dict[str, Any]]:
    """Keys of one owner."""
    if not found:
        return []
    owner, ids = found[0].owner, [key.id for key in found]
    usages = await reports.key_usages(snapshot, owner, ids)
    uses = await ledger.limit_uses(snapshot, owner, ids, snapshot.now)
    return [_answers.managed_key(key, usages.get(key.id), uses.get(key.id)) for key in found]


def _require_own(owner: OwnerId, workspace: str | None) -> None:
    if workspace is not None and workspace.lower() not in (_answers.workspace_of(owner), "default"):
        raise NoSuchWorkspace("There is no such workspace here.", remedy="Leave it out: each owner has one.")


def _nanos(limit: Decimal | None) -> Nanos | None:
    return None if limit is None else parse_credits(format(limit.quantize(_NANO, ROUND_DOWN), "f"))


def _period(reset: str | None) -> Period:
    return Period.TOTAL if reset is None else Period(reset)


def _changes(body: KeyUpdate) -> KeyChanges:
    named = body.model_fields_set
    return KeyChanges(
        name=body.name,
        disabled=body.disabled,
        include_byok_in_limit=body.include_byok_in_limit,
        limit=_nanos(body.limit) if "limit" in named else Unchanged.UNCHANGED,
        period=_period(body.limit_reset) if "limit_reset" in named else None,
    )
