"""One piece of a streamed answer, as bytes or as an object, whichever is at hand: neither is made before somebody asks."""

from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


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
        """Its JSON."""
        if self._raw is None:
            self._raw = _encode(self._value)
        return self._raw

    @property
    def value(self) -> dict[str, Any]:
        """The decoded object. A provider hands on only chunks that decode to one."""
        if self._value is None:
            assert self._raw is not None
            self._value = _decode(self._raw)
        return self._value

    @property
    def has_value(self) -> bool:
        """Whether it was decoded already (or never was bytes)."""
        return self._value is not None
