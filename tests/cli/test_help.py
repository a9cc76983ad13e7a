"""The command line explains itself, and answers with documented exit codes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import bursar
from tests.support.server import clean_environment

COMMANDS = [
    ("demo",),
    ("serve",),
    ("migrate",),
    ("doctor",),
    ("users", "add"),
    ("users", "reset"),
    ("users", "list"),
    ("organizations", "add"),
    ("organizations", "list"),
    ("members", "add"),
    ("members", "invite"),
    ("members", "list"),
    ("members", "remove"),
    ("members", "revoke"),
    ("members", "role"),
    ("credits", "grant"),
    ("keys", "add"),
    ("keys", "rotate"),
    ("keys", "disable"),
    ("keys", "enable"),
    ("keys", "delete"),
    ("nodes", "list"),
    ("nodes", "forget"),
]
IMPORT_MILLISECONDS_MAX = 100


def listed(*group: str) -> set[str]:
    """The commands that `--help` lists."""
    section = bursar(*group, "--help").succeeded().out.partition("Commands:")[2]
    return set(re.findall(r"^  ([\w-]+)", section, re.MULTILINE))


def commands(*group: str) -> set[tuple[str, ...]]:
    """Every command below a group, however deep."""
    below = listed(*group)
    return set().union(*(commands(*group, name) for name in below)) if below else {group}


def test_this_file_knows_every_command():
    found = commands()
    assert found >= set(COMMANDS)
    for command in found - set(COMMANDS):
        assert "Example:" in bursar(*command, "--help").succeeded().out, command


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_shows_an_example(command: tuple[str, ...]):
    done = bursar(*command, "--help").succeeded()
    assert (
        f"Example: bursar {' '.join(command)}" in done.out
        or f"bursar {command[0]}" in done.out.partition("Example: ")[2]
    )
    if command != ("serve",):
        assert "--json" in done.out
    assert "--data-dir" in done.out


@pytest.mark.parametrize(
    "wrong", [("nonsense",), ("users", "nonsense"), ("demo", "--nonsense"), ("demo", "--port", "x"), ("users", "add")]
)
def test_a_wrong_command_line_is_exit_code_2(wrong: tuple[str, ...]):
    bursar(*wrong).refused(2)


def test_version_is_one_line():
    assert re.fullmatch(r"bursar \d+\.\d+\.\d+\S*\n", bursar("--version").succeeded().out)


def test_importing_bursar_prints_nothing_opens_nothing_and_is_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    took = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import bursar"],
            env=clean_environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert done.stdout == ""
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        assert lines == done.stderr.splitlines(), "nothing else is printed"
        microseconds = {line.split("|")[2].strip(): int(line.split("|")[1]) for line in lines[1:]}
        took.append(microseconds["bursar"] / 1000)
    with capsys.disabled():
        print(f"\nimport bursar: {min(took):.1f} ms")
    assert min(took) < IMPORT_MILLISECONDS_MAX
    assert list(tmp_path.iterdir()) == []
