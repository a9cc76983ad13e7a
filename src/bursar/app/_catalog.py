"""The catalogue that is in force, and whether it may meet sandbox credits."""

import logging

from bursar import catalog
from bursar.catalog import Catalog
from bursar.kernel.clock import Clock, SystemClock
from bursar.kernel.errors import BursarError, SettingsError
from bursar.providers import discover_local
from bursar.settings import Settings
from bursar.storage import SYSTEM, Database

EXAMPLE_MODEL = "demo/echo-1"

_log = logging.getLogger("bursar.app")


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


async def look_at_catalog(settings: Settings) -> CatalogHolder:
    """The catalogue that `bursar serve` would use. Raises `CatalogError`."""
    holder = CatalogHolder(settings, SystemClock(), demo=False, real_providers=True)
    await holder.load()
    return holder


def sandbox_is_on(settings: Settings, holder: CatalogHolder) -> bool:
    """Sandbox credits never meet a provider that costs the operator money, unless a setting says so by its name."""
    if settings.payments != "sandbox":
        return False
    return not holder.spends_real_money or settings.let_sandbox_credits_spend_real_money
