"""Lists of models: OpenRouter's filters, pages and order."""

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from bursar import catalog
from bursar.api import _schemas
from bursar.api._answers import InvalidParameter, json_answer
from bursar.api._describe import ANY_KEY, PUBLIC, Authorization, answers
from bursar.api._filters import NOT_FILTERED_BY, ModelFilters, ModelsPage, Paging
from bursar.api._shelf import MayUse, Shelf, anybody
from bursar.catalog import Listed, ModelQuery
from bursar.gateway import Admission

_EMBEDDINGS = ModelQuery(output_modalities=("embeddings",))


def router(admission: Admission, shelf: Callable[[], Shelf]) -> APIRouter:
    """`GET /models`, `/models/count`, `/models/user`, `/embeddings/models`."""
    routes = APIRouter(tags=["Models"])

    @routes.get(
        "/models",
        summary="List the models",
        operation_id="getModels",
        responses=answers(_schemas.ModelsAnswer, 400),
        openapi_extra=PUBLIC,
    )
    async def list_models(request: Request, filters: Annotated[ModelsPage, Query()]) -> Response:
        """Every model that somebody serves at a price. Needs no key."""
        return _answer(request, shelf(), filters, anybody)

    @routes.get(
        "/models/count",
        summary="Count the models",
        operation_id="listModelsCount",
        responses=answers(_schemas.ModelsCountAnswer, 400),
        openapi_extra=PUBLIC,
    )
    async def count_models(request: Request, filters: Annotated[ModelFilters, Query()]) -> Response:
        """As many as `GET /models` lists for the same query."""
        return json_answer({"data": {"count": len(_found(request, shelf(), filters.query(), anybody))}})

    @routes.get(
        "/models/user",
        summary="List the models that you may use",
        operation_id="listModelsUser",
        responses=answers(_schemas.ModelsAnswer, 400, 401, 503),
        openapi_extra=ANY_KEY,
    )
    async def list_models_for_user(
        request: Request, filters: Annotated[ModelsPage, Query()], authorization: Authorization = None
    ) -> Response:
        """Those that the owner of the key may use; today that is all there are."""
        await admission.admit(authorization)
        return _answer(request, shelf(), filters, anybody)

    @routes.get(
        "/embeddings/models",
        summary="List the models that make embeddings",
        operation_id="listEmbeddingsModels",
        responses=answers(_schemas.ModelsAnswer, 400),
        openapi_extra=PUBLIC,
    )
    async def list_embeddings_models(request: Request, paging: Annotated[Paging, Query()]) -> Response:
        """By id. Needs no key."""
        return _page(request, _found(request, shelf(), _EMBEDDINGS, anybody), paging)

    return routes


def _answer(request: Request, shelf: Shelf, filters: ModelsPage, may_use: MayUse) -> Response:
    return _page(request, _found(request, shelf, filters.query(filters.sort), may_use), filters)


def _found(request: Request, shelf: Shelf, query: ModelQuery, may_use: MayUse) -> list[Listed]:
    """Nothing that is asked is left out: that would look like an answer to it. Raises `InvalidParameter`."""
    for name in request.query_params:
        if name in NOT_FILTERED_BY:
            raise InvalidParameter(
                f"{name}: this installation's catalogue does not know that of its models.", remedy="Leave it out."
            )
        if len(request.query_params.getlist(name)) > 1:
            raise InvalidParameter(f"{name[:60]}: given more than once.", remedy="Separate the words by commas.")
    return shelf.list_models(query, may_use)


def _page(request: Request, listed: list[Listed], paging: Paging) -> Response:
    after = len(listed) if paging.limit is None else paging.offset + paging.limit
    more = after < len(listed)
    return json_answer(
        {
            "data": [catalog.public_model(each.model, each.endpoints) for each in listed[paging.offset : after]],
            "total_count": len(listed),
            "links": {"next": _at_offset(request, after) if more else None},
        }
    )


def _at_offset(request: Request, offset: int) -> str:
    """The same question, further on."""
    rest = [(name, value) for name, value in request.query_params.multi_items() if name != "offset"]
    return f"{request.url.path}?{urlencode([*rest, ('offset', str(offset))])}"
