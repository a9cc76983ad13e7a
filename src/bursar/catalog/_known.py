"""Providers that are known by the variable their credential usually stands in, and what `genai_prices` says of their models.

How a published price becomes one Bursar can charge, erring on the side of what the operator pays:

1. A price that depends on the length of the input (tiers) is taken at its dearest tier, for every length.
2. Of prices that begin on a date, the one in force when the catalogue is loaded counts; a reload picks up the next.
   Of prices that depend on the time of day, the dearest counts at every hour, class by class.
3. What is charged in units that a chat completion does not report (seconds, characters, pages, generated images or sound) is
   not offered. Searches that a provider runs itself have no class of their own and must not be asked for. What of a sound or an image
   came from a cache costs what cached text costs.
4. A fraction of an atto-dollar is rounded up.

The operator's catalogue file overrides all of it. `genai_prices` is imported only when needed: it costs half a second.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

from bursar.catalog._catalog import (
    CONTEXT_LENGTH_UNKNOWN,
    REASONING_PARAMETERS,
    SUPPORTED_PARAMETERS,
    Model,
    Provider,
)
from bursar.catalog._pricing import FREE, Pricing
from bursar.kernel.money import Attos

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices
    from genai_prices.types import Provider as Publisher

OLLAMA_PORT = 11434

MODEL_ID = re.compile(r"[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._+-]*(:[a-z0-9][a-z0-9._-]*)?")
"""`author/slug`, with a variant after a colon if need be."""


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """`prices_as` is its name in `genai_prices` (None: a local one, whose models are asked for and cost nothing)."""

    provider: Provider
    author: str
    prices_as: str | None
    upstream_prefix: str = ""
    only: str = ""
    """A pattern of the upstream names it really serves at this address, where the price list holds more."""


@dataclass(frozen=True, slots=True)
class KnownOffer:
    """A model as one provider lists it."""

    model: Model
    upstream_model: str
    pricing: Pricing | None


def _known(
    variable: str,
    slug: str,
    name: str,
    base_url: str,
    prices_as: str,
    *,
    protocol: str = "openai",
    author: str | None = None,
    training: bool = True,
    retention_days: int | None = None,
    upstream_prefix: str = "",
    only: str = "",
) -> tuple[str, KnownProvider]:
    provider = Provider(
        slug=slug,
        name=name,
        protocol=protocol,
        base_url=base_url,
        credential_env=variable,
        training=training,
        retention_days=retention_days,
    )
    return variable, KnownProvider(provider, author or slug, prices_as, upstream_prefix, only)


OLLAMA_VARIABLE = "OLLAMA_HOST"

_OLLAMA = KnownProvider(
    Provider(
        slug="ollama",
        name="Ollama",
        protocol="openai",
        base_url=f"http://127.0.0.1:{OLLAMA_PORT}/v1",
        training=False,
        retention_days=0,
        is_local=True,
        real=False,
    ),
    author="ollama",
    prices_as=None,
)

KNOWN_PROVIDERS: Mapping[str, KnownProvider] = MappingProxyType(
    dict(
        [
            _known("OPENAI_API_KEY", "openai", "OpenAI", "https://api.openai.com/v1", "openai", only=r"(?!gpt-oss|gpt-4o:)(gpt-|chatgpt-|codex-|o\d)", training=False, retention_days=30),
            _known("ANTHROPIC_API_KEY", "anthropic", "Anthropic", "https://api.anthropic.com", "anthropic", protocol="anthropic", training=False, retention_days=30),
            _known("GROQ_API_KEY", "groq", "Groq", "https://api.groq.com/openai/v1", "groq", training=False),
            _known("MISTRAL_API_KEY", "mistral", "Mistral", "https://api.mistral.ai/v1", "mistral", author="mistralai"),
            _known("DEEPSEEK_API_KEY", "deepseek", "DeepSeek", "https://api.deepseek.com/v1", "deepseek"),
            _known("XAI_API_KEY", "xai", "xAI", "https://api.x.ai/v1", "x-ai", author="x-ai", training=False, retention_days=30),
            _known("TOGETHER_API_KEY", "together", "Together", "https://api.together.xyz/v1", "together"),
            _known("FIREWORKS_API_KEY", "fireworks", "Fireworks", "https://api.fireworks.ai/inference/v1", "fireworks", upstream_prefix="accounts/fireworks/models/"),
            _known("CEREBRAS_API_KEY", "cerebras", "Cerebras", "https://api.cerebras.ai/v1", "cerebras", training=False),
            # Its OpenAI-compatible address, which serves Google's own models only.
            _known("GEMINI_API_KEY", "google", "Google AI Studio", "https://generativelanguage.googleapis.com/v1beta/openai", "google", only=r"gemini-|gemma-"),
            _known("OPENROUTER_API_KEY", "openrouter", "OpenRouter", "https://openrouter.ai/api/v1", "openrouter"),
            (OLLAMA_VARIABLE, _OLLAMA),
        ]
    )
)  # fmt: skip
"""By the name of the variable: exactly what `settings` may read for providers. The values are credentials, but for the address in OLLAMA_HOST."""

KNOWN_BY_SLUG: Mapping[str, tuple[str, KnownProvider]] = MappingProxyType(
    {known.provider.slug: (variable, known) for variable, known in KNOWN_PROVIDERS.items()}
)

_AUTHORS = (
    ("gpt-oss", "openai"),
    ("gpt-", "openai"),
    ("llama", "meta-llama"),
    ("codellama", "meta-llama"),
    ("qwen", "qwen"),
    ("qwq", "qwen"),
    ("gemma", "google"),
    ("gemini", "google"),
    ("kimi", "moonshotai"),
    ("deepseek", "deepseek"),
    ("mistral", "mistralai"),
    ("mixtral", "mistralai"),
    ("zai-glm", "z-ai"),
    ("glm", "z-ai"),
    ("minimax", "minimax"),
    ("nemotron", "nvidia"),
)
"""Who made an open model that a host lists without its author. The first beginning that fits counts."""

_HOSTS = frozenset({"groq", "together", "fireworks", "cerebras"})

_NOT_CHAT = re.compile(
    r"embed|whisper|transcri|realtime|\btts|-tts|(?<!^gpt-)audio|-image|image-|imagen|moderation|guard|voice|voxtral|ocr|live|"
    r"davinci|babbage|^ada$|^curie$|instruct$(?<=turbo-instruct)|search|deep-research|computer-use|orpheus|rerank|^ft:|[-.]$|\.ft-|:batch$"
)
"""Names of models that chat completions do not serve, or that charge for more than tokens."""

_NOT_TOKENS = (
    "output_video_mtok",
    "audio_hours",
    "input_audio_hours",
    "input_mchars",
)

_SEES_IMAGES = re.compile(
    r"gpt-4o|gpt-4\.1|gpt-5|gpt-6|^o[134](-|$)|claude-|gemini-|gemma-[34]|pixtral|vision|llama-4|grok-4|-vl-"
)

_THINKS = re.compile(
    r"^o\d(-|$)|/o\d(-|$)|gpt-[5-9](?!.*chat)|gpt-oss|codex|claude-(3-7|3\.7|(opus|sonnet)-[4-9]|haiku-(4-[5-9]|4\.[5-9]|[5-9])|fable|mythos)|"
    r"gemini-(2\.5|[3-9])|grok-(3-mini|[4-9](?!.*non-reasoning))|deepseek-(r\d|reasoner)|-thinking|magistral|qwq|glm-(4\.[5-9]|[5-9])|minimax-m\d"
)
"""Names of models that take an effort or a budget for reasoning: others refuse to be told."""


def local_base_url(host: str) -> str:
    """OLLAMA_HOST as Ollama reads it (`host`, `host:port`, a URL, an address to bind to) → where its OpenAI-compatible API is.

    Raises `ValueError` for what is no address.
    """
    from urllib.parse import urlsplit

    parts = urlsplit(host.strip() if "://" in host else f"http://{host.strip()}")
    if parts.scheme not in {"http", "https"} or parts.username or parts.password:
        raise ValueError("not an address of a local server")
    name = parts.hostname or "127.0.0.1"
    if name in {"0.0.0.0", "::"}:  # noqa: S104 -- what a server binds to; asking it goes to this machine
        name = "127.0.0.1"
    name = f"[{name}]" if ":" in name else name
    default = OLLAMA_PORT if parts.scheme == "http" else 443
    return f"{parts.scheme}://{name}:{parts.port or default}/v1"


def local_offers(author: str, names: list[str]) -> list[KnownOffer]:
    """What a local server says it has, at the explicit price of 0."""
    offers = []
    for name in sorted(set(names)):
        slug = re.sub(r"[^a-z0-9._:+-]+", "-", name.lower()).strip("-.").removesuffix(":latest")
        model_id = f"{author}/{slug}"
        if MODEL_ID.fullmatch(model_id):
            model = Model(id=model_id, name=name, description="Runs on this installation's own machine.")
            offers.append(KnownOffer(model, name, Pricing(FREE, FREE)))
    return offers


def known_offers(known: KnownProvider, at: datetime) -> list[KnownOffer]:
    """The chat models of a known provider with the prices in force at this time, from `genai_prices`."""
    publisher = _publisher(known.prices_as)
    if publisher is None:
        return []
    offers: dict[str, KnownOffer] = {}
    for info in publisher.models:
        offer = _offer(known, info, at)
        if offer is not None:
            offers.setdefault(offer.model.id, offer)
    return list(offers.values())


def find_known_model(model_id: str, at: datetime) -> Model | None:
    """A model that any known provider lists under this id, its author's own list first."""
    author = model_id.partition("/")[0]
    lists = sorted(KNOWN_PROVIDERS.values(), key=lambda known: known.author != author)
    for known in lists:
        for offer in known_offers(known, at):
            if offer.model.id == model_id:
                return offer.model
    return None


