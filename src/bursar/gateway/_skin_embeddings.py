"""OpenAI's embeddings, with OpenRouter's fields. Nothing is streamed and nothing is written: only the prompt is charged."""

from collections.abc import Sequence
from typing import Any, NoReturn

from bursar.catalog import Operation
from bursar.gateway._door import (
    MESSAGE_TOKENS,
    TEMPLATE_TOKENS,
    ChatRequest,
    Headers,
    InvalidRequest,
    chat_request,
    parse_object,
)
from bursar.gateway._skin import Writer
from bursar.gateway._wire import Refusal, encode, json_refusal
from bursar.kernel.errors import BursarError
from bursar.providers import to_base64, to_floats

INPUTS_MAX = 2048
"""Texts or lists of tokens in one request; OpenAI's bound."""
DIMENSIONS_MAX = 65_536
TOKEN_MAX = 2**32 - 1
INPUT_TYPE_CHARACTERS_MAX = 64

_STAND_IN = [{"role": "user", "content": None}]
"""What the door reads instead of the input: everything else in the body is a chat completion's, and is read by the same rules."""


class EmbeddingsSkin:
    api_type = "embeddings"
    operation: Operation = "embeddings"

    def parse(self, body: bytes, headers: Headers) -> ChatRequest:
        fields = parse_object(body)
        inputs = _inputs(fields.get("input"))
        _require_no_stream(fields)
        passed = {
            "input": fields["input"],
            "dimensions": _dimensions(fields),
            "encoding_format": _encoding(fields),
            "input_type": _input_type(fields),
            "user": fields.get("user"),
        }
        names = ("model", "models", "provider", "session_id", "user")
        common = chat_request({"messages": _STAND_IN, **{name: fields.get(name) for name in names}}, headers)
        return ChatRequest(
            models=common.models,
            stream=False,
            max_tokens=None,
            choices=1,
            preferences=common.preferences,
            body={name: value for name, value in passed.items() if value is not None},
            external_user=common.external_user,
            session_id=common.session_id,
            prompt_tokens_bound=TEMPLATE_TOKENS + sum(map(_bound, inputs)),
            images=0,
        )

    def whole(self, request: ChatRequest, answer: dict[str, Any]) -> bytes:
        """The vectors as the request asked for them, whichever way the provider wrote them."""
        write = _as_base64 if request.body.get("encoding_format") == "base64" else _as_floats
        usage = answer["usage"]
        data = [{**each, "embedding": write(each["embedding"])} for each in answer["data"]]
        names = ("prompt_tokens", "cost", "is_byok", "cost_details")
        told = {**{name: usage[name] for name in names}, "total_tokens": usage["prompt_tokens"]}
        return encode({**answer, "data": data, "usage": told})

    def writer(self, request: ChatRequest, generation: str, created: int) -> Writer:
        raise AssertionError(f"{generation} of {created} cannot be streamed: {request.stream}")

    def refusal(self, error: BursarError, generation: str) -> Refusal:
        del generation
        return json_refusal(error)


def _inputs(given: Any) -> Sequence[str | list[int]]:
    """Each of them becomes one vector. Raises `InvalidRequest`."""
    inputs = given if isinstance(given, list) and not _are_tokens(given) else [given]
    if not inputs or len(inputs) > INPUTS_MAX:
        _refuse("input", f"a text, or a list of 1 to {INPUTS_MAX} texts or lists of tokens, is required.")
    for number, each in enumerate(inputs):
        if isinstance(each, dict):
            _refuse("input", f"input[{number}] is an object, and only texts and tokens can be embedded here.")
        if not (isinstance(each, str) and each) and not _are_tokens(each):
            _refuse("input", "a text that is not empty, a list of tokens, or a list of these is required.")
    return inputs


def _are_tokens(given: Any) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= TOKEN_MAX for each in given)
    )


def _bound(given: str | list[int]) -> int:
    """At most so many tokens: a token is at least one byte of text."""
    return MESSAGE_TOKENS + len(given.encode("utf-8", "surrogatepass") if isinstance(given, str) else given)


def _require_no_stream(fields: dict[str, Any]) -> None:
    if fields.get("stream"):
        _refuse("stream", "embeddings are not streamed. Leave it out.")


def _dimensions(fields: dict[str, Any]) -> int | None:
    value = fields.get("dimensions")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= DIMENSIONS_MAX:
        _refuse("dimensions", f"a whole number from 1 to {DIMENSIONS_MAX} is required.")
    return value


def _encoding(fields: dict[str, Any]) -> str | None:
    value = fields.get("encoding_format")
    if value not in (None, "float", "base64"):
        _refuse("encoding_format", "float or base64 is required.")
    return value


def _input_type(fields: dict[str, Any]) -> str | None:
    value = fields.get("input_type")
    if value is not None and not (isinstance(value, str) and len(value) <= INPUT_TYPE_CHARACTERS_MAX):
        _refuse("input_type", "a word like search_query is required.")
    return value


def _refuse(field: str, wanted: str) -> NoReturn:
    raise InvalidRequest(f"{field}: {wanted}", field=field)


def _as_base64(vector: str | list[float]) -> str:
    return vector if isinstance(vector, str) else to_base64(vector)


def _as_floats(vector: str | list[float]) -> list[float]:
    return to_floats(vector) if isinstance(vector, str) else vector
