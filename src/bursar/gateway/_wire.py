"""How answers look on the wire: OpenRouter's shapes, money as exact JSON numbers."""

from decimal import Decimal
from typing import Any

import msgspec

from bursar.catalog import Usage
from bursar.gateway._funds import InsufficientCredits
from bursar.gateway.plan import WRONG_ENDPOINT, NoEndpoints, UnknownModel, WrongEndpoint
from bursar.kernel import money
from bursar.kernel.errors import BursarError, InvalidField
from bursar.kernel.money import Nanos

RETRY_AFTER_SECONDS_MAX = 30
"""A client that retries a 503 waits at most this long, so that a gateway that recovered is noticed."""

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(value: Any) -> bytes:
    """JSON; a `Decimal` becomes a number with exactly its digits."""
    return _encoder.encode(value)


def error_object(error: BursarError) -> dict[str, Any]:
    """`{"code": int, "message": str, "metadata": {…}}`, the code being the HTTP status."""
    metadata: dict[str, Any] = {"error_type": error.error_type}
    if error.remedy is not None:
        metadata["remedy_hint"] = error.remedy
    if isinstance(error, InsufficientCredits):
        metadata["limit_source"] = "openrouter_credits"
    if isinstance(error, NoEndpoints):
        metadata["excluded_by"] = [{"endpoint": found.endpoint, "rule": found.rule} for found in error.reasons]
    if isinstance(error, InvalidField):
        metadata["field"] = error.field
    provider_code = getattr(error, "provider_code", None)
    if provider_code is not None:
        metadata["provider_code"] = provider_code
    message = error.sentence if error.remedy is None else f"{error.sentence} {error.remedy}"
    body: dict[str, Any] = {"code": error.status, "message": message, "metadata": metadata}
    if isinstance(error, UnknownModel):
        body["availability"] = {"code": "model_not_found", "retryable": False}
    if isinstance(error, WrongEndpoint):
        body["availability"] = {"code": WRONG_ENDPOINT, "retryable": False}
    return body


Refusal = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


def json_refusal(error: BursarError) -> Refusal:
    """A refusal in OpenRouter's envelope."""
    return refusal(error, encode({"error": error_object(error)}))


def refusal(error: BursarError, body: bytes) -> Refusal:
    """A refusal with a body of the skin's own."""
    headers = {"content-type": "application/json"}
    retry_after = getattr(error, "retry_after_seconds", None)
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
            "audio_tokens": 0,
            "video_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens, "audio_tokens": 0, "image_tokens": 0},
    }
