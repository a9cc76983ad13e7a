"""What one request costs: pure arithmetic on integers, rounded up once."""

import hashlib
from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec

from bursar.kernel import money
from bursar.kernel.money import Attos, Nanos

FREE = Attos(0)

ChargeClass = Literal[
    "prompt", "input_cache_read", "input_cache_write", "completion", "internal_reasoning", "request", "image"
]


@dataclass(frozen=True, slots=True)
class Pricing:
    """Prices per unit in attos (10⁻¹⁸ USD). A cache price that is None is the prompt's, a reasoning price the completion's."""

    prompt: Attos
    completion: Attos
    request: Attos = FREE
    image: Attos = FREE
    input_cache_read: Attos | None = None
    input_cache_write: Attos | None = None
    internal_reasoning: Attos | None = None
    version: str = field(init=False, compare=False)
    """Content-addressed: equal prices have equal versions on every node. `price-` and 16 hexadecimal digits."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", _version(self))

    @property
    def cache_read(self) -> Attos:
        return self.prompt if self.input_cache_read is None else self.input_cache_read

    @property
    def cache_write(self) -> Attos:
        return self.prompt if self.input_cache_write is None else self.input_cache_write

    @property
    def reasoning(self) -> Attos:
        return self.completion if self.internal_reasoning is None else self.internal_reasoning

    @property
    def is_free(self) -> bool:
        return dearest_input(self) == dearest_output(self) == self.request == self.image == 0


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Counts of one request. `cached_tokens` and `cache_write_tokens` are parts of `prompt_tokens`, `reasoning_tokens` of `completion_tokens`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 1
    images: int = 0


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a receipt: so many units of a class at a price in attos."""

    kind: ChargeClass
    count: int
    price: Attos


def explain(pricing: Pricing, usage: Usage) -> list[ChargeLine]:
    """The lines a charge is the sum of; classes with a count of 0 have no line.

    A part that claims more than its whole is clamped to it (cache reads first, then cache writes), so that no token is
    charged twice. Raises `ValueError` on a negative count.
    """
    lines = zip(_KINDS, _priced(pricing, usage), strict=True)
    return [ChargeLine(kind, count, price) for kind, (count, price) in lines if count]


def charge(pricing: Pricing, usage: Usage) -> Nanos:
    """The sum of count times price over the lines of `explain`, rounded up once to a nano. Raises `ValueError` on a negative count."""
    return money.charge(_priced(pricing, usage))


_KINDS: tuple[ChargeClass, ...] = get_args(ChargeClass)


def _priced(pricing: Pricing, usage: Usage) -> list[tuple[int, Attos]]:
    """Count and price of each class, in the order of `_KINDS`."""
    _refuse_negative(usage)
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    cached = min(usage.cached_tokens, prompt)
    written = min(usage.cache_write_tokens, prompt - cached)
    reasoning = min(usage.reasoning_tokens, completion)
    return [
        (prompt - cached - written, pricing.prompt),
        (cached, pricing.cache_read),
        (written, pricing.cache_write),
        (completion - reasoning, pricing.completion),
        (reasoning, pricing.reasoning),
        (usage.requests, pricing.request),
        (usage.images, pricing.image),
    ]


def dearest_input(pricing: Pricing) -> Attos:
    """The most one prompt token can cost, whatever class it turns out to be."""
    return max(pricing.prompt, pricing.cache_read, pricing.cache_write)


def dearest_output(pricing: Pricing) -> Attos:
    """The most one completion token can cost."""
    return max(pricing.completion, pricing.reasoning)


def _refuse_negative(usage: Usage) -> None:
    counts = (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.requests,
        usage.images,
    )
    if min(counts) < 0:
        raise ValueError(f"a count cannot be negative: {usage}")


def _version(pricing: Pricing) -> str:
    # The effective prices, not the spelled ones: leaving a cache price out and writing the prompt's price is the same price.
    prices = (
        pricing.prompt,
        pricing.completion,
        pricing.request,
        pricing.image,
        pricing.cache_read,
        pricing.cache_write,
        pricing.reasoning,
    )
    digest = hashlib.sha256("|".join(map(str, prices)).encode()).hexdigest()
    return f"price-{digest[:16]}"
