"""A real `bursar demo`, started as a person would start it, and stopped as a service manager would stop it."""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0
COMMAND_SECONDS_MAX = 60.0
KEPT_FROM_THE_HOST = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
"""Everything else of the host's environment stays out: a stray BURSAR_ setting or provider key must not decide a test."""


def free_port() -> int:
    """A port on the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a subprocess of a test sees: the few variables a program needs, and `extra`."""
    kept = {name: os.environ[name] for name in KEPT_FROM_THE_HOST if name in os.environ}
    return {**kept, **(extra or {})}


class RunningServer:
    """`with RunningServer(...) as server:` is a served, ready demo installation.

    Attributes are the keys of the line that `bursar demo --json` prints: `base_url`, `api_base`, `api_key`, `management_key`,
    `organization` (id, slug), `users` (id, email, role, sign_in_url); `ready` is the whole object, `ready_seconds` how long it
    took to come, `data_dir` where its data is (a temporary folder, removed at the end, unless given).

    Leaving the block sends SIGTERM and asserts that the server ends in time with exit code 0 and printed nothing but that line.
    A failure inside the block carries the end of the server's standard error as a note.
    """

    base_url: str
    api_base: str
    api_key: str
    management_key: str
    organization: dict[str, str]
    users: list[dict[str, str]]

    def __init__(
        self,
        *,
        data_dir: Path | None = None,
        database_url: str | None = None,
        port: int | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        start_seconds: float = START_SECONDS_MAX,
        stop_seconds: float = STOP_SECONDS_MAX,
    ) -> None:
        """`port` is a free one when None; `database_url` is SQLite in `data_dir` when None."""
        self.port = free_port() if port is None else port
        self._own_folder = Path(tempfile.mkdtemp(prefix="bursar-test-"))
        self.data_dir = data_dir or self._own_folder / "data"
        self.stderr_path = self._own_folder / "stderr.log"
        self._args = list(args)
        self._env = clean_environment(env)
        if database_url is not None:
            self._env["BURSAR_DATABASE_URL"] = database_url
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._extra_lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}
        self.ready_seconds = 0.0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is not None:
                error.add_note(f"the server's standard error ended with:\n{self.stderr()[-3000:]}")
                self.kill()
            else:
                self.stop()
        finally:
            self._remove()

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def start(self) -> None:
        """Starts it, also again after `stop()` or `kill()` with the same data, and waits for its line."""
        assert self._process is None, "it runs already"
        self._lines, self._extra_lines = queue.Queue(), []
        command = [sys.executable, "-m", "bursar", "demo", "--json", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), *self._args]
        started = time.monotonic()
        with self.stderr_path.open("ab") as stderr:
            self._process = subprocess.Popen(
                [*_die_with_me(), *command],
                env=self._env,
                cwd=self._own_folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        try:
            line = self._lines.get(timeout=self._start_seconds)
        except queue.Empty:
            self.kill()
            raise AssertionError(self._report(f"no line within {self._start_seconds} s")) from None
        if line is None:
            code = self._process.wait(self._stop_seconds)
            self.kill()
            raise AssertionError(self._report(f"ended with exit code {code} before it was ready"))
        self.ready_seconds = time.monotonic() - started
        try:
            self.ready = json.loads(line)
            for name in ("base_url", "api_base", "api_key", "management_key", "organization", "users"):
                setattr(self, name, self.ready[name])
        except (ValueError, KeyError, TypeError) as error:
            self.kill()
            raise AssertionError(self._report(f"its line is not the promised object ({error!r}): {line}")) from None

    def stop(self) -> None:
        """SIGTERM, then exit code 0 in time and a quiet standard output, or `AssertionError`."""
        if self._process is None:
            return
        process = self._process
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(self._report(f"still ran {self._stop_seconds} s after SIGTERM")) from None
        self._reap()
        assert code == 0, self._report(f"ended with exit code {code} after SIGTERM")
        assert self._extra_lines == [], self._report(f"printed more than its line: {self._extra_lines[:5]}")

    def kill(self) -> None:
        """SIGKILL: what a power cut looks like. `start()` starts it again on the same data."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._reap()

    def signal(self, number: signal.Signals) -> None:
        """Sends any other signal, such as SIGHUP."""
        os.kill(self.pid, number)

    def run(self, *arguments: str) -> dict[str, Any]:
        """An operator's command beside the running server; the object that `--json` makes it print."""
        done = subprocess.run(
            [sys.executable, "-m", "bursar", *arguments, "--data-dir", self.data_dir, "--json"],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout))

    def user(self, role: str) -> dict[str, str]:
        """The first of `users` with that role."""
        return next(user for user in self.users if user["role"] == role)

    def stderr(self) -> str:
        """All that it wrote to standard error so far, over all its starts."""
        try:
            return self.stderr_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        first = True
        for line in process.stdout:
            if first:
                self._lines.put(line)
                first = False
            else:
                self._extra_lines.append(line)
        self._lines.put(None)

    def _reap(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        assert process.stdout is not None
        self._reader.join(5)
        process.stdout.close()

    def _report(self, what: str) -> str:
        return f"bursar demo: {what}\nstandard error ended with:\n{self.stderr()[-3000:]}"

    def _remove(self) -> None:
        shutil.rmtree(self._own_folder, ignore_errors=True)


def _die_with_me() -> list[str]:
    """A prefix that ends the server when the test process is killed; of no use from a thread, whose end would count as that."""
    setpriv = shutil.which("setpriv")
    in_main_thread = threading.current_thread() is threading.main_thread()
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv and in_main_thread else []
