"""Stop 3, pure: request × catalogue → ordered attempts and a price ceiling. Every refused endpoint keeps its reason."""

from collections.abc import Sequence
from dataclasses import dataclass

from bursar.catalog import Catalog, Endpoint, Operation, Pricing, dearest_input, dearest_output
from bursar.kernel import money
from bursar.kernel.errors import InvalidInput, NotFound
from bursar.kernel.money import Nanos

ATTEMPTS_MAX = 6
WHOLE_ANSWER_TOKENS = 16_384
"""How many output tokens a hold covers when a whole answer is asked for without `max_tokens`."""
STREAM_TOKENS = 1_024
"""The same for a stream, whose hold is extended by as many again while it grows."""
WRONG_ENDPOINT = "wrong_endpoint"
"""The rule that excludes a model which does something else; OpenRouter's word."""
_DOES = {"chat": "writes text and makes no embeddings", "embeddings": "makes embeddings and writes no text"}
_GOES_TO = {
    "chat": "POST /api/v1/embeddings is the endpoint for it.",
    "embeddings": "POST /api/v1/chat/completions is the endpoint for it.",
}


class UnknownModel(InvalidInput):
    """No model of this installation has this id."""


class WrongEndpoint(InvalidInput):
    """The model exists and does something else than what is asked of it here."""


class NoEndpoints(NotFound):
    """The model exists, but no endpoint of it may or can serve this request; `reasons` says why, one by one."""

    def __init__(self, sentence: str, reasons: Sequence["Refusal"], remedy: str) -> None:
        super().__init__(sentence, remedy=remedy)
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Preferences:
    """The request's `provider` object. `only` None: any; an empty one allows nobody."""

    order: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    no_training: bool = False
    no_retention: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an endpoint is not tried: `rule` names what excluded it."""

    endpoint: str
    rule: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request needs, whatever its protocol. Bounds are upper bounds, in tokens."""

    models: tuple[str, ...]
    prompt_tokens: int
    images: int
    max_tokens: int | None
    choices: int
    stream: bool
    preferences: Preferences
    operation: Operation = "chat"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One endpoint to try, its price at hand, and the output tokens (over all choices) that the ceiling covers there."""

    endpoint: Endpoint
    pricing: Pricing
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Attempts in order. `ceiling`: what the dearest of them can cost; `completion_tokens`: the most output it covers."""

    model: str
    attempts: tuple[Attempt, ...]
    refusals: tuple[Refusal, ...]
    ceiling: Nanos
    completion_tokens: int
    prompt_tokens: int
    images: int


def make_plan(demand: Demand, catalog: Catalog) -> Plan:
    """Raises `UnknownModel`, `WrongEndpoint` and `NoEndpoints`."""
    attempts: list[Attempt] = []
    refusals: list[Refusal] = []
    for name in demand.models:
        model = catalog.find_model(name)
        if model is None:
            if len(demand.models) == 1:
                raise _unknown(name, catalog)
            refusals.append(Refusal(name, "model", f"{name} is not a valid model ID."))
            continue
        if model.operation != demand.operation:
            refusals.append(Refusal(name, WRONG_ENDPOINT, f"{name} {_DOES[model.operation]}."))
            continue
        for endpoint in _ordered(catalog.offers_for(name), demand.preferences):
            refusal = _refusal(endpoint, demand)
            if refusal is not None:
                refusals.append(refusal)
            elif endpoint.pricing is not None:
                attempts.append(Attempt(endpoint, endpoint.pricing, completion_bound(endpoint, demand)))
    if not attempts:
        raise _nobody(demand, refusals, catalog)
    kept = tuple(attempts[: ATTEMPTS_MAX if demand.preferences.allow_fallbacks else 1])
    prompt = demand.prompt_tokens
    if demand.operation == "chat":  # of embeddings each input has the whole context to itself
        prompt = min(prompt, max(attempt.endpoint.context_length for attempt in kept))
    return Plan(
        model=demand.models[0],
        attempts=kept,
        refusals=tuple(refusals),
        ceiling=max(price_bound(attempt.pricing, prompt, attempt.completion_tokens, demand.images) for attempt in kept),
        completion_tokens=max(attempt.completion_tokens for attempt in kept),
        prompt_tokens=prompt,
        images=demand.images,
    )


