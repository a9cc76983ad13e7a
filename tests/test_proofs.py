"""Every test that `docs/proofs.md` names exists, and every line names one."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_outcome_names_tests_that_exist():
    head, *lines = [line for line in (ROOT / "docs" / "proofs.md").read_text().splitlines() if line.startswith("| ")]
    assert len(lines) > 20
    assert [line for line in lines if not NAMED.search(line)] == []
    named = {found for line in lines for found in NAMED.findall(line)}
    assert [f"{path}::{name}" for path, name in sorted(named) if name not in _tests(ROOT / path)] == []
    assert head.split("|")[-2].strip() == "shown by"


def _tests(path: Path) -> set[str]:
    body = ast.parse(path.read_text()).body
    return {each.name for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
