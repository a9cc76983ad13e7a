"""What the description says of every operation: who may ask, and how it is refused."""

from typing import Annotated, Any

from fastapi import Header, Query
from pydantic import BaseModel

from bursar.api._schemas import ErrorAnswer

API_KEY, MANAGEMENT_KEY, X_API_KEY = "api_key", "management_key", "x_api_key"
SECURITY_SCHEMES: dict[str, Any] = {
    API_KEY: {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key of this installation: `Authorization: Bearer sk-bursar-v1-…`. It calls models.",
    },
    MANAGEMENT_KEY: {
        "type": "http",
        "scheme": "bearer",
        "description": "A management key: `Authorization: Bearer sk-bursar-v1-…`. It manages and calls no models.",
    },
    X_API_KEY: {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "An API key as Anthropic's clients send it. `Authorization` counts where both are sent.",
    },
}

Authorization = Annotated[
    str | None, Header(description="`Bearer` and a key of this installation.", include_in_schema=False)
]
"""The header's value. The description names it by its security scheme."""


OFFSET_MAX = 10**9

Offset = Annotated[int, Query(ge=0, le=OFFSET_MAX)]
"""How many of a list to leave out."""


def asks_for(*schemes: str, optional: bool = False) -> dict[str, Any]:
    """`openapi_extra` of an operation that takes any one of these keys."""
    return {"security": [*([{}] if optional else []), *({scheme: []} for scheme in schemes)]}


PUBLIC: dict[str, Any] = {"security": []}
ANY_KEY = asks_for(API_KEY, MANAGEMENT_KEY)
OPTIONAL_KEY = asks_for(API_KEY, MANAGEMENT_KEY, optional=True)
MANAGEMENT_ONLY = asks_for(MANAGEMENT_KEY)

_SECONDS = {"type": "integer", "minimum": 1, "maximum": 30}
HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "`Bearer`."}},
    429: {"Retry-After": {"schema": {**_SECONDS, "maximum": 86_400}, "description": "Seconds to wait."}},
    503: {"Retry-After": {"schema": _SECONDS, "description": "Seconds to wait.", "required": True}},
}
_SUCCESSES = {200: "OK", 201: "Created; or it was before, by a request with the same `Idempotency-Key`"}
REPLAYED = "Idempotent-Replayed"
REFUSALS: dict[int, tuple[str, str, str]] = {
    400: ("Bad request: the sentence names the field", "invalid_request", "limit: input should be greater than 0."),
    401: (
        "No valid key",
        "authentication",
        "Missing Authentication header. Send your API key as: Authorization: Bearer sk-bursar-v1-…",
    ),
    402: ("Not enough credits", "payment_required", "Insufficient credits: $0.00 are available."),
    403: ("Wrong kind of key", "permission_denied", "Only management keys can perform this operation."),
    404: ("Not found", "not_found", "acme/x is not a valid model ID."),
    409: (
        "It cannot be so beside what there is, or the `Idempotency-Key` was used for another request",
        "invalid_request",
        "This Idempotency-Key was used for another request. Send a fresh one for each thing you create.",
    ),
    413: ("Body too large", "payload_too_large", "The body is larger than 20 MiB."),
    429: ("Too many requests at once", "rate_limit_exceeded", "This key has too many requests running."),
    500: ("A fault of ours", "server", "Internal Server Error"),
    502: ("The provider failed", "provider_unavailable", "The provider could not be reached."),
    503: ("Passes by itself", "provider_overloaded", "The provider is overloaded."),
    504: ("The provider did not answer in time", "timeout", "The provider did not answer in time."),
}
"""By status: what it means, an `error_type` and a sentence as an example."""


def answers(model: type[BaseModel], *refusals: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses`: the success, the refusals named, and 500, which everything can answer."""
    told: dict[str, Any] = {"model": model, "description": _SUCCESSES[status]}
    if status == 201:
        told["headers"] = {REPLAYED: {"schema": {"const": "true"}, "description": "It was done before."}}
    return {status: told, **{refusal: _refusal(refusal) for refusal in (*refusals, 500)}}


def _refusal(status: int) -> dict[str, Any]:
    what, kind, sentence = REFUSALS[status]
    example = {"error": {"code": status, "message": sentence, "metadata": {"error_type": kind}}}
    told: dict[str, Any] = {
        "model": ErrorAnswer,
        "description": what,
        "content": {"application/json": {"example": example}},
    }
    return told | ({"headers": HEADERS[status]} if status in HEADERS else {})
