"""What one request costs: pure arithmetic on integers, rounded up once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec

from bursar.kernel import money
from bursar.kernel.money import Attos, Nanos

FREE = Attos(0)

ChargeClass = Literal[
    "prompt",
    "input_cache_read",
    "input_cache_write",
    "input_cache_write_1h",
    "audio",
    "image_token",
    "completion",
    "internal_reasoning",
    "audio_output",
    "image_output",
    "request",
    "image",
]
"""What is counted and priced apart; OpenRouter's names. `audio` and `image_token` are of the prompt, `audio_output` and `image_output` of
the completion, `image` is a whole image in the prompt."""

CHARGE_CLASSES: tuple[ChargeClass, ...] = get_args(ChargeClass)

Classes = frozenset[ChargeClass]
TEXT: Classes = frozenset()
"""The classes that not every request can use, of one that can use none of them."""
PROMPT_EXTRAS: Classes = frozenset(["input_cache_write_1h", "audio", "image_token"])
COMPLETION_EXTRAS: Classes = frozenset(["audio_output", "image_output"])


@dataclass(frozen=True, slots=True)
class Pricing:
    """Prices per unit in attos (10⁻¹⁸ USD). A price that is None is that of the class which its tokens are a part of (`price_of`)."""

    prompt: Attos
    completion: Attos
    request: Attos = FREE
    image: Attos = FREE
    input_cache_read: Attos | None = None
    input_cache_write: Attos | None = None
    internal_reasoning: Attos | None = None
    input_cache_write_1h: Attos | None = None
    audio: Attos | None = None
    image_token: Attos | None = None
    audio_output: Attos | None = None
    image_output: Attos | None = None
    version: str = field(init=False, compare=False)
    """Content-addressed: equal prices have equal versions on every node. `price-` and 16 hexadecimal digits."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", _version(self))

    def price_of(self, kind: ChargeClass) -> Attos:
        """The price of its own, or that of the whole: of `input_cache_write` for an hour's, else of `prompt` or `completion`."""
        own: Attos | None = getattr(self, kind)
        return self.price_of(_PART_OF[kind]) if own is None else own

    @property
    def is_free(self) -> bool:
        inputs, outputs = dearest_input(self, PROMPT_EXTRAS), dearest_output(self, COMPLETION_EXTRAS)
        return inputs == outputs == self.request == self.image == 0


_PART_OF: Mapping[ChargeClass, ChargeClass] = {
    "input_cache_read": "prompt",
    "input_cache_write": "prompt",
    "input_cache_write_1h": "input_cache_write",
    "audio": "prompt",
    "image_token": "prompt",
    "internal_reasoning": "completion",
    "audio_output": "completion",
    "image_output": "completion",
}


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Counts of one request. Tokens that were cached or written to a cache, of sound and of images are parts of `prompt_tokens`; of
    reasoning, sound and images made are parts of `completion_tokens`; `cache_write_1h_tokens` is a part of `cache_write_tokens`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 1
    images: int = 0
    """Whole images in the prompt."""
    cache_write_1h_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a receipt: so many units of a class at a price in attos."""

    kind: ChargeClass
    count: int
    price: Attos

    @property
    def attos(self) -> int:
        return self.count * self.price


def explain(pricing: Pricing, usage: Usage) -> list[ChargeLine]:
    """The lines a charge is the sum of; classes with a count of 0 have no line.

    Parts that claim more than their whole are clamped to it, in this order, so that no token is charged twice: of the prompt what came
    from a cache, what was written to one, sound, images; of the completion reasoning, sound, images. Raises `ValueError` on a negative
    count.
    """
    return [ChargeLine(kind, count, pricing.price_of(kind)) for kind, count in _counts(usage) if count]


def charge(pricing: Pricing, usage: Usage) -> Nanos:
    """The sum of count times price over the lines of `explain`, rounded up once to a nano. Raises `ValueError` on a negative count."""
    return money.charge([(count, pricing.price_of(kind)) for kind, count in _counts(usage) if count])


def saved_by_caching(pricing: Pricing, usage: Usage) -> int:
    """In nanos, what the same request would have cost more without any cache; negative where writing cost more than reading saved."""
    plain = msgspec.structs.replace(usage, cached_tokens=0, cache_write_tokens=0, cache_write_1h_tokens=0)
    return charge(pricing, plain) - charge(pricing, usage)


def _counts(usage: Usage) -> list[tuple[ChargeClass, int]]:
    _refuse_negative(usage)
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    counts: list[tuple[ChargeClass, int]] = [("request", usage.requests), ("image", usage.images)]
    written, hour = usage.cache_write_tokens, usage.cache_write_1h_tokens
    if usage.cached_tokens or written or hour or usage.audio_tokens or usage.image_tokens:
        cached = min(usage.cached_tokens, prompt)
        written = min(written, prompt - cached)
        hour = min(hour, written)
        rest = prompt - cached - written
        audio = min(usage.audio_tokens, rest)
        image = min(usage.image_tokens, rest - audio)
        prompt = rest - audio - image
        counts += [("input_cache_read", cached), ("input_cache_write", written - hour), ("input_cache_write_1h", hour)]
        counts += [("audio", audio), ("image_token", image)]
    if usage.reasoning_tokens or usage.audio_output_tokens or usage.image_output_tokens:
        reasoning = min(usage.reasoning_tokens, completion)
        audio = min(usage.audio_output_tokens, completion - reasoning)
        image = min(usage.image_output_tokens, completion - reasoning - audio)
        completion -= reasoning + audio + image
        counts += [("internal_reasoning", reasoning), ("audio_output", audio), ("image_output", image)]
    return [("prompt", prompt), ("completion", completion), *counts]


def dearest_input(pricing: Pricing, extras: Classes = TEXT) -> Attos:
    """The most one prompt token can cost, whatever class it turns out to be: any cache's, or one of `extras`."""
    dearest = max(pricing.prompt, pricing.price_of("input_cache_read"), pricing.price_of("input_cache_write"))
    return max([dearest, *map(pricing.price_of, extras & PROMPT_EXTRAS)]) if extras else dearest


def dearest_output(pricing: Pricing, extras: Classes = TEXT) -> Attos:
    """The most one completion token can cost: as text, as reasoning, or one of `extras`."""
    dearest = max(pricing.completion, pricing.price_of("internal_reasoning"))
    return max([dearest, *map(pricing.price_of, extras & COMPLETION_EXTRAS)]) if extras else dearest


def _refuse_negative(usage: Usage) -> None:
    if min(msgspec.structs.astuple(usage)) < 0:
        raise ValueError(f"a count cannot be negative: {usage}")


_FIRST: tuple[ChargeClass, ...] = (
    "prompt", "completion", "request", "image", "input_cache_read", "input_cache_write", "internal_reasoning",
)  # fmt: skip
_LATER: tuple[ChargeClass, ...] = ("input_cache_write_1h", "audio", "image_token", "audio_output", "image_output")


def _version(pricing: Pricing) -> str:
    # The effective prices, not the spelled ones: leaving a cache price out and writing the prompt's price is the same price.
    prices = [str(pricing.price_of(kind)) for kind in _FIRST]
    # What came later is named, and only where it differs from its whole: versions that stand in old rows keep their meaning.
    prices += [
        f"{kind}:{pricing.price_of(kind)}"
        for kind in _LATER
        if pricing.price_of(kind) != pricing.price_of(_PART_OF[kind])
    ]
    digest = hashlib.sha256("|".join(prices).encode()).hexdigest()
    return f"price-{digest[:16]}"
