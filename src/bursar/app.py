"""The composition: the only place that builds long-lived objects and that knows every room."""

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import bursar.activity.tables
import bursar.audit.tables
import bursar.catalog.tables
import bursar.identity.tables
import bursar.keys.tables
import bursar.ledger.tables
import bursar.organizations.tables
import bursar.payments.tables
import bursar.storage.tables  # noqa: F401 - these register the rooms' tables on the shared metadata
from bursar import catalog, ledger, storage
from bursar.catalog import Catalog, Provider
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
from bursar.identity import Passwords
from bursar.jobs import Jobs
from bursar.kernel.clock import Clock, SystemClock
from bursar.kernel.errors import BursarError, SettingsError
from bursar.keys import KeyChecker
from bursar.mail import ConsoleMailer, Mailer, SmtpMailer
from bursar.processors import SandboxProcessor
from bursar.providers import Providers, UpstreamFailed, discover_local
from bursar.settings import Settings
from bursar.storage import SYSTEM, Database, DataDir, Sealer
from bursar.web import WebParts, create_web

Asgi = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

LIVE, READY = "/health/live", "/health/ready"
"""For whoever watches or balances: 200 while this process runs; 200 while requests should be sent to it, else 503."""

EXAMPLE_MODEL = "demo/echo-1"
DEMO_MARK = "demo"
"""The fact, kept in the database, that `bursar demo` made this data."""

CONNECTIONS_OF_A_NODE = 16
"""Of PostgreSQL's; its workers share them."""
CONNECTIONS_LEAST = 4
"""Of one worker."""
STOP_SECONDS_MAX = 10
"""How long a stop waits for settlements once nothing runs any more; a database that is away must not keep the process."""

_log = logging.getLogger("bursar.app")


SYSTEM_CLOCK: Clock = SystemClock()
"""For commands that open no installation."""


@dataclass
class Installation:
    """What every command needs: the data directory, its secret and the database. `open_installation` makes it."""

    settings: Settings
    data_dir: DataDir
    clock: Clock
    secret: bytes
    database: Database
    checker: KeyChecker
    public_url: str
    passwords: Passwords = field(default_factory=Passwords)

    async def close(self) -> None:
        await self.release()
        self.data_dir.unlock()

    async def release(self) -> None:
        """Lets go of everything but the data directory."""
        self.passwords.close()
        await self.database.close()


async def open_installation(settings: Settings, *, public_url: str | None = None) -> Installation:
    """Takes the data directory for this process and brings the schema up to date.

    Raises `DataDirInUse`, `SettingsError` and what `storage.migrate` raises.
    """
    data_dir = DataDir(settings.data_dir)
    data_dir.lock()
    installation = join_installation(settings, data_dir, public_url=public_url)
    database, secret = installation.database, installation.secret
    try:
        await storage.migrate(database)
        await storage.check_secret(database, secret)
    except BaseException:
        await installation.close()
        raise
    return installation


def join_installation(settings: Settings, data_dir: DataDir, *, public_url: str | None = None) -> Installation:
    """One that another process has opened and holds: a worker's, whose supervisor took the data directory."""
    clock = SystemClock()
    secret = data_dir.secret(settings.secret)
    return Installation(
        settings=settings,
        data_dir=data_dir,
        clock=clock,
        secret=secret,
        database=make_database(settings, data_dir, secret, clock),
        checker=KeyChecker(secret),
        public_url=settings.public_url or public_url or f"http://{settings.host}:{settings.port}",
    )


