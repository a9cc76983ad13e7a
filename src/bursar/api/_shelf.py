"""The present catalogue and how its endpoints do, as they are told to whoever asks."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from bursar import catalog
from bursar.catalog import Catalog, Endpoint, Listed, ModelQuery, Provider, Speed
from bursar.gateway import EndpointHealth, Percentiles, find_variant
from bursar.kernel.clock import Clock
from bursar.kernel.errors import NotFound

MODEL_ID_CHARACTERS_MAX = 120

MayUse = Callable[[Endpoint], bool]
"""Whether an endpoint may serve whoever asks; only asked of those that have a price."""


def anybody(_endpoint: Endpoint) -> bool:
    """What everybody may use."""
    return True


class NoSuchModel(NotFound):
    """No model of this installation has this id, or nobody serves it."""


class Shelf:
    """The present catalogue, seen by somebody who asks."""

    def __init__(self, present: Catalog, health: EndpointHealth, clock: Clock) -> None:
        self._catalog = present
        self._health = health
        self._now = int(clock.now().timestamp())

    def list_models(self, query: ModelQuery, may_use: MayUse) -> list[Listed]:
        return catalog.list_models(self._catalog, query, self._now, may_use=may_use, speed=self._speed)

    def providers(self) -> tuple[Provider, ...]:
        return self._catalog.providers()

    def get_model(self, author: str, slug: str, may_use: MayUse) -> Listed:
        """By id, with a variant if need be. `:free` keeps what costs nothing, the others sort. Raises `NoSuchModel`."""
        name = f"{author}/{slug}"
        model, variant = find_variant(name, self._catalog)
        offers = [each for each in self._catalog.offers_for(model.id) if catalog.has_price(each)] if model else []
        offers = [each for each in offers if may_use(each) and (variant != "free" or _is_free(each))]
        if model is None or not offers:
            near = self._catalog.close_matches(name) if len(name) <= MODEL_ID_CHARACTERS_MAX and not model else ()
            hint = f"Did you mean {' or '.join(near)}?" if near else "GET /api/v1/models lists the models there are."
            raise NoSuchModel(f"{name[:MODEL_ID_CHARACTERS_MAX]} is not a valid model ID.", remedy=hint)
        if variant == "nitro":
            offers.sort(key=lambda each: -(self._speed(each.id).throughput or 0))
        return Listed(model, tuple(offers))

    def endpoint(self, endpoint: Endpoint, *, speeds: bool) -> dict[str, Any]:
        """As OpenRouter's clients read it; without `speeds` the two keys that tell them are null."""
        seen = self._health.performance(endpoint.id)
        minutes, half_hour, day = (_uptime(*counts) for counts in seen.uptimes)
        return {
            **catalog.public_endpoint(endpoint),
            "latency_last_30m": _thousandths(seen.latency_micros) if speeds else None,
            "throughput_last_30m": _thousandths(seen.throughput_millis) if speeds else None,
            "uptime_last_5m": minutes,
            "uptime_last_30m": half_hour,
            "uptime_last_1d": day,
        }

    def _speed(self, endpoint_id: str) -> Speed:
        seen = self._health.performance(endpoint_id)
        return Speed(
            latency=None if seen.latency_micros is None else seen.latency_micros.p50,
            throughput=None if seen.throughput_millis is None else seen.throughput_millis.p50,
        )


def _is_free(endpoint: Endpoint) -> bool:
    return endpoint.pricing is not None and endpoint.pricing.is_free


def _uptime(successes: int, failures: int) -> Decimal | None:
    """Per cent, to a thousandth; None where nobody asked."""
    asked = successes + failures
    return None if asked == 0 else Decimal(100_000 * successes // asked).scaleb(-3)


def _thousandths(found: Percentiles | None) -> dict[str, Decimal] | None:
    if found is None:
        return None
    return {name: Decimal(getattr(found, name)).scaleb(-3) for name in ("p50", "p75", "p90", "p99")}
