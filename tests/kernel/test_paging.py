"""Keyset paging: walking a list forwards and back shows each item once."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel.paging import Cursor, Page, page_of

lists = st.sets(st.integers(0, 9999), max_size=60).map(lambda numbers: sorted(f"{n:05}" for n in numbers))
sizes = st.integers(1, 12)


def read(stored: list[str], size: int, cursor: Cursor | None) -> Page[str]:
    """What a report's query reads: `size + 1` rows by id, in the cursor's direction."""
    if cursor is not None and cursor.direction == "newer":
        rows = [item for item in stored if item > cursor.id]
    else:
        rows = [item for item in reversed(stored) if cursor is None or item < cursor.id]
    return page_of(rows[: size + 1], size, cursor, lambda item: item)


def walk(stored: list[str], size: int, first: Page[str], side: str) -> list[Page[str]]:
    pages = [first]
    while (text := getattr(pages[-1], side)) is not None:
        cursor = Cursor.decode(text)
        assert cursor is not None
        pages.append(read(stored, size, cursor))
        assert len(pages) <= len(stored) + 1
    return pages


@given(lists, sizes)
def test_walking_to_the_end_sees_each_item_once_newest_first(stored: list[str], size: int):
    pages = walk(stored, size, read(stored, size, None), "older")
    assert [item for page in pages for item in page.items] == stored[::-1]
    assert all(len(page.items) <= size for page in pages)
    assert all(page.items for page in pages[1:])


@given(lists, sizes)
def test_walking_back_from_the_end_sees_each_item_once_and_arrives_at_the_first_page(stored: list[str], size: int):
    last = walk(stored, size, read(stored, size, None), "older")[-1]
    pages = walk(stored, size, last, "newer")
    assert [item for page in reversed(pages) for item in page.items] == stored[::-1]
    assert pages[-1].newer is None


@given(lists, sizes, st.integers(10_000, 10_050))
def test_what_arrives_while_one_walks_shifts_nothing(stored: list[str], size: int, new: int):
    first = read(stored, size, None)
    pages = walk([*stored, str(new)], size, first, "older")
    assert [item for page in pages for item in page.items] == stored[::-1]


@given(
    st.sampled_from(["older", "newer"]),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=48),
)
def test_a_cursor_reads_back(direction, name: str):
    text = Cursor(direction, name).encode()
    assert Cursor.decode(text) == Cursor(direction, name)
    assert not set(text) & set("=+/&?# ")


@given(st.text(max_size=300))
def test_a_mangled_cursor_is_the_first_page_and_never_an_error(text: str):
    found = Cursor.decode(text)
    assert found is None or found.direction in ("older", "newer")


@pytest.mark.parametrize("plain", ["", "o", "n", "xgen-1", "o\x00", "ogen-\x00", "o\x1b[0m", "o\x7f"])
def test_a_cursor_that_no_database_would_take_is_none(plain: str):
    assert Cursor.decode(base64.urlsafe_b64encode(plain.encode()).decode()) is None


def test_an_overlong_cursor_is_none():
    assert Cursor.decode("b" * 201) is None
    assert Cursor.decode(None) is None