def make_database(settings: Settings, data_dir: DataDir, secret: bytes, clock: Clock) -> Database:
    """A further `Database` on the installation's data; the caller closes it."""
    url = settings.database_url or data_dir.database_url
    connections = max(CONNECTIONS_LEAST, CONNECTIONS_OF_A_NODE // settings.workers)
    return Database(url, clock=clock, sealer=Sealer(secret), node=data_dir.node(), connections=connections)


async def look_at_schema(settings: Settings) -> str | None:
    """The schema's revision, None for an empty database; without the lock, changing nothing."""
    database = make_database(settings, DataDir(settings.data_dir), secrets.token_bytes(32), SystemClock())
    try:
        return await storage.current_revision(database)
    finally:
        await database.close()


class NothingToLookAt(SettingsError):
    """There is no installation in the data directory, or its schema is not this version's."""


@asynccontextmanager
async def look_at_installation(settings: Settings) -> AsyncIterator[Database]:
    """The installation's database for reading, beside a server or without one: nothing is made, locked, migrated or written.

    Raises `NothingToLookAt`, `storage.DatabaseUnavailable`.
    """
    file = settings.data_dir.absolute() / "bursar.db"
    if settings.database_url is None and not file.is_file():
        raise NothingToLookAt(f"There is no database {file}.", remedy="Name the right folder with --data-dir.")
    url = settings.database_url or f"sqlite:///{file}"
    nobody = Sealer(secrets.token_bytes(32))
    database = Database(url, clock=SystemClock(), sealer=nobody, node="look", read_only=True)
    try:
        revision = await storage.current_revision(database)
        if revision != storage.head_revision():
            raise NothingToLookAt(
                f"The database has schema {revision or 'none'}, this Bursar reads {storage.head_revision()}.",
                remedy="`bursar migrate` brings it to this version's; a running server of another version is asked by its own.",
            )
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_copy(settings: Settings) -> AsyncIterator[tuple[Database, bytes | None]]:
    """The database that a backup is restored to, and the installation's secret as far as it is there: none is made."""
    data_dir = DataDir(settings.data_dir)
    file = data_dir.path / "secret"
    secret = data_dir.secret(settings.secret) if settings.secret is not None or file.is_file() else None
    url = settings.database_url or data_dir.database_url
    sealer = Sealer(secret or secrets.token_bytes(32))
    database = Database(url, clock=SystemClock(), sealer=sealer, node="restore")
    try:
        yield database, secret
    finally:
        await database.close()


async def look_at_catalog(settings: Settings) -> "CatalogHolder":
    """The catalogue that `bursar serve` would use. Raises `CatalogError`."""
    holder = CatalogHolder(settings, SystemClock(), demo=False, real_providers=True)
    await holder.load()
    return holder


class CatalogHolder:
    """The present catalogue. A reload that fails keeps the old one."""

    def __init__(self, settings: Settings, clock: Clock, *, demo: bool, real_providers: bool) -> None:
        self._settings = settings
        self._clock = clock
        self._demo = demo
        self._real_providers = real_providers
        self._catalog = Catalog([], [], [])
        self._database: Database | None = None

    def __call__(self) -> Catalog:
        return self._catalog

    async def load(self) -> None:
        """Raises `CatalogError`, naming file and line; once prices are kept, also what the database raises."""
        variables = self._settings.provider_variables
        local_models: dict[str, list[str]] = {}
        if catalog.OLLAMA_VARIABLE in variables:
            local_models["ollama"] = await discover_local(_local_url(variables[catalog.OLLAMA_VARIABLE]))
        offered = catalog.load(
            demo=self._demo,
            file=self._settings.catalog,
            environment=variables,
            real_providers=self._real_providers,
            clock=self._clock,
            local_models=local_models,
        )
        await self._keep_prices(offered)
        self._catalog = offered

    async def keep_prices_in(self, database: Database) -> None:
        """From now on nothing is offered at a price that is not stored first: a charge can be explained when the catalogue is another."""
        self._database = database
        await self._keep_prices(self._catalog)

    async def _keep_prices(self, offered: Catalog) -> None:
        if self._database is not None:
            prices = [endpoint.pricing for endpoint in offered.endpoints() if endpoint.pricing is not None]
            async with self._database.begin(SYSTEM) as tx:
                await catalog.store_prices(tx, prices)

    async def reload(self) -> None:
        before, sold = self._catalog, sandbox_is_on(self._settings, self)
        try:
            await self.load()
        except BursarError as error:
            remedy = error.remedy if error.remedy and error.remedy not in error.sentence else ""
            _log.error("the catalogue was not reloaded: %s %s", error.sentence, remedy)
            return
        if sold and not sandbox_is_on(self._settings, self):
            self._catalog = before
            _log.error(
                "the catalogue was not reloaded: it adds a real provider while sandbox credits are sold, so that anybody could "
                "spend your money by clicking. A restart turns sandbox purchases off; "
                "BURSAR_LET_SANDBOX_CREDITS_SPEND_REAL_MONEY=true allows both."
            )
        else:
            _log.info("the catalogue was reloaded: %r", self._catalog)

    @property
    def spends_real_money(self) -> bool:
        return any(endpoint.provider.real for endpoint in self._catalog.endpoints())

    def example_model(self) -> str:
        """A model for snippets: the demo's, else the first that has a price."""
        offered = [endpoint.model.id for endpoint in self._catalog.endpoints() if endpoint.pricing is not None]
        return EXAMPLE_MODEL if EXAMPLE_MODEL in offered or not offered else offered[0]


def _local_url(value: str) -> str:
    try:
        return catalog.local_base_url(value)
    except ValueError:
        raise SettingsError(
            f"{catalog.OLLAMA_VARIABLE} is not an address.", remedy="Write it like 127.0.0.1:11434."
        ) from None


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


def sandbox_is_on(settings: Settings, holder: CatalogHolder) -> bool:
    """Sandbox credits never meet a provider that costs the operator money, unless a setting says so by its name."""
    if settings.payments != "sandbox":
        return False
    return not holder.spends_real_money or settings.let_sandbox_credits_spend_real_money


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
