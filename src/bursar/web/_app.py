"""From parts to an ASGI application."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from bursar.access import Permission
from bursar.kernel.secrets import derive
from bursar.web import _door, _routes
from bursar.web._door import Entry, PageRoute
from bursar.web._pages import secure
from bursar.web._parts import Site, WebParts
from bursar.web._render import STATIC_DIR, environment

KEPT_FOR_GOOD = "public, max-age=31536000, immutable"


class UndeclaredRoute(Exception):
    """A route does not say who may enter, or asks for a role where the URL names no context."""


class _Static(StaticFiles):
    """Files whose address carries a part of their hash may be kept for good; others are asked for again each time."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        versioned = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = KEPT_FOR_GOOD if versioned else "no-cache"
        return secure(response)


def create_web(parts: WebParts) -> Starlette:
    """All pages and their static files. Raises `UndeclaredRoute`."""
    site = Site(
        parts,
        environment(),
        form_key=derive(parts.secret, "web-forms"),
        cookie_key=derive(parts.secret, "web-cookies"),
    )

    async def unrouted(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await _door.unrouted(site, request, error)

    routes: list[BaseRoute] = [starlette_route(site, route) for route in checked(_routes.ROUTES)]
    routes.append(Mount("/static", _Static(directory=STATIC_DIR)))
    app = Starlette(routes=routes, exception_handlers={HTTPException: unrouted})
    # A redirect to the path without its slash would name whatever host the request claimed.
    app.router.redirect_slashes = False
    return app


def checked(routes: Sequence[PageRoute]) -> Sequence[PageRoute]:
    """The routes, each of which says who may enter. Raises `UndeclaredRoute`."""
    for route in routes:
        named = f"{route.method} {route.path}"
        if route.who is None:
            raise UndeclaredRoute(f"{named} does not say who may enter")
        if isinstance(route.who, Permission) != route.path.startswith(("/personal/", "/orgs/{slug}/")):
            raise UndeclaredRoute(f"{named} must name a context in its path and ask a permission of it, or neither")
        if route.step_up and route.who in (Entry.PUBLIC, Entry.MONITOR):
            raise UndeclaredRoute(f"{named} asks for a proof of who it is, but lets in people who are not signed in")
    return routes


def starlette_route(site: Site, route: PageRoute) -> Route:
    async def endpoint(request: Request) -> Response:
        return await _door.enter(site, route, request)

    return Route(route.path, endpoint, methods=[route.method])
