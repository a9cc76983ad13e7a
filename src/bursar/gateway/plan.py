"""Stop 3, pure: request × catalogue → ordered attempts and a price ceiling. Every refused endpoint keeps its reason.

Rules decide who may be tried (`_refusal`), `_order` in which order; health and the draw come in as `Surroundings`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec

from bursar.catalog import (
    TEXT,
    Catalog,
    ChargeClass,
    Classes,
    Endpoint,
    Model,
    Operation,
    Pricing,
    dearest_input,
    dearest_output,
)
from bursar.gateway._order import CALM, Condition, Surroundings, lacking, matches, ordered
from bursar.gateway._preferences import NO_PREFERENCES, TOKENS_PER_PRICE, MaxPrice, Preferences, Sort
from bursar.kernel import money
from bursar.kernel.errors import BursarError, InvalidInput, NotFound, Unavailable
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


VARIANTS: dict[str, Sort | None] = {"free": None, "nitro": "throughput", "floor": "price"}
"""What may follow a model's id after a colon, and how it sorts. `free`: only what costs nothing."""
PARAMETERS = frozenset(
    [
        "frequency_penalty",
        "include_reasoning",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "seed",
        "stop",
        "structured_outputs",
        "temperature",
        "tool_choice",
        "tools",
        "top_a",
        "top_k",
        "top_logprobs",
        "top_p",
        "verbosity",
        "web_search_options",
    ]
)
"""The words of a model's `supported_parameters`; other fields of a request are not parameters."""


class UnknownModel(InvalidInput):
    """No model of this installation has this id."""


class WrongEndpoint(InvalidInput):
    """The model exists and does something else than what is asked of it here."""


class NoEndpoints(NotFound):
    """The model exists, but no endpoint of it may or can serve this request; `reasons` says why, one by one."""

    def __init__(self, sentence: str, reasons: Sequence["Refusal"], remedy: str, models: Sequence[str] = ()) -> None:
        super().__init__(sentence, remedy=remedy)
        self.reasons = reasons
        self.models = models


