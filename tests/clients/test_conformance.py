"""The official clients, unmodified but for the base URL, each in its own environment against one running server.

What each of them does is in its own script beside this file; what was seen is `docs/compatibility.md`.
"""

import dataclasses
import fcntl
import json
import re
from pathlib import Path

import pytest

from tests.clients import matrix
from tests.clients.matrix import CLIENTS, OPERATIONS, PAGE, Seen
from tests.clients.suite import run_all
from tests.support.clients import NODE_CLIENTS, ROOT

pytestmark = pytest.mark.clients

SCRIPTS = Path(__file__).parent
_OPERATION = re.compile(r'^(?:@case|put)\(\s*"([a-z0-9_.]+)"|^  "(errors\.[a-z0-9]+)": \[', re.MULTILINE)


def operations_of(script: str) -> list[str]:
    """What its cases are about, read from its text: it imports what is in its own environment only."""
    return [one or other for one, other in _OPERATION.findall((SCRIPTS / script).read_text(encoding="utf-8"))]


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Seen]:
    """By the client's name. Of several test processes one runs the clients, and the others wait for what it saw."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder if worker_id == "master" else folder.parent
    with (shared / "clients.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = shared / "clients.json"
        if not found.exists():
            found.write_text(json.dumps([dataclasses.asdict(client) for client in run_all()]))
    return {client["name"]: Seen(**client) for client in json.loads(found.read_text())}


@pytest.mark.parametrize(
    ("client", "operation"), [(name, each) for name, script in CLIENTS.items() for each in operations_of(script)]
)
def test_a_client_does_what_the_page_says(seen: dict[str, Seen], client: str, operation: str):
    failed = seen[client].cases[operation]["failed"]
    assert failed is None, failed


def test_the_page_of_compatibility_says_what_the_run_saw(seen: dict[str, Seen]):
    written = matrix.page(list(seen.values()))
    assert PAGE.read_text(encoding="utf-8") == written, "renew it: .venv/bin/python -m tests.clients"


def test_every_case_is_an_operation_of_the_matrix_and_every_operation_is_tried():
    tried = {each for script in CLIENTS.values() for each in operations_of(script)}
    assert tried == {each for rows in OPERATIONS.values() for each in rows}


def test_every_client_did_every_case_of_its_script(seen: dict[str, Seen]):
    for name, script in CLIENTS.items():
        assert list(seen[name].cases) == operations_of(script)


def test_the_lock_files_of_node_clients_pin_by_hash_and_name_no_registry():
    for name in NODE_CLIENTS:
        lock = json.loads((ROOT / "requirements" / "clients" / name / "package-lock.json").read_text(encoding="utf-8"))
        packages = [package for path, package in lock["packages"].items() if path]
        assert packages
        assert [package for package in packages if "resolved" in package or "integrity" not in package] == []


def test_a_client_that_fails_is_not_written_as_one_that_works():
    def row(failed: str | None, differs: str | None) -> str:
        cases = {"key": {"failed": failed, "differs": differs}}
        page = matrix.page([Seen("acme", "1", cases)])
        return next(line for line in page.splitlines() if line.startswith("| the key that asks")).split("|")[2].strip()

    assert row(None, None) == "✓"
    assert row(None, "Refused.") == row("AssertionError", None) == "[1](#differences)"
