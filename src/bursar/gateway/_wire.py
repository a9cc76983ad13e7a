"""How answers look on the wire: OpenRouter's shapes, money as exact JSON numbers."""

from decimal import Decimal
from typing import Any

import msgspec

from bursar.catalog import Usage
from bursar.gateway._budgets import InsufficientCredits, LimitExceeded, scope_of
from bursar.gateway._limits import TooManyAtOnce
from bursar.gateway.plan import WRONG_ENDPOINT, EndpointsResting, NoEndpoints, UnknownModel, WrongEndpoint
from bursar.kernel import money
from bursar.kernel.errors import BursarError, InvalidField
from bursar.kernel.money import Nanos
from bursar.ledger import LimitUse
from bursar.providers import UpstreamFailed, UpstreamNeedsOperator

RETRY_AFTER_SECONDS_MAX = 30
"""A client that retries a 503 waits at most this long, so that a gateway that recovered is noticed."""

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(value: Any) -> bytes:
    """JSON; a `Decimal` becomes a number with exactly its digits."""
    return _encoder.encode(value)


def error_object(error: BursarError) -> dict[str, Any]:
    """`{"code": int, "message": str, "metadata": {…}}`, the code being the HTTP status."""
    body: dict[str, Any] = {"code": error.status, "message": error.in_full, "metadata": _metadata(error)}
    availability = _availability(error)
    return body if availability is None else {**body, "availability": availability}


def _metadata(error: BursarError) -> dict[str, Any]:
    metadata: dict[str, Any] = {"error_type": error.error_type}
    if error.remedy is not None:
        metadata["remedy_hint"] = error.remedy
    if isinstance(error, InsufficientCredits | LimitExceeded):
        metadata |= _limit(error.use)
    if isinstance(error, TooManyAtOnce):
        metadata |= {"limit_source": "openrouter_admission_control", "scope": error.scope}
    if isinstance(error, NoEndpoints | EndpointsResting):
        metadata["excluded_by"] = [{"endpoint": found.endpoint, "rule": found.rule} for found in error.reasons]
    if isinstance(error, InvalidField):
        metadata["field"] = error.field
    if isinstance(error, UpstreamFailed):
        told = {
            "provider_code": error.provider_code,
            "provider_name": error.provider_name,
            "previous_errors": list(error.previous_errors) or None,
        }
        metadata |= {name: value for name, value in told.items() if value is not None}
    return metadata


def _limit(use: LimitUse | None) -> dict[str, Any]:
    """Which limit it was, in OpenRouter's words; a budget also how it stands."""
    if use is None:
        return {"limit_source": "openrouter_credits"}
    scope = scope_of(use.limit)
    return {
        "limit_source": "openrouter_key_limit" if scope == "key" else "openrouter_workspace_budget",
        "scope": scope,
        "limit_usd": money.to_credits(use.limit.amount),
        "spend_usd": money.to_credits(use.used),
        "resets_at": None if use.resets_at is None else f"{use.resets_at:%Y-%m-%dT%H:%M:%SZ}",
    }


_EXCLUDED_BY = {
    "only": "allowed_providers",
    "ignore": "allowed_providers",
    "order": "allowed_providers",
    "zdr": "data_policy:zdr",
    "data_collection": "data_policy:training",
    "quantizations": "quantization",
}
"""Our rules in OpenRouter's words, where the two differ."""
_UNAVAILABLE: tuple[tuple[type[BursarError], str], ...] = (
    (UnknownModel, "model_not_found"),
    (WrongEndpoint, WRONG_ENDPOINT),
    (UpstreamNeedsOperator, "model_unavailable_upstream"),
)
_PRIVACY = frozenset(["data_collection", "zdr"])
_NOBODY = frozenset(["no_price", "model", WRONG_ENDPOINT])
"""Rules that say nothing of what was wanted: there is nobody to want anything of."""


def _availability(error: BursarError) -> dict[str, Any] | None:
    """OpenRouter's `availability`: a code, whether a retry can help, and which kinds of rules left nobody."""
    if isinstance(error, NoEndpoints | EndpointsResting):
        rules = list(dict.fromkeys(found.rule for found in error.reasons))
        found: dict[str, Any] = {
            "code": _nobodys_code(error, set(rules)),
            "retryable": isinstance(error, EndpointsResting),
            "requested_models": list(error.models),
            "excluded_by": list(dict.fromkeys(_EXCLUDED_BY.get(rule, rule) for rule in rules)),
        }
        return found | ({"retry_after": error.retry_after_seconds} if isinstance(error, EndpointsResting) else {})
    code = next((code for kind, code in _UNAVAILABLE if isinstance(error, kind)), None)
    return None if code is None else {"code": code, "retryable": False}


def _nobodys_code(error: NoEndpoints | EndpointsResting, rules: set[str]) -> str:
    if isinstance(error, EndpointsResting):
        return "temporarily_unavailable"
    if rules <= _NOBODY:
        return "no_endpoints"
    if rules <= _NOBODY | _PRIVACY:
        return "privacy_restricted"
    return "model_unavailable_upstream" if "needs_operator" in rules else "constraint_filtered"


def with_field(body: bytes, name: str, value: Any) -> bytes:
    """A JSON object, as written, with one field more at its end."""
    return body[:-1] + b"," + encode({name: value})[1:] if body.endswith(b"}") else body


Refusal = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


def json_refusal(error: BursarError) -> Refusal:
    """A refusal in OpenRouter's envelope."""
    return refusal(error, encode({"error": error_object(error)}))


def refusal(error: BursarError, body: bytes) -> Refusal:
    """A refusal with a body of the skin's own."""
    headers = {"content-type": "application/json"}
    retry_after = getattr(error, "retry_after_seconds", None)
    if error.status == 405:
        headers["allow"] = "POST"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.status == 503:
        retry_after = min(retry_after or 5, RETRY_AFTER_SECONDS_MAX)
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    return error.status, headers, body


def usage_object(usage: Usage, cost: Nanos) -> dict[str, Any]:
    """Every key that a strict client asks for, with what was charged."""
    usd = money.to_credits(cost)
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "cost": usd,
        "is_byok": False,
        "cost_details": {
            "upstream_inference_cost": None,
            "upstream_inference_prompt_cost": Decimal(0),
            "upstream_inference_completions_cost": Decimal(0),
        },
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "cache_write_1h_tokens": usage.cache_write_1h_tokens,
            "audio_tokens": usage.audio_tokens,
            "image_tokens": usage.image_tokens,
            "video_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
            "image_tokens": usage.image_output_tokens,
        },
    }
