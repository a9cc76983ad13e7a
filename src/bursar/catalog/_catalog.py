"""Who serves what at which price: frozen records and pure look-ups."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from bursar.catalog._pricing import Pricing

CLOSE_MATCHES_MAX = 3

Operation = Literal["chat", "embeddings"]
EMBEDDINGS = "embeddings"
"""The output modality of a model that makes vectors; OpenRouter's word."""

CONTEXT_LENGTH_UNKNOWN = 131_072
"""Stands where no source names a context length: large, so that a hold is never too small for it."""

SUPPORTED_PARAMETERS = (
    "frequency_penalty",
    "logit_bias",
    "max_completion_tokens",
    "max_tokens",
    "presence_penalty",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
)
"""What an OpenAI-compatible upstream is taken to understand unless its model says otherwise."""

REASONING_PARAMETERS = ("include_reasoning", "reasoning", "reasoning_effort")
"""What a model that reasons understands beside; whoever lists neither of the last two is not told how much to reason."""

_NOMINAL_PROMPT_TOKENS = 1000
_NOMINAL_COMPLETION_TOKENS = 500


QUANTIZATION_UNKNOWN = "unknown"
QUANTIZATIONS = (
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32", QUANTIZATION_UNKNOWN,
)  # fmt: skip
"""OpenRouter's words."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Who serves. Holds where a credential is found, never the credential."""

    slug: str
    name: str
    protocol: str
    base_url: str | None = None
    credential_env: str | None = None
    credential_file: str | None = None
    training: bool = True
    """Whether it may train on prompts. Unknown counts as yes."""
    retention_days: int | None = None
    """How long it keeps prompts; None is unknown."""
    is_local: bool = False
    """Its address is this machine's own (or it has none, as the demo provider)."""
    real: bool = True
    """Whether calling it costs the operator real money. What runs on this machine does not."""

    @property
    def needs_credential(self) -> bool:
        return self.credential_env is not None or self.credential_file is not None

    @property
    def keeps_nothing(self) -> bool:
        """Zero data retention. Unknown counts as no."""
        return self.retention_days == 0


@dataclass(frozen=True, slots=True)
class Model:
    """What is served. `created` is in Unix seconds, 0 where unknown."""

    id: str
    name: str
    created: int = 0
    description: str = ""
    context_length: int = CONTEXT_LENGTH_UNKNOWN
    max_completion_tokens: int | None = None
    input_modalities: tuple[str, ...] = ("text",)
    output_modalities: tuple[str, ...] = ("text",)
    supported_parameters: tuple[str, ...] = SUPPORTED_PARAMETERS

    @property
    def author(self) -> str:
        return self.id.partition("/")[0]

    @property
    def takes_reasoning(self) -> bool:
        """Whether it may be told how much to reason."""
        return "reasoning" in self.supported_parameters or "reasoning_effort" in self.supported_parameters

    @property
    def operation(self) -> Operation:
        """What it is asked for: one that makes embeddings makes nothing else."""
        return "embeddings" if EMBEDDINGS in self.output_modalities else "chat"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model at a provider at a price. `pricing` None: refused until it has a price."""

    id: str
    model: Model
    provider: Provider
    upstream_model: str
    pricing: Pricing | None
    context_length: int
    max_completion_tokens: int | None = None
    quantization: str = QUANTIZATION_UNKNOWN
    """To what its weights are rounded: one of `QUANTIZATIONS`."""

    @property
    def tag(self) -> str:
        """Names it in a request's `provider.order`, `only` and `ignore`: the provider, and the quantization where that is known."""
        provider = self.provider.slug
        return provider if self.quantization == QUANTIZATION_UNKNOWN else f"{provider}/{self.quantization}"


def endpoint_id(model_id: str, provider_slug: str, upstream_model: str) -> str:
    """The same for the same three names, in every process and after every reload."""
    return f"{model_id}@{provider_slug}/{upstream_model}"


def nominal_price(pricing: Pricing | None) -> tuple[bool, int]:
    """Orders prices by what a nominal request (1,000 tokens in, 500 out) costs; no price comes last."""
    if pricing is None:
        return True, 0
    tokens = _NOMINAL_PROMPT_TOKENS * pricing.prompt + _NOMINAL_COMPLETION_TOKENS * pricing.completion
    return False, tokens + pricing.request


def cheapest_first(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """By the price of a nominal request, unpriced ones last; equal prices by id."""
    return tuple(sorted(endpoints, key=lambda endpoint: (nominal_price(endpoint.pricing), endpoint.id)))


class Catalog:
    """Everything that can be offered, immutable; a reload makes a new one."""

    __slots__ = ("_models", "_offers", "_providers")

    def __init__(self, providers: Iterable[Provider], models: Iterable[Model], endpoints: Iterable[Endpoint]) -> None:
        self._providers = tuple(sorted(providers, key=lambda provider: provider.slug))
        self._models: Mapping[str, Model] = MappingProxyType(
            {model.id: model for model in sorted(models, key=lambda model: model.id)}
        )
        offers: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            offers.setdefault(endpoint.model.id, []).append(endpoint)
        self._offers: Mapping[str, tuple[Endpoint, ...]] = MappingProxyType(
            {model_id: cheapest_first(group) for model_id, group in offers.items()}
        )

    def __repr__(self) -> str:
        return f"<Catalog of {len(self._models)} models at {len(self._providers)} providers>"

    def find_model(self, model_id: str) -> Model | None:
        return self._models.get(model_id)

    def models(self) -> tuple[Model, ...]:
        """Sorted by id; also those that nobody serves or that have no price yet."""
        return tuple(self._models.values())

    def offers_for(self, model_id: str) -> tuple[Endpoint, ...]:
        """Every endpoint of a model, cheapest first, unpriced ones (which must be refused) last; () for an unknown model."""
        return self._offers.get(model_id, ())

    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(endpoint for model_id in self._models for endpoint in self.offers_for(model_id))

    def providers(self) -> tuple[Provider, ...]:
        """Sorted by slug."""
        return self._providers

    @property
    def providers_needing_credentials(self) -> tuple[Provider, ...]:
        return tuple(provider for provider in self._providers if provider.needs_credential)

    def close_matches(self, model_id: str) -> tuple[str, ...]:
        """Up to three ids that a mistyped one may have meant, the likeliest first."""
        wanted = model_id.lower()
        found = difflib.get_close_matches(wanted, self._models, n=CLOSE_MATCHES_MAX, cutoff=0.6)
        if not found:
            slug = wanted.rpartition("/")[2]
            slugs = {known.rpartition("/")[2]: known for known in self._models}
            found = [slugs[near] for near in difflib.get_close_matches(slug, slugs, n=CLOSE_MATCHES_MAX, cutoff=0.6)]
        return tuple(found)
