"""Serving HTTP until told to stop: the socket, the signals, the order in which things end."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Generator
from typing import Any

import uvicorn

from bursar.app import Server
from bursar.cli._http import protocol_for
from bursar.cli._socket import answer_on
from bursar.cli._socket import bind as bind_operator
from bursar.cli._workers import HURRY, Post
from bursar.kernel.errors import BursarError, SettingsError
from bursar.settings import Settings

CLOSE_SECONDS_MAX = 10
"""How long what was cut, and connections that are left, may take to end."""
BACKLOG = 2048

GARBAGE_THRESHOLDS = (20_000, 20, 100)
"""Requests make hardly any cycles, and looking for them after every 700 new objects, as is the default, costs a tenth of the CPU."""

_log = logging.getLogger("bursar.serve")


class PortInUse(SettingsError):
    """Another process listens there."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `PortInUse`, `SettingsError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == 98:
            raise PortInUse(
                f"Port {port} on {host} is in use.", remedy="Stop what listens there, or choose another with --port."
            ) from None
        raise SettingsError(
            f"Cannot listen on {host} port {port}: {error.strerror or error}.",
            remedy="Choose another with --host and --port.",
        ) from None
    return listening


def share(listening: socket.socket) -> None:
    """Lets workers listen on the address of a bound socket, which is kept to hold their place. Set after binding, so that another
    server on that port is still found."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def bind_beside(shared: socket.socket) -> socket.socket:
    """A worker's own socket on a shared address."""
    listening = socket.socket(shared.family, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        listening.setsockopt(socket.SOL_SOCKET, option, 1)
    listening.bind(shared.getsockname()[:2])
    return listening


class MustRestart(BursarError):
    """It stopped, not because it was told to: whoever supervises it starts it again."""


class _Http(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, when_ready: Callable[[], Any] | None) -> None:
        super().__init__(config)
        self._when_ready = when_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._when_ready is not None:
            self._when_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves signals to `serve`: uvicorn would raise them again at the end, and the exit code would not be 0."""
        yield


async def serve(
    server: Server,
    listening: socket.socket,
    settings: Settings,
    when_ready: Callable[[], Any] | None = None,
    *,
    post: Post | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; SIGHUP reloads the catalogue. `when_ready` is called once requests are answered; `post` is
    what a worker among several has from its supervisor."""
    http = _Http(
        uvicorn.Config(
            server,
            loop="none",
            http=protocol_for(server.gateway),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_graceful_shutdown=CLOSE_SECONDS_MAX,
            backlog=BACKLOG,
        ),
        when_ready,
    )
    ending = _Ending(server, post)
    await server.start()
    gc.collect()
    gc.freeze()  # what was made until now stays: it is not looked through again and again
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    operator_socket = await answer_on(
        post.operator if post is not None else bind_operator(server.installation.data_dir.socket), server.installation
    )
    serving = asyncio.create_task(http.serve(sockets=[listening]))
    try:
        await asyncio.wait({serving, ending.begun}, return_when=asyncio.FIRST_COMPLETED)
        await ending.drain(settings.drain_seconds)
        http.should_exit = True
        await serving
    finally:
        operator_socket.close()
        if post is None:
            server.installation.data_dir.socket.unlink(missing_ok=True)
        await server.stop()
    if server.failed.is_set():
        raise MustRestart("The journal could not be written.", remedy="Check the disk, and start Bursar again.")
    _log.info("stopped")


class _Ending:
    """When it ends, and how fast: told once, requests that run go on for a while; told again, they are cut.

    Meanwhile the server listens on: whoever asks is told that it is not ready, and requests are refused with a word.
    """

    def __init__(self, server: Server, post: Post | None) -> None:
        loop = asyncio.get_running_loop()
        self._server = server
        self._post = post
        self._reloads: set[asyncio.Task[None]] = set()
        self.begun: asyncio.Future[None] = loop.create_future()
        self._hurry: asyncio.Future[None] = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        if post is None:
            loop.add_signal_handler(signal.SIGINT, self._on_stop)
        else:
            loop.add_signal_handler(HURRY, self._on_hurry)
            loop.add_reader(post.alive, self._on_supervisor_gone)

    async def drain(self, seconds: float) -> None:
        """Returns when no request runs, or when it has been long enough."""
        finishing = asyncio.create_task(self._server.gateway.finish())
        await asyncio.wait({finishing, self._hurry}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not finishing.done():
            self._server.gateway.cut()
            await asyncio.wait({finishing}, timeout=CLOSE_SECONDS_MAX)
            finishing.cancel()

    def _on_stop(self) -> None:
        if not self.begun.done():
            self._server.gateway.is_draining = True
            self.begun.set_result(None)
            if self._server.failed.is_set():  # nothing that runs can be settled by this process
                self._on_hurry()
        elif self._post is None:
            self._on_hurry()

    def _on_hurry(self) -> None:
        self._on_stop_once()
        if not self._hurry.done():
            self._hurry.set_result(None)

    def _on_stop_once(self) -> None:
        if not self.begun.done():
            self._on_stop()

    def _on_supervisor_gone(self) -> None:
        assert self._post is not None
        asyncio.get_running_loop().remove_reader(self._post.alive)
        _log.error("the supervisor is gone: this worker stops")
        self._on_stop_once()

    def _on_reload(self) -> None:
        task = asyncio.create_task(self._server.catalog.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)


def log_to_stderr(level: str) -> None:
    """Logs go to stderr; stdout belongs to what a command answers."""
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    # uvicorn warns of every stray request: anybody could fill the log with those.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    for noisy in ("asyncio", "aiosqlite", "alembic", "sqlalchemy", "aiosmtplib"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
