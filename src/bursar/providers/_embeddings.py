"""A provider's list of embeddings, checked before anybody pays for it, and the two ways to write a vector."""

import base64
import binascii
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bursar.providers._errors import UpstreamFailed

FLOAT32_BYTES = 4


class _Embedding(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


def read_embeddings(answer: Any, inputs: int) -> dict[str, Any]:
    """An OpenAI list of embeddings as it was, its `data` in the order of the inputs and nothing but vectors in it.

    Raises `UpstreamFailed` unless there is exactly one vector, of at least one number, for each of the `inputs`.
    """
    try:
        found = msgspec.convert(answer, _Embeddings).data
    except (msgspec.ValidationError, RecursionError):
        raise _junk() from None
    order = [position if each.index is None else each.index for position, each in enumerate(found)]
    if sorted(order) != list(range(inputs)) or not all(map(_is_vector, found)):
        raise _junk()
    vectors = dict(zip(order, found, strict=True))
    data = [{"object": "embedding", "index": index, "embedding": vectors[index].embedding} for index in range(inputs)]
    return {**answer, "data": data}


def count_inputs(body: Mapping[str, Any]) -> int:
    """How many vectors a request asks for: one for a text or a list of tokens, else one for each of the list."""
    given = body.get("input")
    return len(given) if isinstance(given, list) and not all(isinstance(each, int) for each in given) else 1


def to_base64(vector: Sequence[float]) -> str:
    """As OpenAI writes it: float32s, little-endian."""
    packed = array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed).decode()


def to_floats(text: str) -> list[float]:
    """The other way. Raises `ValueError`."""
    packed = array("f", base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


def _is_vector(found: _Embedding) -> bool:
    if not isinstance(found.embedding, str):
        return bool(found.embedding)
    try:
        packed = base64.b64decode(found.embedding, validate=True)
    except (binascii.Error, ValueError):
        return False
    return bool(packed) and len(packed) % FLOAT32_BYTES == 0


def _junk() -> UpstreamFailed:
    return UpstreamFailed("The provider's answer is not a list of embeddings.", provider_code="junk")
