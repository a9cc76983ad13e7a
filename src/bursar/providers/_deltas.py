"""Many deltas at once: the events of a stream that are all of one plain kind, kept as the bytes they came in.

Most of what a model streams is alike: the same head (id, model, …), one choice, a few characters. Such events are checked and
decoded together, and can be handed on by replacing their head; none of them is written anew.

Where a model streams slowly, each event comes alone, and checking it costs more than it says. So a stream's `Frame` is learnt: what such
an event is around its words. The next one with that frame has nothing in it to decode but a string.
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
_decode_text = msgspec.json.Decoder(str).decode

_CONTENT = b'"content":"'
_NOISE = b',"obfuscation":"'
"""OpenAI's: of another length in each event, so that lengths on the wire tell nothing of what is said."""


class Frame:
    """What is around the words of a plain delta: `before` ends with the quote that opens them, `after` begins with the one that closes
    them. Whatever else begins and ends so, and has nothing but a JSON string's inside between, is just as plain. Where events end with noise,
    `after` goes as far as that, and `end` comes behind it; else `end` is empty.
    """

    __slots__ = ("_choices", "_head", "after", "before", "end")

    def __init__(self, before: bytes, after: bytes, end: bytes, like: "Deltas") -> None:
        self.before, self.after, self.end = before, after, end
        self._head, self._choices = like.head, like.choices

    @staticmethod
    def of(deltas: "Deltas") -> "Frame | None":
        """That of a single event which says one thing, as content."""
        data = deltas.data
        noise = data.rfind(_NOISE)
        last = len(data) if noise < 0 else noise
        begin, close = data.find(_CONTENT) + len(_CONTENT), data.rfind(b'"}', 0, last)
        if deltas.count != 1 or len(deltas.texts) != 1 or not len(_CONTENT) <= begin <= close:
            return None
        if noise < 0:
            frame = Frame(data[:begin], data[close:], b"", deltas)
        else:
            frame = Frame(data[:begin], data[close : noise + len(_NOISE)], data[data.rfind(b'"') :], deltas)
        again = frame.read(data)
        return frame if again is not None and again.texts == deltas.texts else None

    def read(self, data: bytes) -> "Deltas | None":
        """The delta that one event of this frame is; None for any other, and for more or less than one event."""
        begin = len(self.before)
        if not data.startswith(self.before) or not data.endswith(self.end or self.after):
            return None
        close = data.find(self.after, begin)
        behind, last = close + len(self.after), len(data) - len(self.end)
        if close < 0 or behind > last or (behind < last and not self.end):
            return None
        words, noise = data[begin:close], data[behind:last]
        try:
            text = _decode_text(b'"%s"' % words)
            _decode_text(b'"%s"' % noise)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return Deltas(data, 1, [text] if text else [], self._choices, self._head, self, (words, noise))

    def around(self, words: bytes, noise: bytes) -> "Deltas":
        """As if such an event had come."""
        noise = noise if self.end else b""
        data = b"".join((self.before, words, self.after, noise, self.end))
        return Deltas(data, 1, [], self._choices, self._head)


class Deltas:
    """`count` plain deltas in order. `data`: their events, each `data: {…}` and an empty line. None ends its choice, reports
    usage or an error, or lacks a choice.

    `head`: what each event begins with, up to its choices; None where they differ. `texts`: what they say, in order. `frame`: that of a
    single event which was read by one, with its `words` as they stand in the JSON, and its noise.
    """

    __slots__ = ("choices", "count", "data", "frame", "head", "texts", "words")

    def __init__(
        self,
        data: bytes,
        count: int,
        texts: list[str],
        choices: set[int],
        head: bytes | None,
        frame: Frame | None = None,
        words: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        self.data, self.count, self.texts, self.choices = data, count, texts, choices
        self.head, self.frame, self.words = head, frame, words

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
    return _deltas(data, events), piece[end:]


def _deltas(data: bytes, events: list[_Event]) -> Deltas:
    texts: list[str] = []
    choices: set[int] = set()
    for event in events:
        for choice in event.choices:
            choices.add(choice.index)
            _add_texts(choice.delta, texts)
    end = data.find(_CHOICES)
    alike = data.count(data[: end + len(_CHOICES)])
    head = data[:end] if alike == data.count(_CHOICES) == len(events) else None
    return Deltas(data, len(events), texts, choices, head)


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
