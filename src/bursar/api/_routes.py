"""What a key may ask about itself and its owner."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from bursar import keys, ledger, reports
from bursar.api import _answers, _schemas
from bursar.api._answers import json_answer
from bursar.api._describe import ANY_KEY, MANAGEMENT_ONLY, Authorization, answers
from bursar.api._door import Manager
from bursar.gateway import Admission
from bursar.kernel.errors import NotFound
from bursar.kernel.ids import GenerationId, is_id
from bursar.reports import Receipt
from bursar.storage import Database, Scope


class NoSuchGeneration(NotFound):
    """No generation of this owner has this id; another owner's answers alike."""


def router(
    database: Database, admission: Admission, managed: Any, caught_up: Callable[[], Awaitable[None]]
) -> APIRouter:
    """`GET /key` (alias `/auth/key`), `/credits`, `/generation` and its receipt. Who just made a request finds it in what they say."""
    routes = APIRouter(tags=["Account"])

    @routes.get(
        "/auth/key",
        summary="Describe the key that asks: an old name of `GET /key`",
        operation_id="getCurrentKeyOld",
        deprecated=True,
        responses=answers(_schemas.KeyAnswer, 401, 503),
        openapi_extra=ANY_KEY,
    )
    @routes.get(
        "/key",
        summary="Describe the key that asks",
        operation_id="getCurrentKey",
        responses=answers(_schemas.KeyAnswer, 401, 503),
        openapi_extra=ANY_KEY,
    )
    async def describe_key(authorization: Authorization = None) -> Response:
        """What this key is, and what it spent. API keys and management keys alike."""
        caller = await admission.admit(authorization)
        await caught_up()
        async with database.snapshot(Scope(caller.owner)) as snapshot:
            key = await keys.find_key(snapshot, caller.owner, caller.key)
            usage = await reports.key_usage(snapshot, caller.owner, caller.key)
            totals = await reports.credit_totals(snapshot, caller.owner)
            subjects = ledger.subjects_of(caller.owner, caller.key, caller.user)
            uses = await ledger.limit_uses(snapshot, caller.owner, subjects, snapshot.now)
        if key is None:
            raise keys.NoSuchKey("This API key does not exist any more.", remedy="Create a new key.")
        return json_answer(
            {"data": _answers.key(key, usage, totals, [uses[each] for each in dict.fromkeys(subjects) if each in uses])}
        )

    @routes.get(
        "/credits",
        summary="Lifetime credits and usage",
        operation_id="getCredits",
        responses=answers(_schemas.CreditsAnswer, 401, 403, 503),
        openapi_extra=MANAGEMENT_ONLY,
    )
    async def get_credits(manager: Manager = managed) -> Response:
        """Of the owner that the management key belongs to; the difference is what is left."""
        await caught_up()
        async with database.snapshot(Scope(manager.owner)) as snapshot:
            totals = await reports.credit_totals(snapshot, manager.owner)
        return json_answer({"data": _answers.credits_(totals)})

    @routes.get(
        "/generation",
        summary="One request's metadata and cost",
        operation_id="getGeneration",
        responses=answers(_schemas.GenerationAnswer, 400, 401, 404, 503),
        openapi_extra=ANY_KEY,
    )
    async def get_generation(
        id: Annotated[str, Query(description="`gen-…`, as answered in `id` and `X-Generation-Id`.")],  # noqa: A002
        authorization: Authorization = None,
    ) -> Response:
        """With any key of the owner that was billed. Content is not stored."""
        return json_answer({"data": _answers.generation(await _receipt(id, authorization))})

    @routes.get(
        "/generation/receipt",
        summary="Why one request cost what it cost",
        operation_id="getGenerationReceipt",
        responses=answers(_schemas.ReceiptAnswer, 400, 401, 404, 503),
        openapi_extra=ANY_KEY,
    )
    async def get_receipt(
        id: Annotated[str, Query(description="`gen-…`, as answered in `id` and `X-Generation-Id`.")],  # noqa: A002
        authorization: Authorization = None,
    ) -> Response:
        """Tokens by class × price at the prices that were pinned when the request began, rounded up once: exactly what was charged."""
        return json_answer({"data": _answers.receipt(await _receipt(id, authorization))})

    async def _receipt(name: str, authorization: str | None) -> Receipt:
        caller = await admission.admit(authorization)
        found = None
        if is_id(name, "gen"):
            await caught_up()
            async with database.snapshot(Scope(caller.owner)) as snapshot:
                found = await reports.receipt(snapshot, caller.owner, GenerationId(name))
        if found is None:
            raise NoSuchGeneration(
                f"There is no generation {name[:60]} here.",
                remedy="A request that is still running appears when it has ended.",
            )
        return found

    return routes
