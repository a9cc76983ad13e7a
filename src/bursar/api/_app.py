"""The management API: one FastAPI application for the description it writes of itself; its error bodies are ours throughout."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bursar import __version__
from bursar.api import _routes
from bursar.catalog import Catalog
from bursar.gateway import Admission, json_refusal
from bursar.kernel.errors import BursarError, InvalidInput, NotFound
from bursar.storage import Database

_log = logging.getLogger("bursar.api")


@dataclass(frozen=True)
class ApiParts:
    """What the routes need. `catalog` gives the present one: a reload replaces it."""

    database: Database
    admission: Admission
    catalog: Callable[[], Catalog]


class NoSuchRoute(NotFound):
    """There is nothing at this path."""


class WrongMethod(BursarError):
    """The path exists, the method does not."""

    status = 405
    error_type = "invalid_request"


class InvalidParameter(InvalidInput):
    """A query parameter or body that does not fit the description."""


class Broken(BursarError):
    """A fault of ours."""


def create_api(parts: ApiParts) -> FastAPI:
    """An ASGI application for everything below `/api/v1` but inference."""
    app = FastAPI(
        title="Bursar",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url="/api/v1/openapi.json",
        exception_handlers={
            BursarError: _refused,
            HTTPException: _not_routed,
            RequestValidationError: _not_valid,
            Exception: _broken,
        },
    )
    app.include_router(_routes.router(parts.database, parts.admission, parts.catalog), prefix="/api/v1")
    return app


def _answer(error: BursarError) -> Response:
    status, headers, body = json_refusal(error)
    return Response(body, status, headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BursarError)
    return _answer(error)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        remedy = "GET /api/v1/openapi.json lists what is."
        answer = _answer(WrongMethod(f"{request.method} is not allowed here.", remedy=remedy))
        answer.headers.update(error.headers or {})
        return answer
    return _answer(NoSuchRoute("Resource not found.", remedy="GET /api/v1/openapi.json lists what there is."))


async def _not_valid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return _answer(InvalidParameter(f"{where}: {str(first['msg']).lower()}.", field=where))


async def _broken(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(Broken("Internal Server Error"))
