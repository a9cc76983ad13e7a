"""`bursar selftest --kill`: kills a server of its own under load, again and again, and compares the books with what clients saw.

Everything happens in a scratch directory with the demo provider: whole answers, streams, and streams that clients leave. After each
`kill -9` the server starts again on what is on the disk, and then

- whoever saw the end of an answer was charged exactly what the answer said, once;
- whatever was dispatched left a row;
- who did not see the end was charged for what arrived, by its length, or for the whole answer, and nothing twice;
- the ledger adds up: drift 0, and what was spent is what the activity says.
"""

import asyncio
import http.client
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from bursar import ledger, reports
from bursar.activity import GenerationStatus
from bursar.app import SYSTEM_CLOCK, look_at_installation
from bursar.cli._output import answer
from bursar.kernel.errors import BursarError
from bursar.kernel.ids import GenerationId
from bursar.kernel.money import NANOS_PER_CREDIT
from bursar.settings import Settings, environment_without_settings, read_settings
from bursar.storage import SYSTEM

CLIENTS = 24
START_SECONDS_MAX = 60
KILLED_AFTER_SECONDS = (0.1, 1.4)  # seconds, not money
SHAPES = 14
"""Requests differ in how long their answers are, and whether they are streamed: every other one is."""
_LONG = frozenset({6, 12, 13})
"""Shapes whose progress is noted on the way. Most are short: there are the more moments to be killed at."""
_ESTIMATE_PERCENT_MAX = 150
"""What was cut off is charged for what arrived, which is counted by its length: never for more than this part of the whole answer."""
_SHAPE_LEFT = 6
"""Streams of this shape are left by their client after the first bytes."""


class SelfTestFailed(BursarError):
    """What clients saw and what the books say differ."""


@dataclass
class Seen:
    """What clients know. Only ever added to, by many threads."""

    begun: dict[GenerationId, int] = field(default_factory=dict)
    """The shape of every request whose answer began, by generation."""
    ended: dict[GenerationId, int] = field(default_factory=dict)
    """What it cost, in nanos, of every answer whose end was seen."""
    full_cost: dict[int, int] = field(default_factory=dict)
    """Of a whole answer, by shape: the demo provider is deterministic."""


@dataclass(frozen=True)
class Cycle:
    load_seconds: float
    begun: int
    """Requests whose answers began in this cycle."""
    ended: int
    in_doubt: int
    """Begun, and the end not seen."""
    start_seconds: float
    what: str = ""

    @property
    def requests_per_second(self) -> float:
        return self.begun / self.load_seconds if self.load_seconds else 0.0


