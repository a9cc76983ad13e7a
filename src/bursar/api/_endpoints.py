"""One model and who serves it. What is public needs no key; speeds are told to callers with one."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from bursar import catalog
from bursar.api import _schemas
from bursar.api._answers import json_answer
from bursar.api._describe import OPTIONAL_KEY, PUBLIC, Authorization, answers
from bursar.api._shelf import Shelf, anybody
from bursar.catalog import ModelQuery
from bursar.gateway import Admission
from bursar.kernel.errors import NotAuthenticated

Author = Annotated[str, Path(description="What stands before the slash of the id.", examples=["demo"])]
Slug = Annotated[str, Path(description="What stands after it, with a variant if need be.", examples=["echo-1:floor"])]


def router(admission: Admission, shelf: Callable[[], Shelf]) -> APIRouter:
    """`GET /model/…`, `/models/…`, `/models/…/endpoints`, `/endpoints/zdr`, `/providers`."""
    routes = APIRouter(tags=["Models"])

    @routes.get(
        "/model/{author}/{slug:path}",
        summary="One model",
        operation_id="getModel",
        responses=answers(_schemas.ModelAnswer, 404),
        openapi_extra=PUBLIC,
    )
    async def get_model(author: Author, slug: Slug) -> Response:
        """By its id, with a variant (`:free`, `:nitro`, `:floor`) if need be."""
        found = shelf().get_model(author, slug, anybody)
        return json_answer({"data": catalog.public_model(found.model, found.endpoints)})

    @routes.get(
        "/models/{author}/{slug:path}/endpoints",
        summary="Who serves a model",
        operation_id="listEndpoints",
        responses=answers(_schemas.EndpointsAnswer, 404, 503),
        openapi_extra=OPTIONAL_KEY,
    )
    async def list_endpoints(author: Author, slug: Slug, authorization: Authorization = None) -> Response:
        """Each with its price and what this process saw of it lately; speeds are told to callers with a key."""
        here = shelf()
        found = here.get_model(author, slug, anybody)
        speeds = await _has_key(admission, authorization)
        told = [here.endpoint(endpoint, speeds=speeds) for endpoint in found.endpoints]
        return json_answer({"data": catalog.public_endpoints(found.model, told)})

    @routes.get(
        "/models/{author}/{slug:path}",
        summary="One model, as OpenAI's clients ask for it",
        operation_id="retrieveModel",
        responses=answers(_schemas.OpenAiModel, 404),
        openapi_extra=PUBLIC,
    )
    async def retrieve_model(author: Author, slug: Slug) -> Response:
        """The same without `data` around it, and OpenAI's own words in it."""
        found = shelf().get_model(author, slug, anybody)
        ours = catalog.public_model(found.model, found.endpoints)
        return json_answer({**ours, "object": "model", "owned_by": found.model.author})

    @routes.get(
        "/endpoints/zdr",
        summary="Endpoints that keep nothing",
        operation_id="listEndpointsZdr",
        responses=answers(_schemas.ZdrAnswer, 503),
        openapi_extra=OPTIONAL_KEY,
    )
    async def list_zdr_endpoints(authorization: Authorization = None) -> Response:
        """Of all models: those whose provider retains no prompts (zero data retention)."""
        here = shelf()
        speeds = await _has_key(admission, authorization)
        listed = here.list_models(ModelQuery(zdr=True), lambda endpoint: endpoint.provider.keeps_nothing)
        told = [here.endpoint(endpoint, speeds=speeds) for each in listed for endpoint in each.endpoints]
        return json_answer({"data": told})

    @routes.get(
        "/providers",
        summary="List the providers",
        operation_id="listProviders",
        responses=answers(_schemas.ProvidersAnswer),
        openapi_extra=PUBLIC,
    )
    async def list_providers() -> Response:
        """Everybody in the catalogue, by slug."""
        return json_answer({"data": [catalog.public_provider(each) for each in shelf().providers()]})

    return routes


async def _has_key(admission: Admission, authorization: str | None) -> bool:
    """Whoever sends a key that is no good is told what strangers are told: the list itself is public."""
    if authorization is None:
        return False
    try:
        await admission.admit(authorization)
    except NotAuthenticated:
        return False
    return True
