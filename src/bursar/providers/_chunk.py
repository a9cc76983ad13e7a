"""One piece of a streamed answer, as bytes or as an object, whichever is at hand: neither is made before somebody asks."""

from typing import Any

import msgspec

from bursar.providers._errors import UpstreamFailed

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


class JunkChunk(UpstreamFailed, ValueError):
    """Bytes of a provider, handed on unread, turn out not to be a chunk. Output came before: only then they are left unread."""

    def __init__(self) -> None:
        super().__init__("The provider's answer is not a chat completion.", before_output=False, provider_code="junk")


class Chunk:
    """A `chat.completion.chunk`. Immutable by convention: whoever changes one makes another."""

    __slots__ = ("_raw", "_value")

    def __init__(self, raw: bytes | None = None, value: dict[str, Any] | None = None) -> None:
        if raw is None and value is None:
            raise ValueError("a chunk needs bytes or an object")
        self._raw = raw
        self._value = value

    @property
    def raw(self) -> bytes:
        """Its JSON, on one line."""
        if self._raw is None:
            self._raw = _encode(self._value)
        return self._raw

    @property
    def value(self) -> dict[str, Any]:
        """The decoded object, with a list of objects in `choices`. Raises `JunkChunk`, an `UpstreamFailed`."""
        if self._value is None:
            assert self._raw is not None
            self._value = decode_chunk(self._raw)
            if self._value is None:
                raise JunkChunk
        return self._value

    @property
    def has_value(self) -> bool:
        """Whether it was decoded already (or never was bytes)."""
        return self._value is not None


def decode_chunk(raw: bytes) -> dict[str, Any] | None:
    """An object with a list of objects in `choices`, which is empty where there was none; None for anything else."""
    try:
        value = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    choices = value.setdefault("choices", [])
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        return None
    return value
