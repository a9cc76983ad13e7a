"""Which models a list shows, and in which order: OpenRouter's filters over the catalogue. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from bursar.catalog._catalog import Catalog, Endpoint, Model, Provider
from bursar.catalog._pricing import Pricing

MODALITIES = ("text", "image", "file", "audio", "video")
OUTPUT_MODALITIES = (*MODALITIES, "embeddings", "rerank", "speech", "transcription", "decisions")
"""OpenRouter's words; a model of ours has those of its `[[model]]`."""

ModelSort = Literal[
    "pricing-low-to-high",
    "pricing-high-to-low",
    "context-high-to-low",
    "newest",
    "throughput-high-to-low",
    "latency-low-to-high",
]

_SECONDS_PER_DAY = 86_400
_DOLLARS_PER_MILLION = -12
"""The power of ten from atto-dollars per token to dollars per million tokens."""


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """What a list of models is asked for; None and () ask for nothing. Prices are USD per million tokens, ages are days.

    `text` is found in id or name. A model has all of `supported_parameters` and `input_modalities`, and at least one of
    `output_modalities`, `authors` and `providers` (slugs or names). `zdr`: one of its endpoints keeps nothing.
    """

    text: str = ""
    supported_parameters: tuple[str, ...] = ()
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    context_min: int | None = None
    prompt_price_min: Decimal | None = None
    prompt_price_max: Decimal | None = None
    completion_price_min: Decimal | None = None
    completion_price_max: Decimal | None = None
    age_days_min: int | None = None
    age_days_max: int | None = None
    zdr: bool = False
    sort: ModelSort | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A model and those of its endpoints that may be used, cheapest first; at least one, each with a price."""

    model: Model
    endpoints: tuple[Endpoint, ...]

    @property
    def pricing(self) -> Pricing:
        """The cheapest endpoint's, which is what lists show."""
        pricing = self.endpoints[0].pricing
        assert pricing is not None, "what has no price is not listed"
        return pricing


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians of an endpoint, in one unit for all; None where nothing was measured."""

    latency: int | None = None
    throughput: int | None = None


UNMEASURED = Speed()


def has_price(endpoint: Endpoint) -> bool:
    """Whether it can be used at all: what has no price is refused until the operator gives it one."""
    return endpoint.pricing is not None


def list_models(
    catalog: Catalog, query: ModelQuery, now: int, *, may_use: Callable[[Endpoint], bool], speed: Callable[[str], Speed]
) -> list[Listed]:
    """The models that fit and have an endpoint that `may_use` lets through (only asked of those with a price).

    By id unless sorted; what a sort knows nothing of comes last. `now` is in Unix seconds; `speed` is asked by endpoint id.
    """
    shelf = (
        Listed(model, tuple(each for each in catalog.offers_for(model.id) if has_price(each) and may_use(each)))
        for model in catalog.models()
    )
    found = [listed for listed in shelf if listed.endpoints and _fits(listed, query, now)]
    return found if query.sort is None else sorted(found, key=_order(query.sort, speed))


def _fits(listed: Listed, query: ModelQuery, now: int) -> bool:
    model = listed.model
    wanted = query.text.strip().casefold()
    return (
        (not wanted or wanted in model.id.casefold() or wanted in model.name.casefold())
        and set(query.supported_parameters) <= set(model.supported_parameters)
        and set(query.input_modalities) <= set(model.input_modalities)
        and _meets(query.output_modalities, model.output_modalities)
        and _meets(query.authors, (model.author,))
        and _meets(query.providers, [name for each in listed.endpoints for name in _names(each.provider)])
        and (query.context_min is None or model.context_length >= query.context_min)
        and _is_between(_per_million(listed.pricing.prompt), query.prompt_price_min, query.prompt_price_max)
        and _is_between(_per_million(listed.pricing.completion), query.completion_price_min, query.completion_price_max)
        and _is_of_age(model, query, now)
        and (not query.zdr or any(endpoint.provider.keeps_nothing for endpoint in listed.endpoints))
    )


def _meets(wanted: Sequence[str], has: Sequence[str]) -> bool:
    """Whether one of them is there, whatever its case; where nothing is wanted, yes."""
    return not wanted or not {each.casefold() for each in wanted}.isdisjoint(each.casefold() for each in has)


def _names(provider: Provider) -> tuple[str, str]:
    return provider.slug, provider.name


def _per_million(attos: int) -> Decimal:
    return Decimal(attos).scaleb(_DOLLARS_PER_MILLION)


def _is_between(value: Decimal, least: Decimal | None, most: Decimal | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _is_of_age(model: Model, query: ModelQuery, now: int) -> bool:
    if query.age_days_min is None and query.age_days_max is None:
        return True
    if not model.created:  # nobody knows how old it is
        return False
    days = (now - model.created) // _SECONDS_PER_DAY
    return (query.age_days_min is None or days >= query.age_days_min) and (
        query.age_days_max is None or days <= query.age_days_max
    )


def _order(sort: ModelSort, speed: Callable[[str], Speed]) -> Callable[[Listed], tuple[bool, int, str]]:
    """Smaller comes first; equal ones by id."""

    def key(listed: Listed) -> tuple[bool, int, str]:
        value = _rank(listed, sort, speed)
        return value is None, value or 0, listed.model.id

    return key


def _rank(listed: Listed, sort: ModelSort, speed: Callable[[str], Speed]) -> int | None:
    price = listed.pricing.prompt + listed.pricing.completion
    if sort == "pricing-low-to-high":
        return price
    if sort == "pricing-high-to-low":
        return -price
    if sort == "context-high-to-low":
        return -listed.model.context_length
    if sort == "newest":
        return -listed.model.created or None
    speeds = [speed(endpoint.id) for endpoint in listed.endpoints]
    if sort == "latency-low-to-high":
        return min((each.latency for each in speeds if each.latency is not None), default=None)
    return min((-each.throughput for each in speeds if each.throughput is not None), default=None)