def find_known_pricing(provider: Provider, upstream_model: str, at: datetime) -> Pricing | None:
    """The published price of this upstream model at this provider, recognised by its slug or its address; None if not known."""
    if provider.is_local or provider.protocol == "demo":
        return None
    publisher = _publisher_of(provider)
    info = None if publisher is None else publisher.find_model(upstream_model)
    if info is None or not _is_chat(info):
        return None
    return pricing_from(info, at)


def pricing_from(info: "ModelInfo", at: datetime) -> Pricing | None:
    """The rules of this module's docstring. None where a price for input or output is missing."""
    candidates = list(_in_force(info, at))
    prices = {name: _dearest(candidates, name) for name in _CLASSES}
    prompt, completion = prices["input_mtok"], prices["output_mtok"]
    if prompt is None or completion is None:
        return None
    return Pricing(
        prompt=prompt,
        completion=completion,
        request=_dearest(candidates, "requests_kcount", per=1000) or FREE,
        input_cache_read=prices["cache_read_mtok"],
        input_cache_write=prices["cache_write_mtok"],
        input_cache_write_1h=prices["cache_write_1h_mtok"],
        internal_reasoning=prices["output_reasoning_mtok"],
        audio=prices["input_audio_mtok"],
        image_token=prices["input_image_mtok"],
        audio_output=prices["output_audio_mtok"],
        image_output=prices["output_image_mtok"],
    )


