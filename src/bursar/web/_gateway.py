"""The gateway for somebody who is signed in: no API key, billed to the context that the URL names.

The door has checked who it is, their membership and the form token before any of this runs.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bursar.gateway import Caller, encode
from bursar.web._context import Visit

CHAT_PATH = "/api/v1/chat/completions"
APP_TITLE = "Chat"
"""What the activity calls the application that asked."""
_HANDED_ON = (b"content-length", b"user-agent")
"""Of the browser's headers; cookies and whatever else could steer the gateway stay here."""


class GatewayAnswer(Response):
    """Hands this request's body, still unread, to the gateway, and its answer to the browser as it comes.

    When the browser leaves, the gateway cancels the provider and charges what was produced until then.
    """

    def __init__(self, visit: Visit) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._gateway = visit.site.parts.gateway
        self._caller = _caller(visit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                ours = [(name, value) for name, value in self.raw_headers if name not in given]
                message = {**message, "headers": [*message["headers"], *ours]}
            await send(dict(message))

        await self._gateway.serve(_scope(scope["headers"]), receive, send_on, self._caller)


async def complete(visit: Visit, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """One whole chat completion: the status, and the answer or the error in OpenRouter's shape."""
    unread = [encode(body)]
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        if not unread:
            await asyncio.Event().wait()  # the gateway finishes whole answers whether or not the browser waits
        return {"type": "http.request", "body": unread.pop(), "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    headers = [header for header in visit.request.scope["headers"] if header[0] != b"content-length"]
    await visit.site.parts.gateway.serve(_scope(headers), receive, send, _caller(visit))
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    return int(sent[0]["status"]), json.loads(answer)


def _caller(visit: Visit) -> Caller:
    return Caller(visit.owner, visit.user.id, session=visit.signed_in.id)


def _scope(headers: list[tuple[bytes, bytes]]) -> Scope:
    kept = [header for header in headers if header[0] in _HANDED_ON]
    return {
        "type": "http",
        "method": "POST",
        "path": CHAT_PATH,
        "headers": [*kept, (b"content-type", b"application/json"), (b"x-title", APP_TITLE.encode())],
    }
