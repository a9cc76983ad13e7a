"""`bursar serve`: production."""

import ipaddress
import sys
from pathlib import Path

from bursar import actions, reports
from bursar.app import DEMO_MARK, CatalogHolder, Installation, Server, make_mailer, open_installation, run_in_loop
from bursar.cli._serving import bind, log_to_stderr, serve
from bursar.kernel.errors import SettingsError
from bursar.settings import Settings, read_settings
from bursar.storage import SYSTEM, recall


def run(*, port: int | None, data_dir: Path | None, host: str | None) -> None:
    """Raises `SettingsError` before anything starts when the installation is half-configured."""
    settings = read_settings(port=port, data_dir=data_dir, host=host)
    log_to_stderr(settings.log_level)
    check(settings)
    listening = bind(settings.host, settings.port)
    actual_port = listening.getsockname()[1]

    async def work() -> None:
        installation = await open_installation(settings, public_url=f"http://{_shown(settings.host)}:{actual_port}")
        catalog = CatalogHolder(settings, installation.clock, demo=False, real_providers=True)
        try:
            await catalog.load()
            refuse_free_spending(settings, catalog)
            await refuse_free_credits(installation, catalog)
        except BaseException:
            await installation.close()
            raise
        link = await actions.invite_operator(installation.database, public_url=installation.public_url)

        def ready() -> None:
            print(f"Bursar serves on {installation.public_url}", file=sys.stderr)
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

        await serve(Server(installation, catalog), listening, settings, ready)

    with listening:
        run_in_loop(work)


def check(settings: Settings) -> None:
    """What must be set together; each refusal names the setting."""
    make_mailer(settings)
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
