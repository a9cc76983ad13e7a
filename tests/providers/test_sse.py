"""The parser of server-sent events gives the same events however the bytes are split."""

import random
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bursar.providers import SseParser, SseTooLarge

WORDS = [
    b"data: ",
    b"data:",
    b"\n",
    b"\r",
    b"\n\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\x00",
    b": c\n",
    b"event: x\n",
    b"[DONE]",
    b"}",
]


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
    return [event.decode() for event in events + parser.finish()]


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
whole_events = st.lists(
    st.tuples(
        st.sampled_from([b"", b"", b"", b"event: x\n", b": c\n\n", b": c\n", b"\n", b"data: b\n", b"event: y\r\n"]),
        st.sampled_from([b'data: {"a": 1}', b"data: {}", b"data:{}", b"data: [DONE]", "data: é€🦉".encode(), b"data: \xe2", b"data: "]),
        st.sampled_from([b"\n\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\n\n\n"]),
    ).map(b"".join),
    max_size=12,
).map(b"".join)  # fmt: skip
streams = st.lists(fragments, max_size=40).map(b"".join) | whole_lines | whole_events | st.binary(max_size=200)


@given(streams, st.data())
@example(b"data: a\r\ndata: b\r\n\r\ndata: c\r\r", None)
def test_events_are_the_same_however_the_bytes_are_split(content: bytes, data: st.DataObject | None) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=12))) if data else list(range(len(content)))
    pieces = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert parsed(pieces) == reference(content)


@given(streams)
def test_events_are_the_same_when_every_byte_comes_alone(content: bytes) -> None:
    assert parsed([bytes([byte]) for byte in content]) == reference(content)


def test_ten_thousand_mutated_streams_are_read_as_the_standard_reads_them() -> None:
    choice = random.Random(20261124)
    for number in range(10_000):
        end = choice.choice([b"\n\n", b"\n\n", b"\r\n\r\n"])
        events = [b'data: {"choices":[{"delta":{"content":"%d"}}]}' % number] * choice.randint(1, 6)
        content = bytearray(end.join([*events, b"data: [DONE]", b""]))
        for _ in range(choice.randint(0, 5)):
            at = choice.randint(0, len(content))
            content[at : at + choice.randint(0, 5)] = choice.choice(WORDS)
        cuts = sorted(choice.randint(0, len(content)) for _ in range(choice.randint(0, 5)))
        pieces = [bytes(content[start:end]) for start, end in pairwise([0, *cuts, len(content)])]
        assert parsed(pieces) == reference(bytes(content)), pieces


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("before", [b"", b"event: x", b": PROCESSING"])
def test_whole_events_are_split_without_a_look_at_single_lines(
    end: bytes, before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(SseParser, "_lines")
    if before:
        before += end[: len(end) // 2] if before.startswith(b"event") else end
    piece = (before + b"data: a" + end) * 2 + "data: é".encode() + end
    parser = SseParser()
    assert parser.feed(piece) + parser.feed(piece) == [b"a", b"a", "é".encode()] * 2


def test_after_an_event_in_two_parts_the_others_are_split_at_once_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\n\ndata: b") == [b"a"]
    looked: list[bytes] = []
    lines = SseParser._lines
    monkeypatch.setattr(
        SseParser, "_lines", lambda self, chunk, events: (looked.append(chunk), lines(self, chunk, events))
    )
    assert parser.feed(b"c\n\ndata: d\n\ndata: e\n\ndata: f") == [b"bc", b"d", b"e"]
    assert looked == [b"c\n\n", b"data: f"]


def test_an_ordinary_stream_is_read() -> None:
    content = (
        b'\xef\xbb\xbf: OPENROUTER PROCESSING\n\ndata: {"a": 1}\n\nevent: x\ndata: two\ndata: lines\n\ndata: [DONE]\n\n'
    )
    assert parsed([content]) == ['{"a": 1}', "two\nlines", "[DONE]"]


def test_an_event_is_given_as_soon_as_its_empty_line_is_there() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\n") == [b"a"]
    assert parser.finish() == []


def test_a_line_that_is_too_long_is_an_error_before_it_is_kept() -> None:
    parser = SseParser(line_bytes_max=10)
    assert parser.feed(b"data: 4567\n\n") == [b"4567"]
    parser.feed(b"data: 45")
    with pytest.raises(SseTooLarge):
        parser.feed(b"678")


def test_an_event_of_many_lines_that_is_too_long_is_an_error() -> None:
    parser = SseParser(event_bytes_max=20)
    with pytest.raises(SseTooLarge):
        parser.feed(b"data: 12345\n" * 4)


def test_what_came_before_a_line_that_is_too_long_is_handed_out_first() -> None:
    parser = SseParser(line_bytes_max=10)
    assert parser.feed(b"data: a\n\n" + b"x" * 11) == [b"a"]
    with pytest.raises(SseTooLarge):
        parser.feed(b"")
    with pytest.raises(SseTooLarge):
        parser.finish()