class EndpointsResting(Unavailable):
    """Whoever could serve this failed too often just now; passes by itself, within `retry_after_seconds`."""

    def __init__(
        self, sentence: str, reasons: Sequence["Refusal"], retry_after_seconds: int, models: Sequence[str] = ()
    ) -> None:
        super().__init__(sentence, retry_after_seconds=retry_after_seconds)
        self.reasons = reasons
        self.models = models


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an endpoint is not tried: `rule` names what excluded it. `retry_after_seconds`: where it passes by itself."""

    endpoint: str
    rule: str
    sentence: str
    retry_after_seconds: int | None = None


class Demand(msgspec.Struct, frozen=True):
    """What a request needs, whatever its protocol. Bounds are upper bounds, in tokens, but for `prompt_tokens_least`.

    `extras`: the classes beside text that the request can use, wherever it is served. `parameters`: those of `PARAMETERS` that it sets. `reasoning_tokens`: the budget for thinking, which comes on top where there is no
    `max_tokens`. `session`: names its owner and session, whose prompt caches may be warm.
    """

    models: tuple[str, ...]
    prompt_tokens: int
    images: int
    max_tokens: int | None
    choices: int
    stream: bool
    preferences: Preferences
    operation: Operation = "chat"
    extras: Classes = TEXT
    sounds: int = 0
    parameters: frozenset[str] = frozenset()
    prompt_tokens_least: int = 0
    reasoning_tokens: int = 0
    session: str | None = None


class Attempt(msgspec.Struct, frozen=True):
    """One endpoint to try, its price at hand, and the output tokens (over all choices) that the ceiling covers there.

    `most_tokens`: more than that nobody can have written there, whatever is reported. `extras`: the classes beside text that can be
    used there; what is reported of others counts as text.
    """

    endpoint: Endpoint
    pricing: Pricing
    completion_tokens: int
    most_tokens: int
    extras: Classes = TEXT


class Plan(msgspec.Struct, frozen=True):
    """Attempts in order. `ceiling`: what the dearest of them can cost; `completion_tokens`: the most output it covers."""

    model: str
    attempts: tuple[Attempt, ...]
    refusals: tuple[Refusal, ...]
    ceiling: Nanos
    completion_tokens: int
    prompt_tokens: int
    images: int
    sounds: int = 0
    session: str | None = None


def make_plan(demand: Demand, catalog: Catalog, around: Surroundings = CALM) -> Plan:
    """Raises `UnknownModel`, `WrongEndpoint`, `NoEndpoints` and `EndpointsResting`."""
    groups: list[tuple[list[Endpoint], Sort | None]] = []
    refusals: list[Refusal] = []
    for name in demand.models:
        model, variant = find_variant(name, catalog)
        if model is None:
            if len(demand.models) == 1:
                raise _unknown(name, catalog)
            refusals.append(Refusal(name, "model", f"{name} is not a valid model ID."))
            continue
        if model.operation != demand.operation:
            refusals.append(Refusal(name, WRONG_ENDPOINT, f"{name} {_DOES[model.operation]}."))
            continue
        fitting: list[Endpoint] = []
        for endpoint in catalog.offers_for(model.id):
            refusal = _refusal(endpoint, demand, variant, around)
            if refusal is None:
                fitting.append(endpoint)
            else:
                refusals.append(refusal)
        groups.append((fitting, VARIANTS[variant] if variant is not None else None))
    attempts = _attempts(demand, groups, around)
    if not attempts:
        raise _nobody(demand, refusals, catalog)
    most = ATTEMPTS_MAX if demand.preferences.allow_fallbacks else 1
    kept = tuple(attempts[:most])
    refusals += [_left_over(attempt, demand.preferences) for attempt in attempts[most:]]
    if len(demand.models) > 1:
        # One model under two names, like x/y and x/y:free: what one name refuses the other may have let in.
        tried = {attempt.endpoint.id for attempt in kept}
        refusals = [refusal for refusal in refusals if refusal.endpoint not in tried]
    prompt = demand.prompt_tokens
    if demand.operation == "chat":  # of embeddings each input has the whole context to itself
        prompt = min(prompt, max(attempt.endpoint.context_length for attempt in kept))
    return Plan(
        model=demand.models[0],
        attempts=kept,
        refusals=tuple(refusals),
        ceiling=max(price_bound(attempt, prompt, attempt.completion_tokens, demand.images) for attempt in kept),
        completion_tokens=max(attempt.completion_tokens for attempt in kept),
        prompt_tokens=prompt,
        images=demand.images,
        sounds=demand.sounds,
        session=demand.session,
    )


def find_variant(name: str, catalog: Catalog) -> tuple[Model | None, str | None]:
    """`acme/prime:nitro` → the model and "nitro". A model of that very id comes first; None where neither is there."""
    model = catalog.find_model(name)
    if model is not None:
        return model, None
    base, _, variant = name.rpartition(":")
    return (catalog.find_model(base), variant) if variant in VARIANTS else (None, None)


def _attempts(
    demand: Demand, groups: Sequence[tuple[Sequence[Endpoint], Sort | None]], around: Surroundings
) -> list[Attempt]:
    """Model by model, or all models' endpoints as one where that is wanted."""
    wanted, parameters = demand.preferences, demand.parameters
    if wanted.partition == "none" and wanted.sort is not None:
        groups = [(list(chain.from_iterable(fitting for fitting, _ in groups)), wanted.sort)]
    found: dict[str, Attempt] = {}
    for fitting, sort in groups:
        for endpoint in ordered(fitting, wanted, sort or wanted.sort, parameters, around):
            if endpoint.pricing is not None and endpoint.id not in found:
                found[endpoint.id] = _attempt(endpoint, endpoint.pricing, demand)
    return list(found.values())


def _left_over(attempt: Attempt, wanted: Preferences) -> Refusal:
    name = attempt.endpoint.provider.name
    if not wanted.allow_fallbacks:
        return Refusal(attempt.endpoint.id, "allow_fallbacks", f"{name} would be a fallback, and fallbacks are off.")
    return Refusal(attempt.endpoint.id, "attempts_max", f"{name} comes after {ATTEMPTS_MAX} others.")


def price_bound(attempt: Attempt, prompt_tokens: int, completion_tokens: int, images: int) -> Nanos:
    """The most such a request can cost there: every token at the dearest price among the classes it can fall into."""
    pricing, extras = attempt.pricing, attempt.extras
    return money.charge(
        [
            (prompt_tokens, dearest_input(pricing, extras)),
            (completion_tokens, dearest_output(pricing, extras)),
            (images, pricing.image),
            (1, pricing.request),
        ]
    )


def output_bound(attempt: Attempt, tokens: int) -> Nanos:
    """The most that so many output tokens can cost there; what is priced per request is not in it."""
    return money.charge([(tokens, dearest_output(attempt.pricing, attempt.extras))])


