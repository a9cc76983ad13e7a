"""The client's side of one request: what is sent to it, and whether it is still there."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from bursar.gateway._door import ClientGone, Receive

KEEPALIVE_SECONDS = 10
"""After this long without a chunk a stream gets a comment, so that proxies in between do not think it dead."""

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Result = TypeVar("Result")

_COMMENT = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"


class Exchange:
    def __init__(self, receive: Receive, send: Send, generation: str) -> None:
        self._receive = receive
        self._send = send
        self._generation = generation.encode()
        self._gone: asyncio.Task[None] | None = None
        self.started = False
        """Whether the status line left."""

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer at once."""
        self.started = True
        pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        pairs += [(b"content-length", str(len(body)).encode()), (b"x-generation-id", self._generation)]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})
        await self._send({"type": "http.response.body", "body": body})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """A piece of an event stream; the first one sends the status line before it."""
        if not self.started:
            self.started = True
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
                (b"x-generation-id", self._generation),
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def wait(self, work: Awaitable[Result]) -> Result:
        """The result of `work`, with comments meanwhile. Raises `ClientGone`, having cancelled it, when the client leaves."""
        task = asyncio.ensure_future(work)
        if self._gone is None:
            self._gone = asyncio.create_task(self._watch())
        try:
            while True:
                await asyncio.wait({task, self._gone}, timeout=KEEPALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return task.result()
                if self._gone.done():
                    raise ClientGone
                await self.write(_COMMENT)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        if self._gone is not None:
            self._gone.cancel()
            await asyncio.gather(self._gone, return_exceptions=True)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
