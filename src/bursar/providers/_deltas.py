"""Many deltas at once: the events of a stream that are all of one plain kind, kept as the bytes they came in.

Most of what a model streams is alike: the same head (id, model, …), one choice, a few characters. Such events are checked and
decoded together, and can be handed on by replacing their head; none of them is written anew.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from bursar.providers._chunk import Chunk

_SPECIAL = (b'"finish_reason":"', b'"finish_reason": "', b'"usage":{', b'"usage": {', b'"error"', b"[DONE]", b"\r")
"""Where one of these is, plain deltas may end. It only says where to look: what is plain is decided by decoding."""
_CHOICES = b'"choices":'


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    audio: Any = None
    images: Any = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta
    index: int = 0
    finish_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice]
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(list[_Event]).decode


class Deltas:
    """`count` plain deltas in order. `data`: their events, each `data: {…}` and an empty line. None ends its choice, reports
    usage or an error, or lacks a choice.

    `head`: what each event begins with, up to its choices; None where they differ. `texts`: what they say, in order.
    """

    __slots__ = ("choices", "count", "data", "head", "texts")

    def __init__(self, data: bytes, events: list[_Event]) -> None:
        self.data = data
        self.count = len(events)
        self.texts: list[str] = []
        self.choices: set[int] = set()
        for event in events:
            for choice in event.choices:
                self.choices.add(choice.index)
                _add_texts(choice.delta, self.texts)
        end = data.find(_CHOICES)
        alike = data.count(data[: end + len(_CHOICES)])
        self.head = data[:end] if alike == data.count(_CHOICES) == self.count else None

    def chunks(self) -> Iterator[Chunk]:
        """One by one."""
        return (Chunk(each) for each in self.data[6:-2].split(b"\n\ndata: "))


def leading_deltas(piece: bytes) -> tuple[Deltas | None, bytes]:
    """The plain deltas that a piece of a stream begins with, and the rest of it. The piece begins with an event."""
    if not piece.startswith(b"data: {"):
        return None, piece
    end = min((at for mark in _SPECIAL if (at := piece.find(mark)) >= 0), default=len(piece))
    end = piece.rfind(b"\n\n", 0, end) + 2
    data = piece[:end]
    if end < 2 or data.count(b"\n") != 2 * (data.count(b"\n\ndata: {") + 1):
        return None, piece
    try:
        events = _decode(b"[" + data[6:-2].replace(b"\n\ndata: ", b",") + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, piece
    if len(events) != data.count(b"\n\n") or not all(map(_is_plain, events)):
        return None, piece
    return Deltas(data, events), piece[end:]


def _is_plain(event: _Event) -> bool:
    if event.usage is not None or event.error is not None or not event.choices:
        return False
    for choice in event.choices:
        delta = choice.delta
        # A second name for reasoning has to be added, and sounds and images are counted one by one.
        if delta.reasoning_content is not None or delta.audio is not None or delta.images is not None:
            return False
        if choice.finish_reason is not None:
            return False
    return True


def _add_texts(delta: _Delta, texts: list[str]) -> None:
    if delta.content:
        texts.append(delta.content)
    if delta.reasoning:
        texts.append(delta.reasoning)
    if delta.refusal:
        texts.append(delta.refusal)
    for call in delta.tool_calls or ():
        if call.function is not None:
            texts += [text for text in (call.function.name, call.function.arguments) if text]
