"""HTTP/1.1 on a connection: uvicorn's protocol with two things of our own.

What may come before a body has a bound; neither llhttp nor uvicorn has one.

Requests to models take a short way: a plain POST to one of the gateway's paths is handed to it as a `Turn`, without uvicorn's
request cycle, which costs as much as all the rest. Whatever is unusual about a request (HTTP/1.0, a query, an upgrade, one
that comes before the last is answered) goes uvicorn's way and is answered by the same gateway as an ASGI application.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bursar.gateway import Exchange, Gateway

HEAD_BYTES_MAX = 64 * 1024
"""Request line and headers together."""

_REFUSED = b'{"error":{"code":431,"message":"The headers are larger than 64 KiB.","metadata":{"error_type":"invalid_request"}}}'
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: " + str(len(_REFUSED)).encode() + b"\r\n\r\n" + _REFUSED
)


class BursarHttp(HttpToolsProtocol):
    """Subclasses name the gateway; `protocol_for` makes one."""

    gateway: Gateway
    paths: Mapping[bytes, str]

    _head_bytes = 0
    _in_head = True
    _turn: "Turn | None" = None

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        self._head_bytes, self._in_head = 0, True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        self._in_head = False
        path = self.paths.get(self.url)
        if path is not None and self._is_plain():
            self.cycle = self._turn = turn = Turn(self, keep_alive=self.parser.should_keep_alive())  # type: ignore[assignment]
            scope = {"type": "http", "method": "POST", "path": path, "headers": self.headers, "client": self.client}
            turn.begin(self.gateway, scope)
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()
        if self.gateway.is_draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._turn is not None:  # not always the present cycle: another request may have come behind it
            self._turn.lost()

    def _is_plain(self) -> bool:
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
            and (self.cycle is None or self.cycle.response_complete)
        )


def protocol_for(gateway: Gateway) -> type[BursarHttp]:
    """The protocol class of a server with this gateway."""
    paths = {path.encode(): path for path in gateway.skins}
    return type("Http", (BursarHttp,), {"gateway": gateway, "paths": paths})


class Turn:
    """One request to a model and its answer. `receive` and `send` are ASGI's; the rest is what uvicorn's protocol touches."""

    __slots__ = (
        "_chunked",
        "_exchange",
        "_expects",
        "_head",
        "_http",
        "_waiter",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
    )

    def __init__(self, http: BursarHttp, *, keep_alive: bool) -> None:
        self._http = http
        self._head: bytes | None = None
        self._chunked = False
        self._waiter: asyncio.Future[None] | None = None
        self._exchange: Exchange | None = None
        self._expects = http.expect_100_continue
        self.body = bytearray()
        self.more_body = True
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False

    @property
    def message_event(self) -> "Turn":
        """Only ever `set`, by the protocol, when there is something new to receive."""
        return self

    def begin(self, gateway: Gateway, scope: dict[str, Any]) -> None:
        exchange = self._exchange = Exchange(self.receive, self.send, send_at_once=self.send_at_once, tells=True)
        gateway.start(scope, exchange, loop=self._http.loop).add_done_callback(self._done)

    def set(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def lost(self) -> None:
        if not self.response_complete:
            self.disconnected = True
            if self._exchange is not None:
                self._exchange.left()

    async def receive(self) -> dict[str, Any]:
        if self._expects:
            self._expects = False
            self._http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while self.more_body and not self.body and not self.disconnected:
            self._http.flow.resume_reading()
            self._waiter = self._http.loop.create_future()
            await self._waiter
        if self.disconnected:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Mapping[str, Any]) -> None:
        if self._http.flow.write_paused and not self.disconnected:
            await self._http.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message["headers"])
        else:
            self._write(message.get("body", b""), more=message.get("more_body", False))

    def send_at_once(self, body: bytes) -> bool:
        """A piece of a body that has begun, if the client takes it now."""
        if self._http.flow.write_paused or self.disconnected:
            return False
        self._write(body, more=True)
        return True

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self._http.gateway.is_draining:
            self.keep_alive = False
        lines = [STATUS_LINE[status]]
        self._chunked = True
        for name, value in (*self._http.server_state.default_headers, *headers):
            if name == b"content-length":
                self._chunked = False
            lines.append(b"%s: %s\r\n" % (name, value))
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)  # goes with the first piece of the body, in one write

    def _write(self, body: bytes, *, more: bool) -> None:
        if self._chunked:
            body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        if self._head is not None:
            head, self._head = self._head, None
            body = head + body
        self._http.transport.write(body)
        if not more:
            self.response_complete = True
            if not self.keep_alive:
                self._http.transport.close()
            self._http.on_response_complete()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._exchange = (
            None  # they know each other: all that a request was made of would wait for the garbage collector
        )
        if not self.response_complete and not self.disconnected:
            self._http.transport.close()
        if not task.cancelled():
            task.exception()  # the gateway has logged whatever it was
