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
from bursar.cli._socket import listen
from bursar.kernel.errors import SettingsError
from bursar.settings import Settings

DRAIN_SECONDS_MAX = 120
"""How long running requests may take to end after SIGTERM."""
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
    listening.set_inheritable(True)
    return listening


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
    server: Server, listening: socket.socket, settings: Settings, when_ready: Callable[[], Any] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT; SIGHUP reloads the catalogue. `when_ready` is called once requests are answered."""
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
            timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
            backlog=BACKLOG,
        ),
        when_ready,
    )
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def stop() -> None:
        http.should_exit = True

    def reload() -> None:
        task = asyncio.create_task(server.catalog.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    await server.start()
    gc.collect()
    gc.freeze()  # what was made until now stays: it is not looked through again and again
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    operator_socket = await listen(server.installation)
    try:
        await http.serve(sockets=[listening])
    finally:
        operator_socket.close()
        server.installation.data_dir.socket.unlink(missing_ok=True)
        await server.stop()
    _log.info("stopped")


def log_to_stderr(level: str) -> None:
    """Logs go to stderr; stdout belongs to what a command answers."""
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    # uvicorn warns of every stray request: anybody could fill the log with those.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    for noisy in ("asyncio", "aiosqlite", "alembic", "sqlalchemy", "aiosmtplib"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