class Server:
    """`bursar demo` as a child."""

    def __init__(self, data_dir: Path, env: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.env = dict(env) if env is not None else environment_without_settings()
        self.facts: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bursar"]

    def start(self) -> float:
        """Returns after how many seconds it was ready. Raises `SelfTestFailed` when it is not."""
        self.kill()  # lets go of one that ended by itself
        begun = SYSTEM_CLOCK.monotonic()
        options = ["demo", "--json", "--pace", "0", "--port", "0", "--data-dir", str(self.data_dir)]
        with (self.data_dir / "selftest.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [*self.command(), *options],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SelfTestFailed("The server ended before it was ready.", remedy=f"See {log.name}.")
        self.facts = json.loads(line)
        return SYSTEM_CLOCK.monotonic() - begun

    def wait(self, seconds: float) -> bool:
        """Whether it ended by itself meanwhile."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def exit_code(self) -> int | None:
        """Of one that ended by itself."""
        return None if self._process is None else self._process.returncode

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def grant(self, credits_: int) -> None:
        command = ["credits", "grant", "--organization", self.facts["organization"]["slug"], "--amount", str(credits_)]
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "bursar", *command, "--reason", "selftest", "--data-dir", str(self.data_dir)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=START_SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            raise SelfTestFailed(f"Credits could not be granted: {done.stderr.strip()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Load:
    """Clients in threads, until the server is gone."""

    def __init__(self, facts: Mapping[str, Any], seen: Seen, first: int) -> None:
        self._at = urlsplit(facts["api_base"])
        self._key = facts["api_key"]
        self._seen = seen
        self._ended_before = len(seen.ended)
        self._numbers = iter(range(first, 1 << 60))
        self._lock = threading.Lock()
        self.failures: list[str] = []
        """Answers that are neither right nor cut off."""
        self._threads = [threading.Thread(target=self._ask_on, daemon=True) for _ in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_until_answered(self) -> None:
        """Returns when a request of each client is answered, or nothing more comes: a slow machine is under load later."""
        until = SYSTEM_CLOCK.monotonic() + START_SECONDS_MAX
        while len(self._seen.ended) < self._ended_before + CLIENTS and SYSTEM_CLOCK.monotonic() < until:
            if not any(thread.is_alive() for thread in self._threads):
                return
            time.sleep(0.01)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(START_SECONDS_MAX)

    def _ask_on(self) -> None:
        connection = http.client.HTTPConnection(self._at.hostname or "", self._at.port, timeout=30)
        with suppress(http.client.HTTPException, OSError):
            while not self.failures:
                with self._lock:
                    number = next(self._numbers)
                if not self._ask(connection, number % SHAPES):
                    connection.close()
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, shape: int) -> bool:
        """Whether the connection can be used again."""
        body = {
            "model": "demo/echo-1",
            "stream": shape % 2 == 0,
            "messages": [
                {"role": "user", "content": f"[[tokens:{1 + shape * (30 if shape in _LONG else 4)}]] kill -9"}
            ],
        }
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        connection.request("POST", f"{self._at.path}/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            self.failures.append(f"{response.status} {response.read(1000).decode(errors='replace')}")
            return False
        generation = GenerationId(response.headers["x-generation-id"])
        self._seen.begun[generation] = shape
        if shape == _SHAPE_LEFT:
            response.read(1)
            return False
        text = response.read().decode()
        if body["stream"]:
            if not text.endswith("data: [DONE]\n\n"):
                return False
            text = text.split("\n\n")[-3].removeprefix("data: ")
        cost = json.loads(text, parse_float=Decimal)["usage"]["cost"]
        nanos = int(Decimal(cost) * NANOS_PER_CREDIT)
        self._seen.full_cost[shape] = nanos
        self._seen.ended[generation] = nanos
        return True


class CrashLoop:
    """One installation that is killed again and again."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self.server = server
        self.chance = chance
        self.seen = Seen()
        self._settings = read_settings(server.env, data_dir=server.data_dir)

    def begin(self) -> None:
        self.server.data_dir.mkdir(parents=True, exist_ok=True)
        self.server.start()
        self.server.grant(1_000_000)

    def cycle(self) -> Cycle:
        """Load, kill, start, compare. Raises `SelfTestFailed`."""
        before = len(self.seen.begun), len(self.seen.ended)
        begun = SYSTEM_CLOCK.monotonic()
        load = Load(self.server.facts, self.seen, self.chance.randrange(SHAPES))
        load.start()
        load.wait_until_answered()
        what = self.end_somehow()
        seconds = SYSTEM_CLOCK.monotonic() - begun
        self.server.kill()
        load.join()
        if load.failures:
            raise SelfTestFailed(f"A request was answered with {load.failures[0]}")
        started = self.start_again()
        self.compare()
        began, ended = len(self.seen.begun) - before[0], len(self.seen.ended) - before[1]
        return Cycle(seconds, began, ended, began - ended, started, what)

    def end_somehow(self) -> str:
        """Returns when it is time to kill the server, or when it is dead, and says what happened."""
        self.server.wait(self.chance.uniform(*KILLED_AFTER_SECONDS))
        return ""

    def start_again(self) -> float:
        return self.server.start()

    def compare(self) -> None:
        """Raises `SelfTestFailed` with the generation that is wrong."""
        books, rows = _read(self._settings)
        seen = self.seen
        _require(books.drift == 0, f"the books drift by {books.drift} nanos")
        spent = sum(row.cost for row in rows.values())
        _require(spent == books.spent, f"the activity says {spent} nanos were spent, the ledger {books.spent}")
        for generation, cost in seen.ended.items():
            _require(generation in rows, f"{generation} was answered and left no row")
            charged = rows[generation].cost
            _require(charged == cost, f"{generation} said {cost} nanos and was charged {charged}")
        for generation, shape in seen.begun.items():
            _require(generation in rows, f"{generation} was dispatched and left no row")
            row, full = rows[generation], seen.full_cost.get(shape)
            if full is not None:
                most = full if row.status is GenerationStatus.OK else full * _ESTIMATE_PERCENT_MAX // 100
                _require(row.cost <= most, f"{generation} was charged {row.cost} nanos, its answer costs {full}")
                complete = row.status is not GenerationStatus.OK or row.cost == full
                _require(complete, f"{generation} is complete and was charged {row.cost} of {full} nanos")


def run(*, seconds: float, seed: int | None, as_json: bool) -> None:
    """Prints a line for each kill and a sum, or exits with 1 and says what was wrong, and where everything still lies."""
    seed = seed if seed is not None else random.SystemRandom().randrange(1 << 31)
    scratch = Path(tempfile.mkdtemp(prefix="bursar-selftest-"))
    say = sys.stderr if as_json else sys.stdout
    print(f"Killing a server of its own for {seconds:g} s in {scratch} (--seed {seed}).", file=say, flush=True)
    cycles: list[Cycle] = []
    with Server(scratch) as server:
        loop = CrashLoop(server, random.Random(seed))  # noqa: S311 - moments, not secrets
        try:
            loop.begin()
            until = SYSTEM_CLOCK.monotonic() + seconds
            while SYSTEM_CLOCK.monotonic() < until:
                cycles.append(loop.cycle())
                print(f"{len(cycles):4}  {_line(cycles[-1])}", file=say, flush=True)
        except SelfTestFailed as error:
            raise SelfTestFailed(
                error.sentence, remedy=error.remedy or f"Nothing was removed: see {scratch}; again with --seed {seed}."
            ) from None
    shutil.rmtree(scratch)
    seen = loop.seen
    answer(
        {
            "kills": len(cycles),
            "requests": len(seen.begun),
            "answered": len(seen.ended),
            "in_doubt": sum(cycle.in_doubt for cycle in cycles),
            "ready_seconds_max": round(max(cycle.start_seconds for cycle in cycles), 3),
            "drift": 0,
            "seed": seed,
        },
        as_json=as_json,
        text=f"{len(cycles)} kills, {len(seen.begun)} requests, {len(seen.ended)} ends of answers seen: each charged once and exactly. Drift 0.",
    )


def _line(cycle: Cycle) -> str:
    return (
        f"kill -9 after {cycle.load_seconds:4.2f} s at {cycle.requests_per_second:4.0f} requests/s; ready again in "
        f"{cycle.start_seconds:4.2f} s; {cycle.ended} answers charged once and exactly, {cycle.in_doubt} in doubt; drift 0"
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SelfTestFailed(f"{otherwise[0].upper()}{otherwise[1:]}.")


def _read(settings: Settings) -> tuple[ledger.Verification, Mapping[GenerationId, reports.Settlement]]:
    """Beside the running server."""

    async def look() -> tuple[ledger.Verification, Mapping[GenerationId, reports.Settlement]]:
        async with look_at_installation(settings) as database, database.snapshot(SYSTEM) as snapshot:
            return await ledger.verify(snapshot), await reports.settlements(snapshot)

    with ThreadPoolExecutor(1) as thread:  # whoever calls may have a loop of its own
        return thread.submit(lambda: asyncio.run(look())).result()