def affordable_tokens(plan: Plan, available: int) -> int:
    """How many output tokens `available` nanos would pay for at the dearest attempt; 0 when not even the prompt."""
    counts = []
    for attempt in plan.attempts:
        left = available - price_bound(attempt, plan.prompt_tokens, 0, plan.images)
        price = dearest_output(attempt.pricing, attempt.extras)
        if left < 0:
            counts.append(0)
        elif price:
            counts.append(left * money.ATTOS_PER_NANO // price)
        else:
            counts.append(attempt.completion_tokens)
    return min(counts)


def _attempt(endpoint: Endpoint, pricing: Pricing, demand: Demand) -> Attempt:
    if demand.operation == "embeddings":
        return Attempt(endpoint, pricing, 0, 0)
    most = endpoint.max_completion_tokens or endpoint.context_length
    extras = demand.extras
    made = endpoint.model.output_modalities
    if len(made) > 1:  # some make images without having been asked to
        extras = extras | {kind for modality, kind in _EXTRAS_MADE.items() if modality in made}
    if demand.max_tokens is not None:
        most = min(demand.max_tokens, most)
        covered = most
    else:
        # Thinking may never be seen, so that no stream could show how it grows: its budget is covered from the start.
        # Nor is the length of sounds and images known before they are counted.
        grows = demand.stream and _EXTRAS_MADE_KINDS.isdisjoint(extras)
        covered = min(most, (STREAM_TOKENS if grows else WHOLE_ANSWER_TOKENS) + demand.reasoning_tokens)
    return Attempt(endpoint, pricing, covered * demand.choices, most * demand.choices, extras)


_EXTRAS_MADE: Mapping[str, ChargeClass] = {"audio": "audio_output", "image": "image_output"}
_EXTRAS_MADE_KINDS = frozenset(_EXTRAS_MADE.values())


def _refusal(endpoint: Endpoint, demand: Demand, variant: str | None, around: Surroundings) -> Refusal | None:
    """The first rule that excludes an endpoint. What the operator and the one who asks want comes before its health."""
    wanted = demand.preferences
    for rule, check in _RULES if wanted is not NO_PREFERENCES else _RULES_OF_EVERYBODY:
        why = check(endpoint, demand, wanted)
        if why is not None:
            return Refusal(endpoint.id, rule, f"{endpoint.provider.name} {why}.")
    if variant == "free" and endpoint.pricing is not None and not endpoint.pricing.is_free:
        return Refusal(endpoint.id, "free", f"{endpoint.provider.name} is not free of charge.")
    return _resting(endpoint, around.health(endpoint.id))


def _resting(endpoint: Endpoint, condition: Condition) -> Refusal | None:
    name = endpoint.provider.name
    if not condition.is_open:
        return None
    if condition.needs_person:
        # Not a matter of waiting: it is tried again by and by, so that it works again soon after it was put right.
        return Refusal(endpoint.id, "needs_operator", f"{name} refuses this installation until its operator acts.")
    seconds = condition.retry_after_seconds
    return Refusal(endpoint.id, "circuit_open", f"{name} failed too often; it is tried again in {seconds} s.", seconds)


def _is_named(endpoint: Endpoint, slugs: Sequence[str]) -> bool:
    return any(matches(endpoint, slug) for slug in slugs)


def _no_price(endpoint: Endpoint, _demand: Demand, _wanted: Preferences) -> str | None:
    return "has no price yet; the operator adds one to the catalogue" if endpoint.pricing is None else None


def _only(endpoint: Endpoint, _demand: Demand, wanted: Preferences) -> str | None:
    if wanted.only is None or _is_named(endpoint, wanted.only):
        return None
    return "is not in provider.only"


def _ignore(endpoint: Endpoint, _demand: Demand, wanted: Preferences) -> str | None:
    return "is in provider.ignore" if wanted.ignore and _is_named(endpoint, wanted.ignore) else None


def _order(endpoint: Endpoint, _demand: Demand, wanted: Preferences) -> str | None:
    if not wanted.order or wanted.allow_fallbacks or _is_named(endpoint, wanted.order):
        return None
    return "is not in provider.order, and fallbacks are off"


def _data_collection(endpoint: Endpoint, _demand: Demand, wanted: Preferences) -> str | None:
    return "may train on prompts" if wanted.no_training and endpoint.provider.training else None


def _zdr(endpoint: Endpoint, _demand: Demand, wanted: Preferences) -> str | None:
    return "may retain prompts" if wanted.no_retention and not endpoint.provider.keeps_nothing else None


def _quantizations(endpoint: Endpoint, _demand: Demand, wanted: Preferences) -> str | None:
    if wanted.quantizations is None or endpoint.quantization in wanted.quantizations:
        return None
    return f"serves it as {endpoint.quantization}, which is not in provider.quantizations"


def _max_price(endpoint: Endpoint, _demand: Demand, wanted: Preferences) -> str | None:
    if wanted.max_price is None or endpoint.pricing is None or is_within(endpoint.pricing, wanted.max_price):
        return None
    return "is dearer than provider.max_price"


def is_within(pricing: Pricing, most: MaxPrice) -> bool:
    """Whether the listed prices are at most these, exactly."""
    return (
        (most.prompt is None or pricing.prompt * TOKENS_PER_PRICE <= most.prompt)
        and (most.completion is None or pricing.completion * TOKENS_PER_PRICE <= most.completion)
        and (most.request is None or pricing.request <= most.request)
        and (most.image is None or pricing.image <= most.image)
        and (most.audio is None or pricing.price_of("audio") * TOKENS_PER_PRICE <= most.audio)
    )


def _require_parameters(endpoint: Endpoint, demand: Demand, wanted: Preferences) -> str | None:
    missing = lacking(endpoint, demand.parameters) if wanted.require_parameters else ()
    return f"does not support {', '.join(missing)}" if missing else None


def _modalities(endpoint: Endpoint, demand: Demand, _wanted: Preferences) -> str | None:
    missing = [
        modality
        for modality, kind in _EXTRAS_MADE.items()
        if kind in demand.extras and modality not in endpoint.model.output_modalities
    ]
    return f"does not make {' or '.join(missing)} with this model" if missing else None


def _context_length(endpoint: Endpoint, demand: Demand, _wanted: Preferences) -> str | None:
    if demand.operation != "chat" or demand.prompt_tokens_least <= endpoint.context_length:
        return None
    return f"reads at most {endpoint.context_length} tokens"


def _max_tokens(endpoint: Endpoint, demand: Demand, _wanted: Preferences) -> str | None:
    most = endpoint.max_completion_tokens
    return f"writes at most {most} tokens" if most and demand.max_tokens and demand.max_tokens > most else None


_RULES: tuple[tuple[str, Callable[[Endpoint, Demand, Preferences], str | None]], ...] = (
    ("no_price", _no_price),
    ("only", _only),
    ("ignore", _ignore),
    ("order", _order),
    ("data_collection", _data_collection),
    ("zdr", _zdr),
    ("quantizations", _quantizations),
    ("max_price", _max_price),
    ("require_parameters", _require_parameters),
    ("modalities", _modalities),
    ("context_length", _context_length),
    ("max_tokens", _max_tokens),
)
"""Name of the rule, and why an endpoint is excluded by it; None where it is not."""
_RULES_OF_EVERYBODY = tuple(
    each for each in _RULES if each[0] in ("no_price", "modalities", "context_length", "max_tokens")
)
"""Those that do not ask what is wanted: all that is left to judge for a request without a `provider` object."""


def _unknown(name: str, catalog: Catalog) -> UnknownModel:
    base, colon, variant = name.rpartition(":")
    if colon and catalog.find_model(base) is not None:
        known = ", ".join(f"{base}:{each}" for each in VARIANTS)
        return UnknownModel(
            f"{name[:120]} is not a valid model ID: there is no variant {variant[:40]}.", remedy=f"There are {known}."
        )
    near = catalog.close_matches(name)
    remedy = f"Did you mean {' or '.join(near)}?" if near else "GET /api/v1/models lists the models there are."
    return UnknownModel(f"{name[:120]} is not a valid model ID.", remedy=remedy)


def _nobody(demand: Demand, refusals: Sequence[Refusal], catalog: Catalog) -> BursarError:
    models = [model for name in demand.models if (model := find_variant(name, catalog)[0]) is not None]
    if not models:
        return UnknownModel(
            f"None of {', '.join(demand.models)} is a valid model ID.", remedy="GET /api/v1/models lists them."
        )
    why = " ".join(dict.fromkeys(refusal.sentence for refusal in refusals)) or "Nobody serves it."
    if all(model.operation != demand.operation for model in models):
        return WrongEndpoint(why, remedy=_GOES_TO[demand.operation])
    waits = [refusal.retry_after_seconds for refusal in refusals if refusal.retry_after_seconds is not None]
    if waits:
        sentence = f"No endpoint of {', '.join(demand.models)} is available just now. {why}"
        return EndpointsResting(sentence, refusals, min(waits), demand.models)
    return NoEndpoints(
        f"No endpoints found for {', '.join(demand.models)}. {why}",
        refusals,
        "Change what excluded them, or the model.",
        demand.models,
    )
