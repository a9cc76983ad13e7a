"""Server-sent events, as bytes arrive (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Differs from the standard on purpose in one place: an event that the stream's end cuts short of its empty line still counts,
because some providers end so. Only `data` is read; names, ids and retry times of events mean nothing in this protocol.

Most of what arrives are whole events of one `data: ` line each. Those are split at once (`_whole`), without a look at single
lines; whatever is not of that kind, and what belongs to an event begun in an earlier piece, goes line by line.
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
    """`feed` bytes however they are split; get the data of each finished event as UTF-8. `finish` once, at the end."""

    __slots__ = (
        "_after_cr", "_at_start", "_clean", "_data", "_event_bytes", "_event_bytes_max", "_line_bytes_max", "_rest", "_too_large", "_whole_bytes_max",
    )  # fmt: skip

    def __init__(self, *, line_bytes_max: int = LINE_BYTES_MAX, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._event_bytes_max = event_bytes_max
        self._whole_bytes_max = min(line_bytes_max, event_bytes_max)
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._event_bytes = 0
        self._at_start = True
        self._after_cr = False
        self._clean = False
        """Between two events, and not at the start, where a byte order mark may come."""
        self._too_large: SseTooLarge | None = None

    @property
    def between_events(self) -> bool:
        """Whether what comes next begins an event."""
        return self._clean

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that this chunk completes. Raises `SseTooLarge`, once what came before it is handed out."""
        if self._clean and len(chunk) <= self._whole_bytes_max and chunk.endswith(b"\n\n"):
            whole = _whole(chunk)
            if whole is not None:
                return whole
        if self._too_large is not None:
            raise self._too_large
        events: list[bytes] = []
        try:
            self._feed(chunk, events)
        except SseTooLarge as error:
            self._clean = False
            if not events:
                raise
            self._too_large = error
            return events
        self._clean = not (self._rest or self._data or self._after_cr or self._at_start)
        return events

    def finish(self) -> list[bytes]:
        """The data of an event that the end of the stream completes, if there is one."""
        if self._too_large is not None:
            raise self._too_large
        events: list[bytes] = []
        if self._rest:
            line = bytes(self._rest)
            self._rest.clear()
            self._take(line, events)
        self._take(b"", events)
        return events

    def _feed(self, chunk: bytes, events: list[bytes]) -> None:
        if self._rest or self._data or self._after_cr:  # in the middle of an event: line by line, to its end at least
            begun = chunk.find(b"\n\n") + 2
            if begun < 2:
                begun = len(chunk)
            self._lines(chunk[:begun], events)
            chunk = chunk[begun:]
        if chunk and not (self._rest or self._data or self._after_cr):
            end = len(chunk) if chunk.endswith(b"\r\n") else chunk.rfind(b"\n\n") + 2
            if 2 <= end <= self._whole_bytes_max and (whole := _whole(chunk[:end])) is not None:
                self._at_start = False
                events += whole
                chunk = chunk[end:]
        if chunk:
            self._lines(chunk, events)

    def _lines(self, chunk: bytes, events: list[bytes]) -> None:
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

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
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
        self._data.append(value if _is_utf8(value) else value.decode("utf-8", "replace").encode())


def _whole(chunk: bytes) -> list[bytes] | None:
    """The data of whole events of one `data: ` line each, maybe behind an `event: ` line, and comments; None for others."""
    if b"\r" in chunk:
        chunk = chunk.replace(b"\r\n", b"\n")
        if b"\r" in chunk or not chunk.endswith(b"\n\n"):
            return None
    if not (chunk.isascii() or _is_utf8(chunk)):
        return None
    if chunk.startswith(b"data: "):
        lines = chunk.count(b"\n")
        if lines == 2:
            return [chunk[6:-2]]
        datas = chunk[6:-2].split(b"\n\ndata: ")
        if lines == 2 * len(datas):
            return datas
    return _blocks(chunk[:-2].split(b"\n\n"))


def _blocks(blocks: list[bytes]) -> list[bytes] | None:
    datas = []
    for block in blocks:
        line = block[block.find(b"\n") + 1 :] if block.startswith(b"event: ") else block
        if line.startswith(b"data: ") and b"\n" not in line:
            datas.append(line[6:])
        elif not line.startswith(b":") or b"\n" in line:
            return None
    return datas


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
