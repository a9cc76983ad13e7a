"""The management API: one FastAPI application for the description it writes of itself; its error bodies are ours throughout."""

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bursar import __version__
from bursar.api import _audit, _endpoints, _inference, _invitations, _keys, _models, _organizations, _routes
from bursar.api._answers import InvalidParameter
from bursar.api._describe import SECURITY_SCHEMES
from bursar.api._door import managed_by
from bursar.api._shelf import Shelf
from bursar.catalog import Catalog
from bursar.gateway import Admission, EndpointHealth, json_refusal
from bursar.kernel.errors import BursarError, NotFound
from bursar.keys import KeyChecker
from bursar.storage import Database

_log = logging.getLogger("bursar.api")


@dataclass(frozen=True)
class ApiParts:
    """What the routes need. `catalog` gives the present one: a reload replaces it. `caught_up` waits until what was answered can be read.
    `public_url` begins the links in mails."""

    database: Database
    admission: Admission
    checker: KeyChecker
    health: EndpointHealth
    catalog: Callable[[], Catalog]
    caught_up: Callable[[], Awaitable[None]]
    public_url: str


class NoSuchRoute(NotFound):
    """There is nothing at this path."""


class WrongMethod(BursarError):
    """The path exists, the method does not."""

    status = 405
    error_type = "invalid_request"


class Broken(BursarError):
    """A fault of ours."""


class _Api(FastAPI):
    """Describes the gateway's routes beside its own, and that invalid input is 400 and not FastAPI's 422."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            for operations in document["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            document["paths"] |= _inference.paths()
            components = document.setdefault("components", {})
            schemas = {**components.get("schemas", {}), **_inference.schemas()}
            components["schemas"] = {name: schemas[name] for name in sorted(schemas) if name not in _FASTAPIS_OWN}
            components["securitySchemes"] = SECURITY_SCHEMES
        assert self.openapi_schema is not None
        return self.openapi_schema


_FASTAPIS_OWN = frozenset(["HTTPValidationError", "ValidationError"])


def create_api(parts: ApiParts) -> FastAPI:
    """An ASGI application for everything below `/api/v1` but inference, which it only describes."""
    app = _Api(
        title="Bursar",
        version=__version__,
        description=_DESCRIPTION,
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

    def shelf() -> Shelf:
        return Shelf(parts.catalog(), parts.health, parts.database.clock)

    managed = managed_by(parts.admission)
    for router in (
        _models.router(parts.admission, shelf),
        _endpoints.router(parts.admission, shelf),
        _routes.router(parts.database, parts.admission, managed, parts.caught_up),
        _organizations.router(parts.database, managed, parts.public_url),
        _invitations.router(parts.database, managed, parts.public_url),
        _audit.router(parts.database, managed),
        _keys.router(parts.database, managed, parts.checker, parts.caught_up),
    ):
        app.include_router(router, prefix="/api/v1")
    return app


_DESCRIPTION = (
    "An LLM gateway with OpenRouter's wire. Every refusal has the same body, "
    '`{"error": {"code", "message", "metadata"}}`; `/messages` answers in Anthropic\'s. Money is USD.'
)


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
        answer.headers["allow"] = _methods_of(request) or (error.headers or {}).get("allow", "GET")
        return answer
    if error.status_code == 400:
        return _answer(InvalidParameter("body: it is not JSON in UTF-8."))
    return _answer(NoSuchRoute("Resource not found.", remedy="GET /api/v1/openapi.json lists what there is."))


def _methods_of(request: Request) -> str:
    """Of all operations at this path: the router itself names those of one route only."""
    found: set[str] = set()
    for path, operations in request.app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)), request.url.path):
            found |= {method.upper() for method in operations}
    return ", ".join(sorted(found))


async def _not_valid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    own = first.get("ctx", {}).get("error")
    what = str(own) if isinstance(own, ValueError) else str(first["msg"]).lower()
    return _answer(InvalidParameter(f"{where}: {what}.", field=where))


async def _broken(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(Broken("Internal Server Error"))
