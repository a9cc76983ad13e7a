"""Unmodified client libraries, each in an environment of its own, since they pin each other's versions apart."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from tests.support.server import clean_environment

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "clients"
INSTALL_SECONDS_MAX = 300
RUN_SECONDS_MAX = 120

ClientName = Literal["anthropic", "beancount", "litellm", "openai", "openrouter"]
NodeClientName = Literal["ai-sdk", "openrouter-sdk"]
NODE_CLIENTS = get_args(NodeClientName)


def client_python(name: ClientName) -> Path:
    """The interpreter of `.clients/<name>`, which is made from `requirements/clients/<name>.txt` when that file is new.

    Several test processes may ask at once: one makes it, the others wait.
    """
    lock_file = ROOT / "requirements" / "clients" / f"{name}.txt"
    folder = ROOT / ".clients" / name
    python = folder / "bin" / "python"
    stamp = folder / ".made-from"
    wanted = hashlib.sha256(lock_file.read_bytes()).hexdigest()
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
            stamp.unlink(missing_ok=True)
            _uv("venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
            _uv("pip", "sync", "--quiet", "--python", str(python), "--require-hashes", str(lock_file))
            stamp.write_text(wanted)
    return python


def run_client(
    name: ClientName,
    script: str,
    env: Mapping[str, str],
    *,
    given: str = "",
    timeout_seconds: float = RUN_SECONDS_MAX,
) -> Any:
    """Runs `tests/clients/<script>` with that client's interpreter; returns the JSON that it printed.

    The script sees `env` and little else; `given` is its standard input. Raises `AssertionError` with its standard error when it fails or prints no JSON.
    """
    python = client_python(name)
    with tempfile.TemporaryDirectory(prefix="bursar-client-") as folder:
        return _run(f"{script} ({name})", [python, "-B", SCRIPTS / script], folder, env, timeout_seconds, given)


def node_client(name: NodeClientName) -> Path:
    """The folder `.clients/<name>` with its `node_modules`, made by `npm ci` from `requirements/clients/<name>/package-lock.json` when
    that file is new. Raises `AssertionError` where Node is missing or too old."""
    wanted = ROOT / "requirements" / "clients" / name
    folder = ROOT / ".clients" / name
    stamp = folder / ".made-from"
    digest = hashlib.sha256((wanted / "package-lock.json").read_bytes()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == digest):
            stamp.unlink(missing_ok=True)
            for file in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(wanted / file, folder / file)
            assert shutil.which("npm"), "npm is missing: `sh tests/install_node.sh` says what to do"
            # Without scripts: no package needs one to be used.
            _installed("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)
            stamp.write_text(digest)
    return folder


def run_node_client(
    name: NodeClientName, script: str, env: Mapping[str, str], *, timeout_seconds: float = RUN_SECONDS_MAX
) -> Any:
    """As `run_client`, with Node, which looks for packages from where a script lies: all `.mjs` are copied to a folder there."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=node_client(name)) as folder:
        for file in SCRIPTS.glob("*.mjs"):
            shutil.copy(file, folder)
        return _run(f"{script} ({name})", ["node", script], folder, env, timeout_seconds)


def _run(
    what: str,
    command: Sequence[str | Path],
    folder: str,
    env: Mapping[str, str],
    timeout_seconds: float,
    given: str = "",
) -> Any:
    try:
        done = subprocess.run(
            command,
            env=clean_environment(env),
            cwd=folder,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{what} still ran after {timeout_seconds} s: {late.stderr!r}") from None
    failed = f"{what} ended with exit code {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, failed
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"{what} printed no JSON:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}") from None


def _uv(*arguments: str) -> None:
    tools = ROOT / ".tools"
    if not (tools / "uv").is_dir():
        raise RuntimeError(f"uv is not in {tools}: run `make test` once, which puts it there")
    environment = {**os.environ, "PYTHONPATH": str(tools)}
    environment.pop("VIRTUAL_ENV", None)
    _installed(sys.executable, "-m", "uv", *arguments, cwd=ROOT, env=environment)


def _installed(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