def price_bound(pricing: Pricing, prompt_tokens: int, completion_tokens: int, images: int) -> Nanos:
    """The most such a request can cost: every token at the dearest price among the classes it can fall into."""
    return money.charge(
        [
            (prompt_tokens, dearest_input(pricing)),
            (completion_tokens, dearest_output(pricing)),
            (images, pricing.image),
            (1, pricing.request),
        ]
    )


def output_bound(pricing: Pricing, tokens: int) -> Nanos:
    """The most that so many output tokens can cost; what is priced per request is not in it."""
    return money.charge([(tokens, dearest_output(pricing))])


def affordable_tokens(plan: Plan, available: int) -> int:
    """How many output tokens `available` nanos would pay for at the dearest attempt; 0 when not even the prompt."""
    counts = []
    for attempt in plan.attempts:
        left = available - price_bound(attempt.pricing, plan.prompt_tokens, 0, plan.images)
        price = dearest_output(attempt.pricing)
        if left < 0:
            counts.append(0)
        elif price:
            counts.append(left * money.ATTOS_PER_NANO // price)
        else:
            counts.append(attempt.completion_tokens)
    return min(counts)


def completion_bound(endpoint: Endpoint, demand: Demand) -> int:
    """Output tokens the first hold covers, over all choices."""
    if demand.operation == "embeddings":
        return 0
    most = endpoint.max_completion_tokens or endpoint.context_length
    if demand.max_tokens is not None:
        return min(demand.max_tokens, most) * demand.choices
    return min(most, STREAM_TOKENS if demand.stream else WHOLE_ANSWER_TOKENS) * demand.choices


def _ordered(offers: Sequence[Endpoint], preferences: Preferences) -> Sequence[Endpoint]:
    """Cheapest first, as the catalogue lists them; a wanted order comes before."""
    if not preferences.order:
        return offers
    rank = {slug: number for number, slug in enumerate(preferences.order)}
    return sorted(offers, key=lambda endpoint: rank.get(endpoint.provider.slug, len(rank)))


def _refusal(endpoint: Endpoint, demand: Demand) -> Refusal | None:
    provider, wanted = endpoint.provider, demand.preferences
    rules = (
        ("no_price", endpoint.pricing is None, "has no price yet; the operator adds one to the catalogue"),
        ("only", wanted.only is not None and provider.slug not in wanted.only, "is not in provider.only"),
        ("ignore", provider.slug in wanted.ignore, "is in provider.ignore"),
        (
            "order",
            bool(wanted.order) and not wanted.allow_fallbacks and provider.slug not in wanted.order,
            "is not in provider.order, and fallbacks are off",
        ),
        ("data_collection", wanted.no_training and provider.training, "may train on prompts"),
        ("zdr", wanted.no_retention and provider.retention_days != 0, "may retain prompts"),
        (
            "max_tokens",
            bool(demand.max_tokens and endpoint.max_completion_tokens)
            and (demand.max_tokens or 0) > (endpoint.max_completion_tokens or 0),
            f"writes at most {endpoint.max_completion_tokens} tokens",
        ),
    )
    for rule, applies, why in rules:
        if applies:
            return Refusal(endpoint.id, rule, f"{provider.name} {why}.")
    return None


def _unknown(name: str, catalog: Catalog) -> UnknownModel:
    near = catalog.close_matches(name)
    remedy = f"Did you mean {' or '.join(near)}?" if near else "GET /api/v1/models lists the models there are."
    return UnknownModel(f"{name[:120]} is not a valid model ID.", remedy=remedy)


def _nobody(demand: Demand, refusals: Sequence[Refusal], catalog: Catalog) -> InvalidInput | NoEndpoints:
    if all(catalog.find_model(name) is None for name in demand.models):
        return UnknownModel(
            f"None of {', '.join(demand.models)} is a valid model ID.", remedy="GET /api/v1/models lists them."
        )
    why = " ".join(dict.fromkeys(refusal.sentence for refusal in refusals)) or "Nobody serves it."
    if refusals and all(refusal.rule in (WRONG_ENDPOINT, "model") for refusal in refusals):
        return WrongEndpoint(why, remedy=_GOES_TO[demand.operation])
    return NoEndpoints(
        f"No endpoints found for {', '.join(demand.models)}. {why}",
        refusals,
        "Change what excluded them, or the model.",
    )
