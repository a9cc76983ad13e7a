"""The client's side of one request: what is sent to it, and whether it is still there."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from bursar.gateway._door import ClientGone, Receive
from bursar.kernel.errors import BursarError, Unavailable

KEEPALIVE_SECONDS = 10
"""After this long without a chunk a stream gets a comment, so that proxies in between do not think it dead."""

RETRY_ELSEWHERE_SECONDS = 2

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Result = TypeVar("Result")

_STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class ShuttingDown(Unavailable):
    """The process stops: it takes nothing new, and does not wait for what a provider has not said yet."""

    def __init__(self) -> None:
        super().__init__(
            "This server is shutting down.",
            retry_after_seconds=RETRY_ELSEWHERE_SECONDS,
            remedy="Send the request again.",
        )


class Exchange:
    """`send_at_once`: writes a piece of a body where nothing has to be waited for, and returns whether it did.

    `tells`: whether the server calls `left` when the client goes; else `receive` is asked, as ASGI says."""

    __slots__ = (
        "_beat",
        "_cut_by",
        "_keepalive",
        "_quiet",
        "_relaying",
        "_send",
        "_send_at_once",
        "_tells",
        "_waiting",
        "generation",
        "gone",
        "more_headers",
        "receive",
        "started",
        "status",
        "task",
    )

    def __init__(
        self, receive: Receive, send: Send, *, send_at_once: Callable[[bytes], bool] | None = None, tells: bool = False
    ) -> None:
        self.receive = receive
        self._send = send
        self._send_at_once = send_at_once
        self._tells = tells
        self.task: asyncio.Task[Any] | None = None
        """That which answers; asyncio, which could tell as well, asks the system for it each time."""
        self.generation = ""
        self.started = False
        """Whether the status line left."""
        self.status: int | None = None
        """What it said."""
        self.gone = False
        self.more_headers: Callable[[], list[tuple[bytes, bytes]]] = list
        """Asked for when the answer begins."""
        self._relaying: asyncio.Task[Any] | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._cut_by: BursarError | None = None
        self._keepalive = b""
        self._quiet = True
        self._beat: asyncio.TimerHandle | None = None

    def left(self) -> None:
        """The client is gone: a stream that is being relayed is cut off."""
        if not self.gone:
            self.gone = True
            if self._relaying is not None and self._cut_by is None:
                self._relaying.cancel()

    def cut(self, reason: BursarError | None = None) -> None:
        """Whatever is waited for from a provider is given up, in a stream and outside, and the client is told the first reason; without
        one, the process will not wait any longer."""
        if self._cut_by is None:
            self._cut_by = reason or ShuttingDown()
            waiting = self._waiting or (None if self.gone else self._relaying)
            if waiting is not None:
                waiting.cancel()

    async def wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` returns. Raises the reason, `work` having been cancelled, when it is cut."""
        if self._cut_by is not None:
            work.close()
            raise self._cut_by
        task = self._waiting = self._own_task()
        try:
            return await work
        except asyncio.CancelledError:
            if self._cut_by is not None and task.uncancel() == 0:
                raise self._cut_by from None
            raise
        finally:
            self._waiting = None

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer at once."""
        self.started = True
        self.status = status
        pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        pairs += [(b"content-length", b"%d" % len(body)), (b"x-generation-id", self.generation.encode())]
        pairs += self.more_headers()
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})
        await self._send({"type": "http.response.body", "body": body})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """A piece of an event stream, maybe empty; the first that is not sends the status line before it."""
        if not data and not last:
            return
        self._quiet = False
        if not self.started:
            self.started = True
            self.status = 200
            headers = [*_STREAM_HEADERS, (b"x-generation-id", self.generation.encode()), *self.more_headers()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    def write_at_once(self, data: bytes) -> bool:
        """A piece of a stream that has begun; False, and nothing is written, where that would have to wait."""
        if not self.started or self._send_at_once is None or not self._send_at_once(data):
            return False
        self._quiet = False
        return True

    async def relay(self, work: Coroutine[Any, Any, None], keepalive: bytes) -> None:
        """Runs `work`, which writes the stream, until the client leaves; quiet spells are filled with `keepalive`.

        Raises `ClientGone`, `work` having been cancelled, when the client leaves first, the reason when it is cut.
        """
        if self.gone or self._cut_by is not None:
            work.close()
            raise self._why()
        task = self._relaying = self._own_task()
        watching = None if self._tells else asyncio.create_task(self._watch())
        self._keepalive = keepalive
        self._expect_output()
        try:
            await work
        except asyncio.CancelledError:
            # As `asyncio.timeout` does: only the cancellation that `left` or `cut` asked for ends here.
            if (self.gone or self._cut_by is not None) and task.uncancel() == 0:
                raise self._why() from None
            raise
        finally:
            self._relaying = None
            if self._beat is not None:
                self._beat.cancel()
            if watching is not None:
                watching.cancel()

    def _own_task(self) -> asyncio.Task[Any]:
        if self.task is None:
            self.task = asyncio.current_task()
        assert self.task is not None
        return self.task

    def _why(self) -> Exception:
        return ClientGone() if self.gone or self._cut_by is None else self._cut_by

    def _expect_output(self) -> None:
        self._quiet = True
        self._beat = self._own_task().get_loop().call_later(KEEPALIVE_SECONDS, self._on_beat)

    def _on_beat(self) -> None:
        if self._quiet:
            beating = asyncio.ensure_future(self.write(self._keepalive))
            beating.add_done_callback(_look_at)
        self._expect_output()

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.left()


def _look_at(beating: "asyncio.Future[None]") -> None:
    """A comment that cannot be sent is no news: whoever writes the stream meets the same."""
    if not beating.cancelled():
        beating.exception()
