"""Server-sent events, as bytes arrive (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Differs from the standard on purpose in one place: an event that the stream's end cuts short of its empty line still counts,
because some providers end so. Only `data` is read; names, ids and retry times of events mean nothing in this protocol.
"""

import re

LINE_BYTES_MAX = 8 * 1024 * 1024
"""An image in a delta is one line."""
EVENT_BYTES_MAX = 16 * 1024 * 1024

_LINE_END = re.compile(rb"[\r\n]")
_BOM = b"\xef\xbb\xbf"


class SseTooLarge(ValueError):
    """A line or an event is longer than allowed. The parser must not be used afterwards."""


class SseParser:
    """`feed` bytes however they are split; get the data of each finished event. `finish` once, at the end."""

    def __init__(self, *, line_bytes_max: int = LINE_BYTES_MAX, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._event_bytes_max = event_bytes_max
        self._rest = bytearray()
        self._data: list[str] = []
        self._event_bytes = 0
        self._at_start = True
        self._after_cr = False
        self._too_large: SseTooLarge | None = None

    def feed(self, chunk: bytes) -> list[str]:
        """The data of the events that this chunk completes. Raises `SseTooLarge`, once what came before it is handed out."""
        if self._too_large is not None:
            raise self._too_large
        events: list[str] = []
        try:
            self._split(chunk, events)
        except SseTooLarge as error:
            if not events:
                raise
            self._too_large = error
        return events

    def finish(self) -> list[str]:
        """The data of an event that the end of the stream completes, if there is one."""
        if self._too_large is not None:
            raise self._too_large
        events: list[str] = []
        if self._rest:
            line = bytes(self._rest)
            self._rest.clear()
            self._take(line, events)
        self._take(b"", events)
        return events

    def _split(self, chunk: bytes, events: list[str]) -> None:
        start = 0
        while (end := _LINE_END.search(chunk, start)) is not None:
            piece = chunk[start : end.start()]
            start = end.end()
            if self._after_cr and end[0] == b"\n" and not piece:  # the second half of a CRLF
                self._after_cr = False
                continue
            self._after_cr = end[0] == b"\r"
            self._keep(piece)
            line = bytes(self._rest)
            self._rest.clear()
            self._take(line, events)
        if start < len(chunk):
            self._after_cr = False
            self._keep(chunk[start:])

    def _keep(self, piece: bytes) -> None:
        if len(self._rest) + len(piece) > self._line_bytes_max:
            raise SseTooLarge(f"a line is longer than {self._line_bytes_max} bytes")
        self._rest += piece

    def _take(self, line: bytes, events: list[str]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append("\n".join(self._data))
                self._data.clear()
                self._event_bytes = 0
            return
        name, _, value = line.partition(b":")
        if name != b"data":
            return
        value = value.removeprefix(b" ")
        self._event_bytes += len(value) + 1
        if self._event_bytes > self._event_bytes_max:
            raise SseTooLarge(f"an event is longer than {self._event_bytes_max} bytes")
        self._data.append(value.decode("utf-8", "replace"))
