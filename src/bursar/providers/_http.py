"""A small HTTP/1.1 client for providers: keep-alive, streams, limits, and little else.

    HttpError
    ├── ConnectFailed   no connection: refused, DNS, TLS, an address or a header that cannot be sent
    ├── TimedOut        no connection, no headers or no next piece in time
    ├── Broken          the answer was cut off
    │   └── Malformed   it is not HTTP/1.1 as we speak it: compressed, odd transfer encodings, headers without end
    └── TooLarge        the body is larger than the caller takes

It reads no proxy and no .netrc from the environment, keeps no cookies and follows no redirect, so that a credential goes to
the address it was meant for only. Framing is llhttp's (through httptools), in its strict mode.

Nothing is created per request but a response and a future: bytes go from `data_received` through the parser into the
response's pieces, and whoever waits for them is woken directly. Time limits are deadlines: each connection has one timer,
which is moved only when a deadline comes before it.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, cast
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from bursar.kernel.clock import Clock
from bursar.providers._call import Timeouts
from bursar.providers._errors import UpstreamFailed, UpstreamTimedOut, failure_of_answer

ERROR_BYTES_MAX = 64 * 1024
"""Of what a provider says of its failure, so much is read."""

CONNECTIONS_PER_ORIGIN_MAX = 1000
"""Further requests wait for one, within the time they have to connect."""
IDLE_PER_ORIGIN_MAX = 256
IDLE_SECONDS_MAX = 15.0
"""Servers close idle connections too, some after a minute or less; a request should not meet that."""
HEADER_BYTES_MAX = 64 * 1024
"""Of an answer's headers, interim answers and trailers included, and of framing between two pieces of its body."""
HIGH_WATER_BYTES = 256 * 1024
"""A stream whose consumer is that far behind is read no further until it has caught up."""
LINGER_SECONDS = 1.0
LINGER_BYTES_MAX = 64 * 1024
"""What may still come after the part of an answer that mattered, for its connection to be used again."""
BODY_JOIN_BYTES_MAX = 64 * 1024
"""A request's body up to this size is copied behind its headers; a larger one is handed to the socket by itself."""
HEADS_CACHED_MAX = 1024
POOLS_MAX = 1024

Header = tuple[bytes, bytes]

_URL = re.compile(r"[!-~]{1,4096}")
_HOST_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,252}")
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset(
    {b"host", b"connection", b"content-length", b"transfer-encoding", b"accept-encoding", b"user-agent", b"upgrade"}
)
_ONCE = frozenset({"content-length", "transfer-encoding", "content-encoding"})
_WITHOUT_BODY = frozenset({204, 304})

_HEAD: Final = 0
_PIECE: Final = 1
_ALL: Final = 2
"""What a consumer waits for."""


class HttpError(Exception):
    """Every failure of this client. Its text never holds a header's value or an address."""


