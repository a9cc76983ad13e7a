"""`bursar serve`: production."""

import gc
import ipaddress
import socket
import sys
from functools import partial
from pathlib import Path

from bursar import actions, reports
from bursar.app import (
    DEMO_MARK,
    CatalogHolder,
    Installation,
    Server,
    join_installation,
    make_mailer,
    open_installation,
    run_in_loop,
)
from bursar.cli._output import refusals
from bursar.cli._serving import bind, bind_beside, log_to_stderr, serve, share
from bursar.cli._socket import bind as bind_operator
from bursar.cli._workers import Post, Supervisor
from bursar.kernel.errors import SettingsError
from bursar.settings import Settings, read_settings
from bursar.storage import SYSTEM, DataDir, recall


def run(*, port: int | None, data_dir: Path | None, host: str | None, workers: int | None = None) -> None:
    """Raises `SettingsError` before anything starts when the installation is half-configured."""
    settings = read_settings(port=port, data_dir=data_dir, host=host, workers=workers)
    log_to_stderr(settings.log_level)
    check(settings)
    listening = bind(settings.host, settings.port)
    url = f"http://{_shown(settings.host)}:{listening.getsockname()[1]}"
    with listening:
        if settings.workers == 1:
            run_in_loop(lambda: _serve_alone(settings, listening, url))
        else:
            sys.exit(_supervise(settings, listening, url))


async def _serve_alone(settings: Settings, listening: socket.socket, url: str) -> None:
    installation = await open_installation(settings, public_url=url)
    try:
        catalog, link = await _look(installation)
        server = await Server.open(installation, catalog)
    except BaseException:
        await installation.close()
        raise
    await serve(server, listening, settings, lambda: _say_ready(installation.public_url, catalog, link))


def _supervise(settings: Settings, listening: socket.socket, url: str) -> int:
    """Returns the exit code."""

    async def prepare() -> tuple[Installation, CatalogHolder, str | None]:
        installation = await open_installation(settings, public_url=url)
        try:
            catalog, link = await _look(installation)
        except BaseException:
            await installation.close()
            raise
        await installation.release()
        return installation, catalog, link

    installation, catalog, link = run_in_loop(prepare)
    data_dir = installation.data_dir
    share(listening)

    def work(post: Post) -> int:
        with refusals(as_json=False):
            run_in_loop(lambda: _serve_as_worker(settings, data_dir, listening, url, post))
        return 0

    # What every worker needs is imported once, here, and shared by all.
    import bursar.api  # noqa: F401

    gc.collect()
    gc.freeze()
    try:
        operator = bind_operator(data_dir.socket)
        ready = partial(_say_ready, installation.public_url, catalog, link)
        with operator:
            return Supervisor(settings.workers, operator, work, ready).run()
    finally:
        data_dir.socket.unlink(missing_ok=True)
        data_dir.unlock()


async def _serve_as_worker(settings: Settings, data_dir: DataDir, shared: socket.socket, url: str, post: Post) -> None:
    installation = join_installation(settings, data_dir, public_url=url)
    try:
        catalog = CatalogHolder(settings, installation.clock, demo=False, real_providers=True)
        await catalog.load()
        server = await Server.open(installation, catalog, seat=post.seat)
    except BaseException:
        await installation.close()
        raise
    with bind_beside(shared) as listening:
        await serve(server, listening, settings, post.tell_ready, post=post)


async def _look(installation: Installation) -> tuple[CatalogHolder, str | None]:
    """The catalogue, and the link for the first operator, if there is none yet. Raises `SettingsError`."""
    catalog = CatalogHolder(installation.settings, installation.clock, demo=False, real_providers=True)
    await catalog.load()
    refuse_free_spending(installation.settings, catalog)
    await refuse_free_credits(installation, catalog)
    return catalog, await actions.invite_operator(installation.database, public_url=installation.public_url)


def _say_ready(public_url: str, catalog: CatalogHolder, link: str | None) -> None:
    print(f"Bursar serves on {public_url}", file=sys.stderr)
    if not catalog().endpoints():
        print(
            "No model can be called yet: set a provider's API key (OPENAI_API_KEY, …) or BURSAR_CATALOG.",
            file=sys.stderr,
        )
    if link is not None:
        print(
            f"\nBecome this installation's operator (this link works once, for 7 days):\n\n    {link}\n",
            file=sys.stderr,
        )
    sys.stderr.flush()


def check(settings: Settings) -> None:
    """What must be set together; each refusal names the setting."""
    make_mailer(settings)
    is_sqlite = settings.database_url is None or settings.database_url.startswith("sqlite")
    if settings.workers > 1 and is_sqlite:
        raise SettingsError(
            f"{settings.workers} workers cannot share a SQLite database: it has one writer.",
            remedy="Set BURSAR_DATABASE_URL to a PostgreSQL database, or serve with --workers 1.",
        )
    if not _is_loopback(settings.host) and settings.public_url is None:
        raise SettingsError(
            f"Listening on {settings.host} needs BURSAR_PUBLIC_URL.",
            remedy="Set it to how people reach this installation, like https://bursar.example.com: it stands in every link.",
        )


def refuse_free_spending(settings: Settings, catalog: CatalogHolder) -> None:
    """Nobody may spend the operator's money by clicking."""
    if (
        settings.payments == "sandbox"
        and catalog.spends_real_money
        and not settings.let_sandbox_credits_spend_real_money
    ):
        raise SettingsError(
            "BURSAR_PAYMENTS=sandbox together with real providers would let anybody spend your money by clicking.",
            remedy="Set BURSAR_PAYMENTS=off, or BURSAR_LET_SANDBOX_CREDITS_SPEND_REAL_MONEY=true if that is what you want.",
        )


async def refuse_free_credits(installation: Installation, catalog: CatalogHolder) -> None:
    """Credits that cost nothing, a demo's or the sandbox's, must not buy what costs the operator money."""
    if not catalog.spends_real_money or installation.settings.let_sandbox_credits_spend_real_money:
        return
    async with installation.database.snapshot(SYSTEM) as snapshot:
        is_demo = await recall(snapshot, DEMO_MARK) is not None
        if not is_demo and not await reports.has_sandbox_credits(snapshot):
            return
    raise SettingsError(
        f"The data in {installation.data_dir.path} is {'a demo' if is_demo else 'from a sandbox'}: its credits cost nothing, "
        "and its keys would spend your money at real providers.",
        remedy="Start with another --data-dir, or set BURSAR_LET_SANDBOX_CREDITS_SPEND_REAL_MONEY=true if that is what you want.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
