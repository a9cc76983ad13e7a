"""Keyset cursors: where a page of a list ordered by id, newest first, begins. No offsets, so page 1,000 costs what page 1 does."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Item = TypeVar("Item")

PAGE_ITEMS_DEFAULT = 50


@dataclass(frozen=True)
class Cursor:
    """`older`: items before this id; `newer`: items after it."""

    direction: Literal["older", "newer"]
    id: str

    def encode(self) -> str:
        return base64.urlsafe_b64encode(f"{self.direction[0]}{self.id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str | None) -> "Cursor | None":
        """The cursor, or None for none and for anything that is not one: a mangled link shows the first page."""
        if not text or len(text) > 200:
            return None
        try:
            plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        except (binascii.Error, ValueError):
            return None
        directions: dict[str, Literal["older", "newer"]] = {"o": "older", "n": "newer"}
        direction = directions.get(plain[:1])
        # Ids are printable; anything else is a mangled link, and PostgreSQL would refuse some of it.
        return cls(direction, plain[1:]) if direction and plain[1:].isprintable() and plain[1:] else None


@dataclass(frozen=True)
class Page(Generic[Item]):
    """Items, newest first, and the cursors of the pages on both sides (None where there is none)."""

    items: Sequence[Item]
    newer: str | None
    older: str | None


def page_of(rows: Sequence[Item], size: int, cursor: Cursor | None, id_of: Callable[[Item], str]) -> Page[Item]:
    """Makes a page of at most `size` from up to `size + 1` rows read in the cursor's direction.

    Rows of an `older` (or no) cursor come newest first, rows of a `newer` cursor oldest first, as the query reads them.
    """
    more = len(rows) > size
    kept = list(rows[:size])
    backwards = cursor is not None and cursor.direction == "newer"
    if backwards:
        kept.reverse()
    if not kept:
        return Page([], None, None)
    has_newer = more if backwards else cursor is not None
    has_older = True if backwards else more
    return Page(
        kept,
        Cursor("newer", id_of(kept[0])).encode() if has_newer else None,
        Cursor("older", id_of(kept[-1])).encode() if has_older else None,
    )
