"""The routes, each with the description that the OpenAPI document shows."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from bursar import activity, keys, reports
from bursar.api import _answers, _schemas
from bursar.catalog import Catalog, Model, public_model
from bursar.gateway import Admission, encode
from bursar.kernel.errors import NotFound
from bursar.kernel.ids import GenerationId, is_id
from bursar.storage import Database, Scope

MODELS_PAGE_MAX = 1000

Authorization = Annotated[
    str | None, Header(description="`Bearer` and a key of this installation.", include_in_schema=False)
]


class NoSuchGeneration(NotFound):
    """No generation of this owner has this id; another owner's answers alike."""


def router(database: Database, admission: Admission, catalog: Callable[[], Catalog]) -> APIRouter:
    """`GET /models`, `/key` (alias `/auth/key`), `/generation`, `/credits`."""
    routes = APIRouter()
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": _schemas.ErrorAnswer, "description": what}
        for status, what in (
            (400, "Bad request"),
            (401, "No valid key"),
            (403, "Wrong kind of key"),
            (404, "Not found"),
        )
    }

    def documented(model: type, *statuses: int) -> dict[int | str, dict[str, Any]]:
        return {200: {"model": model}, **{status: refusals[status] for status in statuses}}

    @routes.get("/models", summary="List the models", responses=documented(_schemas.ModelsAnswer, 400))
    async def list_models(
        offset: Annotated[int, Query(ge=0, description="How many to skip.")] = 0,
        limit: Annotated[
            int | None, Query(ge=1, le=MODELS_PAGE_MAX, description="How many at most. Unset: all.")
        ] = None,
    ) -> Response:
        """Every model that has a priced endpoint, by id. Needs no key."""
        return _json(_models_page(catalog(), offset, limit))

    @routes.get("/key", summary="Describe the key that asks", responses=documented(_schemas.KeyAnswer, 401))
    @routes.get("/auth/key", include_in_schema=False)
    async def describe_key(authorization: Authorization = None) -> Response:
        """What this key is, and what it spent. API keys and management keys alike."""
        caller = await admission.admit(authorization)
        async with database.snapshot(Scope(caller.owner)) as snapshot:
            key = await keys.find_key(snapshot, caller.owner, caller.key)
            usage = await reports.key_usage(snapshot, caller.owner, caller.key)
            totals = await reports.credit_totals(snapshot, caller.owner)
        if key is None:
            raise keys.NoSuchKey("This API key does not exist any more.", remedy="Create a new key.")
        return _json({"data": _answers.key(key, usage, totals)})

    @routes.get(
        "/credits", summary="Lifetime credits and usage", responses=documented(_schemas.CreditsAnswer, 401, 403)
    )
    async def get_credits(authorization: Authorization = None) -> Response:
        """Of the owner that the management key belongs to; the difference is what is left."""
        caller = await admission.admit_management(authorization)
        async with database.snapshot(Scope(caller.owner)) as snapshot:
            totals = await reports.credit_totals(snapshot, caller.owner)
        return _json({"data": _answers.credits_(totals)})

    @routes.get(
        "/generation",
        summary="One request's metadata and cost",
        responses=documented(_schemas.GenerationAnswer, 400, 401, 404),
    )
    async def get_generation(
        id: Annotated[str, Query(description="`gen-…`, as answered in `id` and `X-Generation-Id`.")],  # noqa: A002
        authorization: Authorization = None,
    ) -> Response:
        """With any key of the owner that was billed. Content is not stored."""
        caller = await admission.admit(authorization)
        found = None
        if is_id(id, "gen"):
            async with database.snapshot(Scope(caller.owner)) as snapshot:
                found = await activity.find_generation(snapshot, caller.owner, GenerationId(id))
        if found is None:
            raise NoSuchGeneration(
                f"There is no generation {id[:60]} here.",
                remedy="A request that is still running appears when it has ended.",
            )
        return _json({"data": _answers.generation(found)})

    return routes


def _models_page(catalog: Catalog, offset: int, limit: int | None) -> dict[str, Any]:
    # As OpenRouter's list does without `output_modalities`: what makes text. Clients offer every model listed here for chat.
    offered = [model for model in catalog.models() if "text" in model.output_modalities and _is_offered(catalog, model)]
    page = offered[offset:] if limit is None else offered[offset : offset + limit]
    after = offset + len(page)
    return {
        "data": [public_model(model, catalog.offers_for(model.id)) for model in page],
        "total_count": len(offered),
        "links": {"next": f"/api/v1/models?offset={after}&limit={limit}" if after < len(offered) else None},
    }


def _is_offered(catalog: Catalog, model: Model) -> bool:
    return any(endpoint.pricing is not None for endpoint in catalog.offers_for(model.id))


def _json(value: Any) -> Response:
    return Response(encode(value), media_type="application/json")
