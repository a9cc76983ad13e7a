"""Why a generation cost what it cost: tokens by class × the price that was pinned, to the nano."""

from collections.abc import Sequence
from dataclasses import dataclass

from bursar import activity, catalog
from bursar.activity import Generation, UsageSource
from bursar.catalog import ChargeLine, Usage, saved_by_caching
from bursar.kernel.ids import GenerationId, OwnerId
from bursar.kernel.money import ATTOS_PER_NANO, ZERO, Nanos
from bursar.storage import Snapshot


@dataclass(frozen=True)
class Receipt:
    """What `lines` add up to, rounded up once to a nano, less what was not charged, is `charged`: exactly.

    `lines`: None where nothing explains the charge: of a request from before prices were kept. `price_version`: the prices in them,
    whatever the catalogue says today.
    """

    generation: Generation
    lines: Sequence[ChargeLine] | None
    saved_by_caching: Nanos | None = None
    """What it would have cost more without any cache; negative where writing cost more than reading saved. None: no cache was used, or
    the prices are not known."""

    @property
    def charged(self) -> Nanos:
        return self.generation.cost_nanos

    @property
    def source(self) -> UsageSource:
        """Whose counts these are."""
        return self.generation.usage_source

    @property
    def subtotal_attos(self) -> int:
        """The sum of the lines, in 10⁻¹⁸ USD."""
        return sum(line.attos for line in self.lines or ())

    @property
    def rounding_attos(self) -> int:
        """What rounding up to a nano added."""
        return -self.subtotal_attos % ATTOS_PER_NANO

    @property
    def not_charged(self) -> Nanos:
        """What was used beyond what was held and available: the house's."""
        if self.lines is None:
            return ZERO
        return Nanos((self.subtotal_attos + self.rounding_attos) // ATTOS_PER_NANO - self.charged)


async def receipt(snapshot: Snapshot, owner: OwnerId, generation: GenerationId) -> Receipt | None:
    """Of the owner's generation; None also for another owner's."""
    found = await activity.find_generation(snapshot, owner, generation)
    if found is None:
        return None
    if found.usage_source is UsageSource.NONE and not found.cost_nanos:
        return Receipt(found, ())
    pricing = None if found.price_version is None else await catalog.find_prices(snapshot, found.price_version)
    if pricing is None:
        return Receipt(found, None)
    usage = _usage(found)
    explained = Receipt(
        found,
        # A price of 0 per request or image is none.
        [each for each in catalog.explain(pricing, usage) if each.price or each.kind not in ("request", "image")],
        Nanos(saved_by_caching(pricing, usage)) if usage.cached_tokens or usage.cache_write_tokens else None,
    )
    # Rows from before all classes were kept may be charged for more than they tell.
    return explained if explained.not_charged >= 0 else Receipt(found, None)


def _usage(of: Generation) -> Usage:
    return Usage(
        prompt_tokens=of.prompt_tokens,
        completion_tokens=of.completion_tokens,
        cached_tokens=of.cached_tokens,
        cache_write_tokens=of.cache_write_tokens,
        reasoning_tokens=of.reasoning_tokens,
        images=of.images,
        cache_write_1h_tokens=of.cache_write_1h_tokens,
        audio_tokens=of.audio_tokens,
        image_tokens=of.image_tokens,
        audio_output_tokens=of.audio_output_tokens,
        image_output_tokens=of.image_output_tokens,
    )
