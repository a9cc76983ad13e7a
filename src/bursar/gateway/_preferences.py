"""The request's `provider` object: what the one who asks wants of whoever serves.

OpenRouter's fields and units (`max_price`: USD per million tokens, per request, per image, per million tokens of sound; `preferred_max_latency`: seconds;
`preferred_min_throughput`: tokens per second). A field that is not built is refused, never ignored: a wish that is quietly
dropped looks like one that was granted. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal, InvalidOperation
from typing import Any, Literal, cast, get_args

from bursar.catalog import QUANTIZATIONS
from bursar.kernel.errors import InvalidInput

SLUGS_MAX = 100
PRICE_CHARACTERS_MAX = 40
PRICE_USD_MAX = 10**9
TOKENS_PER_PRICE = 1_000_000
"""`max_price.prompt`, `.completion` and `.audio` are for this many tokens."""

Sort = Literal["price", "throughput", "latency"]
Partition = Literal["model", "none"]

_PERCENTILES = ("p50", "p75", "p90", "p99")
_PRICES = ("prompt", "completion", "request", "image", "audio")
_KNOWN = (
    "order",
    "only",
    "ignore",
    "allow_fallbacks",
    "require_parameters",
    "data_collection",
    "zdr",
    "quantizations",
    "sort",
    "max_price",
    "preferred_min_throughput",
    "preferred_max_latency",
)
_EXACT = Context(prec=2 * PRICE_CHARACTERS_MAX, rounding=ROUND_FLOOR)


class InvalidPreference(InvalidInput):
    """A field of the `provider` object is not what it should be, or is not built."""


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """Ceilings in attos (10⁻¹⁸ USD): of `TOKENS_PER_PRICE` tokens (of sound in the prompt: `audio`), of a request, of an image. None: no ceiling."""

    prompt: int | None = None
    completion: int | None = None
    request: int | None = None
    image: int | None = None
    audio: int | None = None


@dataclass(frozen=True, slots=True)
class Preferences:
    """The `provider` object. `only` None: any; an empty one allows nobody. Slugs are lower case.

    `min_throughput_millis`: thousandths of a token per second. `max_latency_micros`: until the first token.
    """

    order: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    no_training: bool = False
    no_retention: bool = False
    quantizations: frozenset[str] | None = None
    sort: Sort | None = None
    partition: Partition = "model"
    max_price: MaxPrice | None = None
    min_throughput_millis: int | None = None
    max_latency_micros: int | None = None


NO_PREFERENCES = Preferences()


def read_preferences(provider: Any) -> Preferences:
    """From the decoded JSON of the field `provider`. Raises `InvalidPreference`, naming the field and what to write there."""
    if provider is None:
        return NO_PREFERENCES
    if not isinstance(provider, dict):
        raise _wrong("provider", "an object is required")
    _refuse_unknown(provider)
    if provider.get("data_collection") not in (None, "allow", "deny"):
        raise _wrong("provider.data_collection", "allow or deny is required")
    sort, partition = _sort(provider.get("sort"))
    return Preferences(
        order=_slugs(provider, "order") or (),
        only=_slugs(provider, "only"),
        ignore=_slugs(provider, "ignore") or (),
        allow_fallbacks=_flag(provider, "allow_fallbacks", default=True),
        require_parameters=_flag(provider, "require_parameters", default=False),
        no_training=provider.get("data_collection") == "deny",
        no_retention=_flag(provider, "zdr", default=False),
        quantizations=_quantizations(provider),
        sort=sort,
        partition=partition,
        max_price=_max_price(provider.get("max_price")),
        min_throughput_millis=_cutoff(provider, "preferred_min_throughput", 1_000),
        max_latency_micros=_cutoff(provider, "preferred_max_latency", 1_000_000),
    )


def _refuse_unknown(provider: Mapping[str, Any]) -> None:
    for name, value in provider.items():
        # `options` is passed on to a provider elsewhere; an empty one asks for nothing, as null does.
        if name in _KNOWN or value is None or (name == "options" and value == {}):
            continue
        raise InvalidPreference(
            f"provider.{name[:80]} is not supported yet.",
            remedy=f"Supported: {', '.join(sorted(_KNOWN))}.",
            field="provider",
        )


def _flag(provider: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """What protects somebody is never quietly read as off because it was misspelled."""
    value = provider.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(f"provider.{name}", "true or false is required")
    return default if value is None else value


def _slugs(provider: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    value = provider.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > SLUGS_MAX or not all(isinstance(slug, str) for slug in value):
        raise _wrong(f"provider.{name}", f"a list of at most {SLUGS_MAX} provider slugs is required")
    return tuple(slug.lower() for slug in cast("list[str]", value))


def _quantizations(provider: Mapping[str, Any]) -> frozenset[str] | None:
    value = provider.get("quantizations")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) and each in QUANTIZATIONS for each in value):
        raise _wrong("provider.quantizations", f"a list of {', '.join(QUANTIZATIONS)} is required")
    return frozenset(value)


def _sort(value: Any) -> tuple[Sort | None, Partition]:
    partition: Any = None
    if isinstance(value, dict):
        if not value.keys() <= {"by", "partition"}:
            raise _wrong("provider.sort", "an object has by and partition only")
        value, partition = value.get("by"), value.get("partition")
    if value is not None and value not in get_args(Sort):
        raise _wrong("provider.sort", f"one of {', '.join(get_args(Sort))} is required")
    if partition is not None and partition not in get_args(Partition):
        raise _wrong("provider.sort.partition", f"one of {', '.join(get_args(Partition))} is required")
    return value, partition or "model"


def _max_price(value: Any) -> MaxPrice | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _wrong("provider.max_price", "an object is required")
    unknown = [name for name, price in value.items() if name not in _PRICES and price is not None]
    if unknown:
        raise _wrong(f"provider.max_price.{unknown[0][:80]}", f"not supported yet; {', '.join(_PRICES)} are")
    return MaxPrice(**{name: _attos(name, value.get(name)) for name in _PRICES})


def _attos(name: str, value: Any) -> int | None:
    """USD as attos, exactly. What is finer than an atto is cut off, which no price can tell: prices are whole attos."""
    if value is None:
        return None
    # JSON numbers with a point arrive as binary fractions; `repr` gives back the shortest decimal, which is what was written.
    text = value.strip() if isinstance(value, str) else repr(value)
    try:
        usd = Decimal(text if len(text) <= PRICE_CHARACTERS_MAX else "NaN")
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or usd.is_signed() or usd > PRICE_USD_MAX:
        raise _wrong(f"provider.max_price.{name}", f'USD from 0 to {PRICE_USD_MAX}, like "0.5", is required')
    return int(usd.scaleb(18, _EXACT).to_integral_value(ROUND_FLOOR, _EXACT))


def _cutoff(provider: Mapping[str, Any], name: str, scale: int) -> int | None:
    """A number, or an object of percentiles, of which the lowest counts: only an average is known of an endpoint."""
    value = provider.get(name)
    if isinstance(value, dict) and not value.keys() <= set(_PERCENTILES):
        raise _wrong(f"provider.{name}", f"an object has {', '.join(_PERCENTILES)} only")
    listed = [value.get(each) for each in _PERCENTILES] if isinstance(value, dict) else [value]
    given = [each for each in listed if each is not None]
    for each in given:
        if isinstance(each, bool) or not isinstance(each, int | float) or not 0 <= each <= 10**9:
            raise _wrong(f"provider.{name}", "a number, or an object with p50 to p99, is required")
    return int(given[0] * scale) if given else None


def _wrong(field: str, what: str) -> InvalidPreference:
    return InvalidPreference(f"{field}: {what}.", field="provider")