_CLASSES = (
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "output_reasoning_mtok",
    "input_audio_mtok",
    "input_image_mtok",
    "output_audio_mtok",
    "output_image_mtok",
)


def _offer(known: KnownProvider, info: "ModelInfo", at: datetime) -> KnownOffer | None:
    if not _is_chat(info) or not re.match(known.only, info.id):
        return None
    model_id = _model_id(known, info.id)
    if not MODEL_ID.fullmatch(model_id):
        return None
    pricing = pricing_from(info, at)
    model = Model(
        id=model_id,
        name=info.name or info.id,
        description=info.description or "",
        context_length=info.context_window or CONTEXT_LENGTH_UNKNOWN,
        input_modalities=_inputs(info.id.lower(), pricing),
        output_modalities=("text",) if pricing is None or pricing.audio_output is None else ("text", "audio"),
        supported_parameters=_parameters(info.id.lower(), pricing),
    )
    return KnownOffer(model, known.upstream_prefix + info.id, pricing)


def _inputs(name: str, pricing: Pricing | None) -> tuple[str, ...]:
    hears = pricing is not None and pricing.audio is not None
    return ("text", *(["image"] if _SEES_IMAGES.search(name) else []), *(["audio"] if hears else []))


def _parameters(name: str, pricing: Pricing | None) -> tuple[str, ...]:
    thinks = _THINKS.search(name) or (pricing is not None and pricing.internal_reasoning is not None)
    return tuple(sorted((*SUPPORTED_PARAMETERS, *REASONING_PARAMETERS))) if thinks else SUPPORTED_PARAMETERS


def _model_id(known: KnownProvider, upstream: str) -> str:
    name = upstream.lower()
    if "/" in name:
        return name
    author = known.author
    if known.provider.slug in _HOSTS:
        author = next((maker for beginning, maker in _AUTHORS if name.startswith(beginning)), author)
    return f"{author}/{name}"


def _is_chat(info: "ModelInfo") -> bool:
    if _NOT_CHAT.search(info.id.lower()):
        return False
    every = [info.prices] if not isinstance(info.prices, list) else [conditional.prices for conditional in info.prices]
    return not any(prices.__dict__.get(name) is not None for prices in every for name in _NOT_TOKENS)


def _in_force(info: "ModelInfo", at: datetime) -> Iterator["ModelPrice"]:
    from genai_prices.types import TimeOfDateConstraint

    if not isinstance(info.prices, list):
        yield info.prices
        return
    dated = [each for each in info.prices if not isinstance(each.constraint, TimeOfDateConstraint)]
    current = [each for each in dated if each.constraint is None or each.constraint.active(at)]
    yield from (each.prices for each in (current[-1:] or info.prices[:1]))
    yield from (each.prices for each in info.prices if isinstance(each.constraint, TimeOfDateConstraint))


def _dearest(candidates: list["ModelPrice"], name: str, *, per: int = 1_000_000) -> Attos | None:
    found = [_price(candidate.__dict__.get(name), per) for candidate in candidates]
    known = [price for price in found if price is not None]
    return max(known) if known else None


def _price(value: "Decimal | TieredPrices | None", per: int) -> Attos | None:
    if value is None:
        return None
    dearest = value if isinstance(value, Decimal) else max([value.base, *(tier.price for tier in value.tiers)])
    if not dearest.is_finite() or dearest < 0:
        return None
    return Attos(int((dearest.scaleb(18) / per).to_integral_value(ROUND_CEILING)))


def _publisher(name: str | None) -> "Publisher | None":
    if name is None:
        return None
    from genai_prices.data import providers

    return next((provider for provider in providers if provider.id == name), None)


def _publisher_of(provider: Provider) -> "Publisher | None":
    if provider.slug in KNOWN_BY_SLUG:
        return _publisher(KNOWN_BY_SLUG[provider.slug][1].prices_as)
    from genai_prices.data import providers

    address = provider.base_url or ""
    return next((each for each in providers if re.match(each.api_pattern, address)), None)
