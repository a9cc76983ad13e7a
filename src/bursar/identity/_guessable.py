"""Passwords that are guessed first: those that leaked most often, and those that follow from the person or the keyboard.

`common_passwords.txt` has the most common of leaked passwords (docs/security/passwords.md says where it comes from): those long enough
to be chosen here, and the words that others are made of. Nothing is asked of the network.
"""

import itertools
import re
import unicodedata
from functools import cache
from pathlib import Path

PRODUCT = "bursar"
DISTINCT_CHARACTERS_MIN = 5
UNIT_CHARACTERS_MAX = 6
"""What is repeated must be longer than this to be worth anything."""
WALK_SHARE = 0.7  # a share of pairs of characters, not money
NAMED_CHARACTERS_MIN = 4
"""Parts of a name or address shorter than this stand in many a password by chance."""
OWN_CHARACTERS_MIN = 6
"""So much must be left of a password without the parts of the person's name and address."""

_FILE = Path(__file__).with_name("common_passwords.txt")
_WRITTEN_FOR = str.maketrans("@4310$5!7", "aaeiossit")
_ROWS = (
    "1234567890-=",
    "qwertyuiop[]",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "abcdefghijklmnopqrstuvwxyz",
    *("1qaz", "2wsx", "3edc", "4rfv", "5tgb", "6yhn", "7ujm", "8ik", "9ol", "0p"),
)
_NEIGHBOURS = frozenset(
    pair for row in _ROWS for pair in (row, row[::-1]) for pair in map("".join, itertools.pairwise(pair))
)
_NOT_WORDS = re.compile(r"[\W\d_]+")


def why_weak(password: str, *about: str) -> str | None:
    """Why it would be guessed soon, as a sentence; None where nothing is known against it. `about`: the person's name and address."""
    text = unicodedata.normalize("NFKC", password).casefold()
    plain = text.translate(_WRITTEN_FOR)
    if len(set(text)) < DISTINCT_CHARACTERS_MIN or len(_unit(text)) <= UNIT_CHARACTERS_MAX:
        return "This password repeats the same few characters. A few unrelated words are easy to remember."
    if _is_walk(re.sub(r"[\W_]", "", text)) or _is_walk(text):
        return "These are keys beside each other, or letters and digits in their order. A few unrelated words are easy to remember."
    if not _made_of(text).isdisjoint(_common()):
        return "This password, or the word it is made of, is among the most common in leaked lists. Choose another one."
    if any(_is_about(written, about) for written in (text, plain)):
        return "This password is little more than a name or an address that others know. Choose another one."
    return None


@cache
def _common() -> frozenset[str]:
    return frozenset(_FILE.read_text(encoding="utf-8").split())


def _made_of(text: str) -> set[str]:
    """The text, and the one word that it is written with: in plain letters, without what was put around it, once where it stands twice."""
    found = {text}
    for core in (_core(text), _core(text.translate(_WRITTEN_FOR)), _core(_unit(text))):
        found |= {core, core.translate(_WRITTEN_FOR), _unit(core)}
    words = set(_NOT_WORDS.split(text)) - {""}
    return found | words if len(words) == 1 else found


def _core(text: str) -> str:
    """Without digits and marks at either end: what "liverpool2024!" is made of."""
    letters = [at for at, character in enumerate(text) if character.isalpha()]
    return text[letters[0] : letters[-1] + 1] if letters else ""


def _unit(text: str) -> str:
    """What the text repeats from beginning to end, such as "abc" of "abcabcab"; itself where it repeats nothing."""
    for length in range(1, len(text) // 2 + 1):
        if all(text[at] == text[at - length] for at in range(length, len(text))):
            return text[:length]
    return text


def _is_walk(text: str) -> bool:
    steps = [one + other for one, other in itertools.pairwise(text)]
    walked = sum(step in _NEIGHBOURS or step[0] == step[1] for step in steps)
    return len(steps) > 0 and walked / len(steps) >= WALK_SHARE


def _is_about(text: str, about: tuple[str, ...]) -> bool:
    whole = {part for each in about for part in (each.casefold(), each.casefold().partition("@")[0])}
    parts = whole | {part for each in (*whole, PRODUCT) for part in _NOT_WORDS.split(each)}
    rest = text
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= NAMED_CHARACTERS_MIN:
            rest = rest.replace(part, "")
    return rest != text and len(_NOT_WORDS.sub("", rest)) < OWN_CHARACTERS_MIN