class ConnectFailed(HttpError):
    """`reason`: refused, dns, tls, reset, unreachable, closed, invalid_url, invalid_header. Nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TimedOut(HttpError):
    """While what: connect, headers, body."""


class Broken(HttpError):
    pass


class Malformed(Broken):
    pass


class TooLarge(HttpError):
    pass


class _Stale(Broken):
    """A connection used again died before the first byte of an answer: its server had given it up meanwhile."""


def upstream_failure(error: HttpError, *, before_output: bool = True) -> UpstreamFailed:
    """What those who asked for a completion are told."""
    if isinstance(error, TimedOut):
        sentence = "The provider did not answer in time."
        return UpstreamTimedOut(sentence, before_output=before_output, provider_code="timeout")
    if isinstance(error, TooLarge):
        sentence, code = "The provider's answer is too large.", "too_large"
    elif isinstance(error, Malformed):
        sentence, code = "The provider's answer is not HTTP as Bursar speaks it.", "malformed"
    elif isinstance(error, Broken):
        sentence, code = "The provider's answer broke off.", "cut"
    else:
        sentence, code = "The provider cannot be reached.", str(error)
    return UpstreamFailed(sentence, before_output=before_output, provider_code=code)


class HttpResponse:
    """An answer whose headers are here. Read it to its end, `leave` it near its end, or `close` it.

    `headers` has lowercase names; where one comes more than once, the last counts.
    """

    __slots__ = (
        "_announced", "_buffered", "_bytes_max", "_complete", "_connection", "_error", "_patience", "_pieces", "_waiter",
        "_wants", "headers", "on_piece", "status", "timeouts",
    )  # fmt: skip

    def __init__(self, connection: "_Connection", timeouts: Timeouts) -> None:
        self.status = 0
        """0 until the headers are here; nobody outside sees it so."""
        self.headers: dict[str, str] = {}
        self.timeouts = timeouts
        self.on_piece: Callable[[bytes], bool] | None = None
        """Gets what arrives while somebody waits for the next piece, and returns whether that was all there is to do; else whoever
        waits is woken, with an empty piece: `on_piece` has what arrived."""
        self._connection: _Connection | None = connection
        """None from the end of the answer on, whatever the end: the connection may be somebody else's by then."""
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._announced = 0
        self._bytes_max: int | None = None
        self._complete = False
        self._error: HttpError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wants = _HEAD
        self._patience = max(timeouts.first_byte_seconds, timeouts.idle_seconds)

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises `TooLarge`, `TimedOut`, `Broken`."""
        if max(self._announced, self._buffered) > bytes_max:
            self.close()
            raise TooLarge("body")
        if self._connection is not None:
            self._bytes_max = bytes_max
            await self._wait(_ALL, self.timeouts.idle_seconds)
        if self._error is not None:
            raise self._error
        return self._taken()

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives: each time everything that is here. Raises `TimedOut`, `Broken`.

        The first piece may take as long as the headers may: models think after them, too.
        """
        return self

    def __aiter__(self) -> "HttpResponse":
        return self

    async def __anext__(self) -> bytes:
        # An iterator and not a generator: one object less per stream, and none that would have to be closed by itself.
        if not self._pieces and self._connection is not None:
            await self._wait(_PIECE, self._patience)
        if self._pieces:
            self._patience = self.timeouts.idle_seconds
            return self._taken()
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    @property
    def ended(self) -> bool:
        """Whether the whole answer arrived, read or not."""
        return self._complete

    def leave(self) -> None:
        """The rest is not wanted, but about to end (`[DONE]` was read): the connection is used again if it does.

        `close` does nothing after it.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pieces.clear()
            self._buffered = 0
            self._bytes_max = LINGER_BYTES_MAX
            self._wants = _ALL
            connection.expect(LINGER_SECONDS)
            connection.resume()

    def close(self) -> None:
        """Drops the connection, unless the answer has ended already."""
        if self._connection is not None:
            self._connection.fail(Broken("closed"))

    async def _wait(self, wants: int, seconds: float) -> None:
        connection = self._connection
        assert connection is not None
        self._wants = wants
        self._waiter = connection.loop.create_future()
        connection.expect(seconds)
        connection.resume()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None

    def _taken(self) -> bytes:
        pieces = self._pieces
        self._buffered = 0
        if len(pieces) == 1:
            return pieces.popleft()
        content = b"".join(pieces)
        pieces.clear()
        return content


class _Connection(asyncio.Protocol):
    """One connection: idle in its pool (`response` is None), or at work for one response."""

    def __init__(self, pool: "_Pool", loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self._pool = pool
        self._parser = HttpResponseParser(self)
        self._response: HttpResponse | None = None
        self._names: dict[bytes, str] = pool.names
        self._counted = True
        """In its pool's number of connections, the time of connecting included."""
        self._gone = False
        self._paused = False
        self._reused = False
        self._heard = False
        """Whether a byte of the present answer arrived."""
        self._interim = False
        self._until_close = False
        self._keep = False
        self._overhead = 0
        self._header_bytes = 0
        self._body_pieces = 0
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # What pools and responses do with it.

    async def ask(self, head: bytes, body: bytes, timeouts: Timeouts) -> HttpResponse:
        """Raises `_Stale` where a connection used again turns out to be dead."""
        transport = self.transport
        if transport is None or self._gone or transport.is_closing():
            raise _Stale("a connection used again was dead")
        response = self._response = HttpResponse(self, timeouts)
        self._heard = self._interim = self._until_close = self._keep = False
        self._overhead = self._header_bytes = 0
        if len(body) > BODY_JOIN_BYTES_MAX:
            transport.writelines((head, body))
        else:
            transport.write(head + body)
        await response._wait(_HEAD, timeouts.first_byte_seconds)  # noqa: SLF001 - the two halves of one thing
        if response._error is not None and not response.status:  # noqa: SLF001
            raise response._error  # noqa: SLF001
        return response

    def expect(self, seconds: float) -> None:
        """Something has to happen within so many seconds, or the connection ends."""
        self._deadline = deadline = self.loop.time() + seconds
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self.loop.call_later(seconds, self._on_timer)

    def resume(self) -> None:
        if self._paused and self.transport is not None and not self._gone and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def idle(self) -> None:
        """Back in the pool."""
        self._reused = True
        self.expect(IDLE_SECONDS_MAX)

    def fail(self, error: HttpError) -> None:
        """Ends the answer it works on, if there is one, and itself."""
        response, self._response = self._response, None
        self._drop()
        if response is not None:
            response._error = error  # noqa: SLF001
            response._connection = None  # noqa: SLF001
            self._wake(response)

    def abandon(self) -> None:
        """Nobody wants it, made or half made."""
        self._drop()
        self.uncount()

    def uncount(self) -> None:
        """Gives its place in the pool to another, once."""
        if self._counted:
            self._counted = False
            self._pool.freed()

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._pool.connections.add(self)
        if not self._counted:  # whoever wanted it has left while it was being made
            self._drop()

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # nobody asked anything; or what is said after the end of an answer
            self._drop()
            return
        self._heard = True
        pieces = self._body_pieces
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not response._complete:  # noqa: SLF001
                self.fail(Malformed("not HTTP"))
                return
            self._keep = False
        if response._complete:  # noqa: SLF001
            self._finish(response)
        elif pieces != self._body_pieces:
            self._overhead = 0
            self._progress(response)
        elif (overhead := self._overhead + len(data)) > HEADER_BYTES_MAX:
            self.fail(Malformed("headers or framing without end"))
        else:
            self._overhead = overhead
            if response.status and response._wants == _HEAD:  # noqa: SLF001
                self._wake(response)

    def eof_received(self) -> None:
        self._ended(reset=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._ended(reset=exc is not None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pool.lost(self)
        self.uncount()

    # What the parser finds. An exception here comes back from `feed_data` as an HttpParserError.

    def on_message_begin(self) -> None:
        if self._response is None or self._response._complete:  # noqa: SLF001
            raise ValueError("an answer to nothing")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES_MAX:
            raise ValueError("too many headers")
        response = self._response
        assert response is not None
        if response.status:  # a trailer
            return
        key = self._names.get(name) or self._pool.name(name)
        if key in _ONCE and key in response.headers:
            raise ValueError("framing said twice")
        response.headers[key] = value.strip().decode("latin-1")

    def on_headers_complete(self) -> None:
        response = self._response
        assert response is not None
        status = self._parser.get_status_code()
        headers = response.headers
        if status < 200:
            if status < 100 or status == 101:
                raise ValueError("not an answer")
            headers.clear()
            self._interim = True
            return
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise ValueError("compressed, which was not asked for")
        transfer, length = headers.get("transfer-encoding"), headers.get("content-length")
        if transfer is not None and (
            transfer.strip().lower() != "chunked" or length is not None or self._parser.get_http_version() != "1.1"
        ):
            raise ValueError("odd framing")
        self._until_close = transfer is None and length is None and status not in _WITHOUT_BODY
        if length is not None:
            response._announced = int(length)  # noqa: SLF001
        response.status = status

    def on_body(self, piece: bytes) -> None:
        response = self._response
        assert response is not None
        self._body_pieces += 1
        response._buffered += len(piece)  # noqa: SLF001
        response._pieces.append(piece)  # noqa: SLF001

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        response = self._response
        assert response is not None
        response._complete = True  # noqa: SLF001
        self._keep = self._parser.should_keep_alive()

    # Inside.

    def _progress(self, response: HttpResponse) -> None:
        """A part of a body arrived."""
        limit = response._bytes_max  # noqa: SLF001
        if limit is not None:
            if response._buffered > limit:  # noqa: SLF001
                self.fail(TooLarge("body"))
            elif response._waiter is not None:  # noqa: SLF001 - one who lingers has a deadline that does not move
                self._deadline = self.loop.time() + response.timeouts.idle_seconds
            return
        waiter = response._waiter  # noqa: SLF001
        if response.on_piece is not None and waiter is not None and not waiter.done():
            if response.on_piece(response._taken()):  # noqa: SLF001
                self._deadline = self.loop.time() + response.timeouts.idle_seconds
                return
            response._pieces.append(b"")  # noqa: SLF001
        self._wake(response)
        if response._buffered > HIGH_WATER_BYTES and not self._paused:  # noqa: SLF001
            assert self.transport is not None
            if not self.transport.is_closing():
                self._paused = True
                self.transport.pause_reading()

    def _finish(self, response: HttpResponse) -> None:
        """The answer is here to its end: wakes its consumer and lets go of it."""
        self._response = None
        response._connection = None  # noqa: SLF001
        limit = response._bytes_max  # noqa: SLF001
        if limit is not None and response._buffered > limit:  # noqa: SLF001
            response._error = TooLarge("body")  # noqa: SLF001
        self._wake(response)
        transport = self.transport
        assert transport is not None
        if self._keep and not transport.is_closing() and transport.get_write_buffer_size() == 0:
            self._pool.put(self)
        else:
            self._drop()

    def _ended(self, *, reset: bool) -> None:
        """The other side says no more."""
        response = self._response
        if response is None:
            self._drop()
        elif response.status and self._until_close and not reset:
            response._complete = True  # noqa: SLF001
            self._keep = False
            self._finish(response)
        elif self._reused and not self._heard:
            self.fail(_Stale("a connection used again was dead"))
        else:
            self.fail(Broken("cut off"))

    def _wake(self, response: HttpResponse) -> None:
        self._deadline = None
        waiter = response._waiter  # noqa: SLF001
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self.loop.time()
        if left > 0:
            self._timer_at = self._deadline
            self._timer = self.loop.call_later(left, self._on_timer)
            return
        response = self._response
        self.fail(TimedOut("headers" if response is not None and not response.status else "body"))

    def _drop(self) -> None:
        self._deadline = None
        self._pool.forget(self)
        if self.transport is not None and not self._gone:
            self.transport.abort()


class _Pool:
    """The connections to one origin. The last one used is the first one used again, so that those not needed run out."""

    def __init__(self, host: str, port: int, tls: "Callable[[], ssl.SSLContext] | None") -> None:
        self.connections: set[_Connection] = set()
        self.names: dict[bytes, str] = {}
        self._host = host
        self._port = port
        self._tls = tls
        self._idle: list[_Connection] = []
        self._count = 0
        self._queue: deque[asyncio.Future[_Connection | None]] = deque()
        self._closed = False

    @property
    def empty(self) -> bool:
        return self._count == 0

    def take(self) -> _Connection | None:
        """An idle connection."""
        return self._idle.pop() if self._idle else None

    async def fresh(self, seconds: float) -> _Connection:
        """A new connection, or where there are too many the next one that is free. Raises `ConnectFailed`, `TimedOut`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                if self._count >= CONNECTIONS_PER_ORIGIN_MAX:
                    connection = await self._next(loop)
                    if connection is not None:
                        return connection
                else:
                    self._count += 1
                return await self._connect(loop)
        except TimeoutError:
            raise TimedOut("connect") from None

    async def _next(self, loop: asyncio.AbstractEventLoop) -> _Connection | None:
        """Whatever becomes free first: a connection, or (None) the place of one."""
        turn: asyncio.Future[_Connection | None] = loop.create_future()
        self._queue.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if (
                turn.done() and not turn.cancelled() and turn.exception() is None
            ):  # it came at the same moment: pass it on
                connection = turn.result()
                if connection is None:
                    self.freed()
                else:
                    self.put(connection)
            raise

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> _Connection:
        connection = _Connection(self, loop)
        try:
            tls = None if self._tls is None else self._tls()
            name = None if tls is None else self._host
            await loop.create_connection(lambda: connection, self._host, self._port, ssl=tls, server_hostname=name)
        except BaseException as error:
            connection.abandon()
            if isinstance(error, OSError | UnicodeError) and not isinstance(error, TimeoutError):
                raise ConnectFailed(_reason(error)) from None
            raise
        if self._closed:
            connection.abandon()
            raise ConnectFailed("closed")
        return connection

    def put(self, connection: _Connection) -> None:
        """A connection that is free and clean."""
        if self._closed:
            connection.abandon()
            return
        connection.idle()
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if len(self._idle) >= IDLE_PER_ORIGIN_MAX:
            connection.abandon()
        else:
            self._idle.append(connection)

    def freed(self) -> None:
        """There is room for one more connection."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._count -= 1

    def forget(self, connection: _Connection) -> None:
        """Not to be used again."""
        if connection in self._idle:
            self._idle.remove(connection)

    def lost(self, connection: _Connection) -> None:
        self.connections.discard(connection)

    def name(self, raw: bytes) -> str:
        """A header's name in lowercase, remembered for the next answer: a server has few."""
        name = raw.decode("latin-1").lower()
        if len(self.names) < 256 and len(raw) < 64:
            self.names[raw] = name
        return name

    def close(self) -> None:
        self._closed = True
        for connection in list(self.connections):
            connection.fail(Broken("closed"))
        for turn in self._queue:
            if not turn.done():
                turn.set_exception(ConnectFailed("closed"))
        self._queue.clear()


class HttpClient:
    """Keeps a pool of connections per scheme, host and port. Can be made before the event loop runs; is used in one loop."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str, int], _Pool] = {}
        self._heads: dict[tuple[bytes, str, tuple[Header, ...]], tuple[_Pool, bytes]] = {}
        self._context: ssl.SSLContext | None = None
        self._closed = False

    async def post(self, url: str, headers: Sequence[Header], body: bytes, timeouts: Timeouts) -> HttpResponse:
        """Returns when the headers of the answer are here. Raises `ConnectFailed`, `TimedOut`, `Broken`.

        Sets Host, Content-Length, User-Agent and Accept-Encoding itself. Sent twice only where a connection used again
        dies before a single byte of the answer: its server closed it while the request was on its way.
        """
        pool, head = self._heads.get((b"POST", url, tuple(headers))) or self._head(b"POST", url, tuple(headers))
        return await self._send(pool, b"%sContent-Length: %d\r\n\r\n" % (head, len(body)), body, timeouts)

    async def get(self, url: str, headers: Sequence[Header], timeouts: Timeouts) -> HttpResponse:
        """As `post`."""
        pool, head = self._heads.get((b"GET", url, tuple(headers))) or self._head(b"GET", url, tuple(headers))
        return await self._send(pool, head + b"\r\n", b"", timeouts)

    async def close(self) -> None:
        """Drops every connection. Whoever waits gets `Broken`."""
        self._closed = True
        self._heads.clear()
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.close()
        # Transports end in the next turns of the loop; nothing of them is left behind when this returns.
        for _ in range(100):
            if all(pool.empty for pool in pools):
                return
            await asyncio.sleep(0)

    async def _send(self, pool: _Pool, head: bytes, body: bytes, timeouts: Timeouts) -> HttpResponse:
        connection = pool.take() or await pool.fresh(timeouts.connect_seconds)
        try:
            return await connection.ask(head, body, timeouts)
        except _Stale:
            connection = await pool.fresh(timeouts.connect_seconds)
            return await connection.ask(head, body, timeouts)

    def _head(self, method: bytes, url: str, headers: tuple[Header, ...]) -> tuple[_Pool, bytes]:
        """The pool for a URL and the bytes of a request up to its last header, kept for the next one."""
        if self._closed:
            raise ConnectFailed("closed")
        origin, host, path = _split(url)
        lines = [
            b"%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bursar\r\nAccept-Encoding: identity\r\n" % (method, path, host)
        ]
        for name, value in headers:
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or name.lower() in _OURS:
                raise ConnectFailed("invalid_header")
            lines.append(b"%s: %s\r\n" % (name, value))
        if len(self._heads) >= HEADS_CACHED_MAX:
            self._heads.clear()
        made = self._heads[method, url, headers] = self._pool(origin), b"".join(lines)
        return made

    def _pool(self, origin: tuple[str, str, int]) -> _Pool:
        pool = self._pools.get(origin)
        if pool is None:
            if len(self._pools) >= POOLS_MAX:
                self._heads.clear()
                self._pools = {key: pool for key, pool in self._pools.items() if not pool.empty}
            scheme, host, port = origin
            pool = self._pools[origin] = _Pool(host, port, self._tls if scheme == "https" else None)
        return pool

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = tls_context()
        return self._context


def tls_context() -> ssl.SSLContext:
    """Takes some tens of milliseconds: it reads the system's certificates."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _split(url: str) -> tuple[tuple[str, str, int], bytes, bytes]:
    """((scheme, host, port), Host header, path with query). Raises `ConnectFailed` for what is not an http(s) URL."""
    try:
        parts = urlsplit(url if _URL.fullmatch(url) else "")  # urlsplit by itself takes line ends out without a word
        host, port = parts.hostname or "", parts.port
        literal = f"[{ipaddress.IPv6Address(host)}]" if ":" in host else None
    except ValueError:
        raise ConnectFailed("invalid_url") from None
    sound = _HOST_NAME.fullmatch(host) if literal is None else "%" not in host
    if not sound or parts.scheme not in ("http", "https") or "@" in parts.netloc or port == 0:
        raise ConnectFailed("invalid_url")
    default = 443 if parts.scheme == "https" else 80
    shown = literal or host
    if port not in (None, default):
        shown = f"{shown}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return (parts.scheme, host, port or default), shown.encode(), path.encode()


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return "dns"
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return "reset" if isinstance(error, ConnectionError) else "unreachable"


async def failure_of_response(response: HttpResponse, *, credential: str | None, clock: Clock) -> UpstreamFailed:
    """What an answer other than 200 means, with what it says of itself as far as that can be read."""
    try:
        content = await response.read(ERROR_BYTES_MAX)
    except HttpError:
        content = None
    retry_after = response.headers.get("retry-after")
    return failure_of_answer(response.status, content, retry_after=retry_after, credential=credential, clock=clock)
