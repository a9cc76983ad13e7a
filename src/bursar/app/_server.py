"""Everything that serves, built and put together."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from random import Random
from typing import Any, Literal

from bursar import ledger
from bursar.app._catalog import CatalogHolder, sandbox_is_on
from bursar.app._installation import Installation
from bursar.catalog import Provider
from bursar.gateway import (
    Admission,
    Attendant,
    ConcurrencyLimits,
    Counts,
    DatabaseFunds,
    Dispatcher,
    EndpointHealth,
    Gateway,
    JournalFunds,
    Live,
    Node,
    Seat,
    StickySessions,
    Tallies,
    Uses,
    recover_left_holds,
)
from bursar.jobs import Jobs
from bursar.kernel.errors import SettingsError
from bursar.mail import ConsoleMailer, Mailer, SmtpMailer
from bursar.processors import SandboxProcessor
from bursar.providers import Providers, UpstreamFailed
from bursar.settings import Settings
from bursar.web import WebParts, create_web

Asgi = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

LIVE, READY = "/health/live", "/health/ready"
"""For whoever watches or balances: 200 while this process runs; 200 while requests should be sent to it, else 503."""

STOP_SECONDS_MAX = 10
"""How long a stop waits for settlements once nothing runs any more; a database that is away must not keep the process."""

_log = logging.getLogger("bursar.app")


class Server:
    """Everything that serves: gateway, API, pages, jobs. `open` makes it."""

    @staticmethod
    async def open(
        installation: Installation, catalog_holder: CatalogHolder, *, pace: float = 1.0, seat: Seat | None = None
    ) -> "Server":
        """`seat`: which of a node's workers this process is. Raises what `Node.funds` raises."""
        seat = seat or Seat()
        failed = asyncio.Event()

        def stop_at_once() -> None:
            """What is on disk is not known any more: only a new start, which reads it, can tell."""
            _log.critical("the journal cannot be written: Bursar stops, and recovers when it is started again")
            failed.set()
            os.kill(os.getpid(), signal.SIGTERM)

        node = Node(
            installation.database,
            installation.data_dir.path / "journal",
            host=socket.gethostname(),
            on_failure=stop_at_once,
        )
        counts = Counts()
        funds = await node.funds(seat, installation.settings.durability, counts)
        return Server(installation, catalog_holder, node, funds, seat, failed, counts, pace=pace)

    def __init__(
        self,
        installation: Installation,
        catalog_holder: CatalogHolder,
        node: Node,
        funds: JournalFunds | DatabaseFunds,
        seat: Seat,
        failed: asyncio.Event,
        counts: Counts,
        *,
        pace: float,
    ) -> None:
        settings = installation.settings
        database, clock = installation.database, installation.clock
        self.installation = installation
        self.catalog = catalog_holder
        self.mailer = make_mailer(settings)
        self.providers = Providers(clock=clock, pace=pace)
        self.admission = Admission(database, installation.checker, clock)
        self.health = EndpointHealth(clock, Random())  # noqa: S311 - spreads load, guards nothing
        self._node, self._funds, self._seat = node, funds, seat
        self.failed = failed
        """Set when it must stop because its journal failed, and be started again."""
        uses = Uses(settings.trusted_proxies)
        self._attendant = Attendant(database, funds.worker, uses)
        self.gateway = Gateway(
            admission=self.admission,
            funds=funds,
            dispatcher=Dispatcher(
                self.providers,
                self._credential,
                health=self.health,
                sessions=StickySessions(clock),
            ),
            catalog=catalog_holder,
            clock=clock,
            credits_url=lambda caller: f"{installation.public_url}/credits?owner={caller.owner}",
            live=Live(database, self.admission, clock),
            uses=uses,
            limits=ConcurrencyLimits(
                settings.concurrency_total, settings.concurrency_per_owner, settings.concurrency_per_key
            ),
            counts=counts,
        )
        self._tallies = Tallies(
            installation.data_dir.path / "workers",
            seat,
            lambda: self.gateway.tally(funds.state() if isinstance(funds, JournalFunds) else None),
        )
        self.jobs = Jobs(database, self.mailer)
        self._api: asyncio.Future[Asgi] | None = None
        sandbox = SandboxProcessor(installation.secret) if sandbox_is_on(settings, catalog_holder) else None
        self.sells_credits = sandbox is not None
        self._web = create_web(
            WebParts(
                database=database,
                clock=clock,
                passwords=installation.passwords,
                checker=installation.checker,
                gateway=self.gateway,
                catalog=catalog_holder,
                health=self.health.look,
                processor=sandbox,
                sandbox=sandbox,
                public_url=installation.public_url,
                api_base=f"{installation.public_url}/api/v1",
                example_model=catalog_holder.example_model,
                sign_up_is_open=settings.sign_up == "open",
                mail_delivers=self.mailer.delivers,
                support_email=settings.support_email,
                secret=installation.secret,
                is_public=settings.public_url is not None,
                metrics_token=settings.metrics_token,
                tallies=self._tallies.look,
            )
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """The ASGI application. Requests for models go past every framework."""
        path = scope.get("path", "")
        if path.rstrip("/") in self.gateway.skins and scope["type"] == "http":
            await self.gateway(scope, receive, send)
        elif path in (LIVE, READY) and scope["type"] == "http":
            await self._tell_health(path, send)
        elif path.startswith("/api/"):
            await (await asyncio.shield(self._whole_api()))(_without_slash(scope), receive, send)
        else:
            await self._web(scope, receive, send)

    async def start(self) -> None:
        """Gives back what a process before this one held when it died, and starts the jobs."""
        await self.catalog.keep_prices_in(self.installation.database)
        interrupted = await self._funds.recover()
        if self._seat.index == 0:
            interrupted += await self._recover_left()
        self._funds.start()
        if interrupted:
            _log.warning(
                "%d requests were interrupted when Bursar last stopped; they cost what had arrived of them", interrupted
            )
        self._attendant.start()
        self._tallies.start()
        self.jobs.start()
        self._whole_api()

    async def _recover_left(self) -> int:
        """What others of this node left who are no more: `--workers` was higher, or durability another."""
        by_journal = self.installation.settings.durability == "journal"
        seats = self._seat.count
        interrupted = await recover_left_holds(self.installation.database, 0 if by_journal else seats)
        return interrupted + await self._node.recover_left(seats if by_journal else 0)

    async def _tell_health(self, path: str, send: Any) -> None:
        state = self.state if path == READY else "alive"
        status = 200 if state in ("alive", "ready") else 503
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"status":"%s"}' % state.encode()})

    @property
    def state(self) -> Literal["ready", "stopping", "blind"]:
        """Whether requests should be sent here."""
        if self.gateway.is_draining:
            return "stopping"
        if isinstance(self._funds, JournalFunds) and self._funds.is_forgotten:
            return "blind"
        database = self.installation.database
        return "blind" if database.clock.monotonic() - database.heard_at > ledger.BLIND_SECONDS else "ready"

    def _whole_api(self) -> "asyncio.Future[Asgi]":
        """The management API, built beside the first requests: its framework takes a third of a second to import, which
        neither the start nor a request to a model should wait for."""
        if self._api is None:
            self._api = asyncio.get_running_loop().run_in_executor(None, self._build_api)
        return self._api

    def _build_api(self) -> Asgi:
        from bursar.api import ApiParts, create_api

        database, caught_up = self.installation.database, self.gateway.caught_up
        return create_api(
            ApiParts(
                database,
                self.admission,
                self.installation.checker,
                self.health,
                self.catalog,
                caught_up,
                self.installation.public_url,
            )
        )

    async def stop(self) -> None:
        """After the last request: waits for what is owed, then lets go of everything."""
        try:
            await asyncio.wait_for(self.gateway.drain(), STOP_SECONDS_MAX)
        except TimeoutError:
            _log.error("some requests could not be settled in %d s; the next start does it", STOP_SECONDS_MAX)
        await self.jobs.stop()
        await self._attendant.stop()
        await self._tallies.stop()
        await self._funds.close()
        await self.providers.close()
        await self.installation.close()

    def _credential(self, provider: Provider) -> str | None:
        if provider.credential_env is not None:
            return self.installation.settings.credential(provider.credential_env)
        if provider.credential_file is not None:
            try:
                return Path(provider.credential_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise UpstreamFailed(
                    "The provider's credential cannot be read.",
                    remedy=f"The operator has to check credential_file of provider {provider.slug} in the catalogue.",
                ) from None
        return None


def _without_slash(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """`/api/v1/models/` is `/api/v1/models`: answered at once, never redirected by a Host header that anybody may write."""
    path = scope["path"]
    return {**scope, "path": path.rstrip("/"), "raw_path": None} if path.endswith("/") else scope


def make_mailer(settings: Settings) -> Mailer:
    if settings.smtp_host is None:
        return ConsoleMailer()
    if settings.smtp_sender is None:
        raise SettingsError(
            "BURSAR_SMTP_HOST is set, but BURSAR_SMTP_SENDER is not.", remedy="Set it like: Bursar <bursar@example.com>"
        )
    return SmtpMailer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        sender=settings.smtp_sender,
        username=settings.smtp_username,
        password=settings.smtp_password,
        security=settings.smtp_security,
    )


def run_in_loop(main: Callable[[], Awaitable[Any]]) -> Any:
    """Runs a coroutine function in an event loop of its own, uvloop's."""
    import uvloop

    async def entry() -> Any:
        return await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(entry())
