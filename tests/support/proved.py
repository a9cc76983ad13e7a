"""`make prove` can be interrupted and goes on where it was: what passed at this commit and from this seed is not run again.

The names of passed tests are kept in `.proved/COMMIT-SEED`; remove the folder to begin anew. With changes that are not committed nothing
is kept.
"""

import subprocess
from pathlib import Path

import pytest

from tests.support.scale import SEED, is_proving

ROOT = Path(__file__).parents[2]


class Proved:
    """A plugin of pytest: in each worker it leaves out what passed, in the main process it notes what passes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed = set(path.read_text().splitlines()) if path.exists() else set()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        done = [item for item in items if item.nodeid in self._passed]
        items[:] = [item for item in items if item.nodeid not in self._passed]
        config.hook.pytest_deselected(items=done)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._path.parent.mkdir(exist_ok=True)
            with self._path.open("a") as file:
                file.write(f"{report.nodeid}\n")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._passed:
            session.exitstatus = pytest.ExitCode.OK


def pytest_configure(config: pytest.Config) -> None:
    commit = _commit() if is_proving() else None
    if commit is None:
        return
    proved = Proved(ROOT / ".proved" / f"{commit}-{SEED}")
    if hasattr(config, "workerinput"):
        proved.pytest_runtest_logreport = None  # type: ignore[method-assign,assignment]
    config.pluginmanager.register(proved)


def _commit() -> str | None:
    """None where the tree has changes, or there is no git."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    name = done.stdout.strip()
    return name if name and not name.endswith("-dirty") else None
