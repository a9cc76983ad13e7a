"""The parser of server-sent events gives the same events however the bytes are split."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bursar.providers import SseParser, SseTooLarge


def reference(content: bytes) -> list[str]:
    """The standard's algorithm on the whole text at once, with the last event counted even without its empty line."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    events: list[str] = []
    data: list[str] = []
    for line in [*lines, ""]:
        if line == "":
            if data:
                events.append("\n".join(data))
            data = []
        elif line == "data":
            data.append("")
        elif line.startswith("data:"):
            value = line[5:]
            data.append(value.removeprefix(" "))
    return events


def parsed(pieces: list[bytes]) -> list[str]:
    parser = SseParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.finish()


fragments = st.sampled_from(
    [b"data: ", b"data:", b"data", b"event: x", b"id", b": comment", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b" ", b"{}",
     b"[DONE]", b"\xef\xbb\xbf", "é€🦉".encode(), b"\xff", b"\xe2", b"retry: 5", b":", b"dat", b"a: 1"]
)  # fmt: skip
lines = st.sampled_from(
    [
        b"data: a",
        b"data:",
        b"data",
        b"",
        b"",
        b": c",
        b"event: x",
        b"data: [DONE]",
        "data: é€🦉".encode(),
        b"\xef\xbb\xbf",
    ]
)
line_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
whole_lines = st.lists(st.tuples(lines, line_ends).map(b"".join), max_size=20).map(b"".join)
streams = st.lists(fragments, max_size=40).map(b"".join) | whole_lines | st.binary(max_size=200)


@given(streams, st.data())
@example(b"data: a\r\ndata: b\r\n\r\ndata: c\r\r", None)
def test_events_are_the_same_however_the_bytes_are_split(content: bytes, data: st.DataObject | None) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=12))) if data else list(range(len(content)))
    pieces = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert parsed(pieces) == reference(content)


@given(streams)
def test_events_are_the_same_when_every_byte_comes_alone(content: bytes) -> None:
    assert parsed([bytes([byte]) for byte in content]) == reference(content)


def test_an_ordinary_stream_is_read() -> None:
    content = (
        b'\xef\xbb\xbf: OPENROUTER PROCESSING\n\ndata: {"a": 1}\n\nevent: x\ndata: two\ndata: lines\n\ndata: [DONE]\n\n'
    )
    assert parsed([content]) == ['{"a": 1}', "two\nlines", "[DONE]"]


def test_an_event_is_given_as_soon_as_its_empty_line_is_there() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\n") == ["a"]
    assert parser.finish() == []


def test_a_line_that_is_too_long_is_an_error_before_it_is_kept() -> None:
    parser = SseParser(line_bytes_max=10)
    assert parser.feed(b"data: 4567\n\n") == ["4567"]
    parser.feed(b"data: 45")
    with pytest.raises(SseTooLarge):
        parser.feed(b"678")


def test_an_event_of_many_lines_that_is_too_long_is_an_error() -> None:
    parser = SseParser(event_bytes_max=20)
    with pytest.raises(SseTooLarge):
        parser.feed(b"data: 12345\n" * 4)


def test_what_came_before_a_line_that_is_too_long_is_handed_out_first() -> None:
    parser = SseParser(line_bytes_max=10)
    assert parser.feed(b"data: a\n\n" + b"x" * 11) == ["a"]
    with pytest.raises(SseTooLarge):
        parser.feed(b"")
    with pytest.raises(SseTooLarge):
        parser.finish()
