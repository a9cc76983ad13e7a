"""The client's side of one request: what is sent to it, and whether it is still there."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from bursar.gateway._door import ClientGone, Receive

KEEPALIVE_SECONDS = 10
"""After this long without a chunk a stream gets a comment, so that proxies in between do not think it dead."""

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Result = TypeVar("Result")


class Exchange:
    def __init__(self, receive: Receive, send: Send, generation: str) -> None:
        self._receive = receive
        self._send = send
        self._generation = generation.encode()
        self.started = False
        """Whether the status line left."""
        self._quiet = True

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer at once."""
        self.started = True
        pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        pairs += [(b"content-length", str(len(body)).encode()), (b"x-generation-id", self._generation)]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})
        await self._send({"type": "http.response.body", "body": body})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """A piece of an event stream, maybe empty; the first that is not sends the status line before it."""
        if not data and not last:
            return
        self._quiet = False
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

    async def while_connected(self, work: Coroutine[Any, Any, Result], keepalive: bytes) -> Result:
        """The result of `work`, which writes the stream; quiet spells are filled with `keepalive`.

        Raises `ClientGone`, having cancelled `work` and waited for it, when the client leaves.
        """
        task = asyncio.create_task(work)
        gone = asyncio.create_task(self._watch())
        beat = asyncio.create_task(self._beat(keepalive))
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientGone
        finally:
            for helper in (task, gone, beat):
                helper.cancel()
            await asyncio.gather(task, gone, beat, return_exceptions=True)

    async def _beat(self, keepalive: bytes) -> None:
        while True:
            self._quiet = True
            await asyncio.sleep(KEEPALIVE_SECONDS)
            if self._quiet:
                await self.write(keepalive)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
