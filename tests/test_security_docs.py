"""The pages on security say what is so: each row of the standard names tests that exist, and figures are the code's."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from bursar import identity
from bursar.identity import AttemptKind
from bursar.identity._second_factors import RECOVERY_BYTES, RECOVERY_CODES

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "security"
STATES = {"met", "partly", "not met"}


def rows(text: str) -> list[tuple[str, str, list[str]]]:
    """Of the tables of requirements: number, state, tests."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if re.fullmatch(r"\d+\.\d+\.\d+", cells[0]):
            found.append((cells[0], cells[2], re.findall(r"`([^`]+)`", cells[4])))
    return found


@cache
def names_in(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_"))


def faults(text: str) -> list[str]:
    found = []
    for number, state, tests in rows(text):
        if state not in STATES:
            found.append(f"{number} is {state}")
        if state != "not met" and not tests:
            found.append(f"{number} names no test")
        for test in tests:
            path, _, name = test.partition("::")
            if name not in names_in(path):
                found.append(f"{number} names {test}, which is not there")
    return found


def test_every_row_says_how_it_stands_and_names_tests_that_are_there():
    text = (PAGES / "asvs.md").read_text(encoding="utf-8")
    assert len(rows(text)) > 40
    assert len({number for number, _, _ in rows(text)}) == len(rows(text))
    assert faults(text) == []


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("| 6.1.1 | 1 | met | by words | |", "names no test"),
        ("| 6.1.1 | 1 | partly | by words | |", "names no test"),
        (
            "| 6.1.1 | 1 | fine | by words | `tests/test_security_docs.py::test_a_row_that_is_wrong_is_found` |",
            "is fine",
        ),
        ("| 6.1.1 | 1 | met | by words | `tests/test_security_docs.py::test_nothing` |", "which is not there"),
        ("| 6.1.1 | 1 | met | by words | `tests/none.py::test_nothing` |", "which is not there"),
    ],
)
def test_a_row_that_is_wrong_is_found(row: str, fault: str):
    (found,) = faults(row)
    assert fault in found


def test_the_pages_name_the_figures_of_the_code():
    passwords = (PAGES / "passwords.md").read_text(encoding="utf-8")
    asvs = (PAGES / "asvs.md").read_text(encoding="utf-8")
    minutes = {kind: kind.value.wait_max.seconds // 60 for kind in AttemptKind}
    words = {5: "five", 50: "fifty"}
    for phrase in (
        f"after {words[AttemptKind.SIGN_IN.value.free]} wrong passwords",
        f"at most {minutes[AttemptKind.SIGN_IN]} minutes",
        f"after {words[AttemptKind.CLIENT.value.free]}, at most {minutes[AttemptKind.CLIENT]} minutes",
        f"at most {words[AttemptKind.MAIL.value.free]} messages an hour",
    ):
        assert phrase in " ".join(passwords.split()), phrase
    for phrase in (
        f"the absolute lifetime is {identity.SESSION_LIFETIME.days} days",
        f"the idle lifetime {identity.SESSION_IDLE_LIFETIME.days} days",
        f"at most {identity.PROVED_FOR.seconds // 60} minutes old",
        f"{RECOVERY_BYTES * 8} random bits",
    ):
        assert phrase in " ".join(asvs.split()), phrase
    assert RECOVERY_CODES == 10
