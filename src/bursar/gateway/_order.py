"""In which order endpoints that may serve are tried. Pure: the draw and what is known of the endpoints' health are handed in.

1. Endpoints with a significant outage come last, but are not left out.
2. Then those that lack a parameter the request names (`SOFT_PARAMETERS`), then those that miss a preferred speed.
3. A wanted `order` comes before all of that; a `sort` decides within it.
4. With neither, the first is drawn by weight 1/price² among those that 1 and 2 put first, and the others follow, cheapest first.
5. Without `order`, the endpoint that served the session last comes first while it has no outage: its prompt cache is warm.
"""

from collections.abc import Callable, Container, Sequence

import msgspec

from bursar.catalog import Endpoint, nominal_price
from bursar.gateway._preferences import Preferences, Sort

SOFT_PARAMETERS = frozenset(["tools", "response_format", "verbosity"])
"""Endpoints that do not know these are tried late even where `require_parameters` is off: the answer would be another one."""

_SYNONYMS = {
    "max_completion_tokens": "max_tokens",
    "max_tokens": "max_completion_tokens",
    "reasoning_effort": "reasoning",
    "include_reasoning": "reasoning",
}
_NEVER = 2**63


class Condition(msgspec.Struct, frozen=True):
    """How an endpoint did lately.

    `has_outage`: a significant one within the last seconds. `is_open`: its circuit refuses for `retry_after_seconds` more;
    `needs_person`: it failed for a reason that does not pass by itself. Averages are None where nothing was measured.
    """

    has_outage: bool = False
    is_open: bool = False
    needs_person: bool = False
    retry_after_seconds: int = 0
    latency_micros: int | None = None
    throughput_millis: int | None = None


HEALTHY = Condition()
Health = Callable[[str], Condition]
"""From an endpoint's id."""


def all_healthy(_endpoint_id: str) -> Condition:
    return HEALTHY


class Surroundings(msgspec.Struct, frozen=True):
    """What a plan needs from outside: health, a draw from [0, 1), the endpoints whose caches may be warm."""

    health: Health = all_healthy
    draw: float = 0.0
    favourites: Container[str] = ()


CALM = Surroundings()


def matches(endpoint: Endpoint, slug: str) -> bool:
    """Whether a slug names this endpoint: its provider, or `provider/variant`, the variant being a quantization or upstream model."""
    provider = endpoint.provider.slug
    if slug == provider:
        return True
    if not slug.startswith(provider + "/"):
        return False
    variant = slug[len(provider) + 1 :]
    upstream = endpoint.upstream_model.lower()
    return variant in (endpoint.quantization, upstream) or upstream.startswith(variant + "/")


def lacking(endpoint: Endpoint, parameters: frozenset[str]) -> list[str]:
    """The parameters that the endpoint's model does not know, sorted."""
    known = endpoint.model.supported_parameters
    return sorted(name for name in parameters if name not in known and _SYNONYMS.get(name) not in known)


def ordered(
    offers: Sequence[Endpoint],
    wanted: Preferences,
    sort: Sort | None,
    parameters: frozenset[str],
    around: Surroundings,
) -> Sequence[Endpoint]:
    """All of `offers`, each of which has a price, in the order in which they are tried."""
    if len(offers) < 2:
        return offers
    conditions = {endpoint.id: around.health(endpoint.id) for endpoint in offers}
    soft = parameters & SOFT_PARAMETERS

    tiers = {
        endpoint.id: (
            conditions[endpoint.id].has_outage,
            bool(soft and lacking(endpoint, soft)),
            _misses(conditions[endpoint.id], wanted),
        )
        for endpoint in offers
    }

    def key(endpoint: Endpoint) -> tuple[tuple[bool, bool, bool], int, int, str]:
        return tiers[endpoint.id], _speed(conditions[endpoint.id], sort), _price(endpoint), endpoint.id

    found = sorted(offers, key=key)
    if wanted.order:
        # Stable: endpoints that one slug names stay as they were, and so does the rest.
        return sorted(found, key=lambda endpoint: _rank(endpoint, wanted.order))
    if sort is None:
        best = tiers[found[0].id]
        first = _drawn([endpoint for endpoint in found if tiers[endpoint.id] == best], around.draw)
        found.remove(first)
        found.insert(0, first)
    warm = next((e for e in found if e.id in around.favourites and not conditions[e.id].has_outage), None)
    if warm is not None:
        found.remove(warm)
        found.insert(0, warm)
    return found


def _rank(endpoint: Endpoint, order: Sequence[str]) -> int:
    return next((number for number, slug in enumerate(order) if matches(endpoint, slug)), len(order))


def _price(endpoint: Endpoint) -> int:
    return nominal_price(endpoint.pricing)[1]


def _speed(condition: Condition, sort: Sort | None) -> int:
    """Smaller is better; what was never measured comes last."""
    if sort == "latency":
        return _NEVER if condition.latency_micros is None else condition.latency_micros
    if sort == "throughput":
        return _NEVER if condition.throughput_millis is None else -condition.throughput_millis
    return 0


def _misses(condition: Condition, wanted: Preferences) -> bool:
    """Whether it is known to be slower than preferred."""
    slow = wanted.max_latency_micros is not None and (condition.latency_micros or 0) > wanted.max_latency_micros
    thin = (
        wanted.min_throughput_millis is not None
        and condition.throughput_millis is not None
        and condition.throughput_millis < wanted.min_throughput_millis
    )
    return slow or thin


def _drawn(offers: Sequence[Endpoint], draw: float) -> Endpoint:
    """By weight 1/price²; free ones before all others, each as likely. `offers` are cheapest first."""
    prices = [_price(endpoint) for endpoint in offers]
    if prices[0] == 0:
        return offers[int(draw * prices.count(0))]
    weights = [(prices[0] / price) ** 2 for price in prices]
    left = draw * sum(weights)
    for endpoint, weight in zip(offers, weights, strict=True):
        left -= weight
        if left < 0:
            return endpoint
    return offers[0]
