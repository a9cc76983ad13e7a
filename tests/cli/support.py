"""The command as a person types it, `bursar serve`, a small provider that speaks OpenAI's protocol, and a look at the books."""

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2
from aiohttp import web
from sqlalchemy import func, select

import bursar.app
from bursar import ledger
from bursar.activity import tables as activity_tables
from bursar.kernel.clock import SystemClock
from bursar.storage import SYSTEM, Database, Sealer, Snapshot
from tests.support.server import clean_environment, free_port

COMMAND_SECONDS_MAX = 30


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        """The one line on stdout."""
        [line] = self.out.splitlines()
        return json.loads(line)

    @property
    def said(self) -> str:
        return self.out + self.err

    def succeeded(self) -> Self:
        assert self.code == 0, self
        return self

    def refused(self, code: int) -> Self:
        """With this exit code, a sentence, and no traceback."""
        assert self.code == code, self
        assert self.said.strip(), "it says why"
        assert "Traceback" not in self.said, self.said
        assert "Warning" not in self.said, self.said
        return self


def bursar(*arguments: Any, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Done:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "bursar", *map(str, arguments)],
        env=clean_environment({"PYTHONWARNINGS": "default", **(env or {})}),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


class Serve:
    """`bursar serve`, until the block ends: then SIGTERM, and exit code 0."""

    def __init__(
        self,
        data_dir: Path,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = ("bursar",),
    ) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        self._command = [sys.executable, "-m", *program, "serve", "--port", str(self.port), "--data-dir", str(data_dir)]
        self._command += args
        self._env = clean_environment(env)
        self._ready: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            assert self._ready.get(timeout=30), f"it ended before it was ready: {self.stderr}"
            time.sleep(0.2)  # the lines after it belong to the same message
        except BaseException:
            self._end(signal.SIGKILL)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        code, out = self._end(signal.SIGTERM)
        if kind is None:
            assert (code, out) == (0, ""), self.stderr

    @property
    def stderr(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line)
            if line.startswith("Bursar serves on"):
                self._ready.put(line)
        self._ready.put("")

    def _end(self, how: signal.Signals) -> tuple[int, str]:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.send_signal(how)
        code = self._process.wait(20)
        self._reader.join(5)
        out = self._process.stdout.read()
        self._process.stdout.close()
        self._process.stderr.close()
        return code, out


class LocalProvider:
    """A provider that speaks OpenAI's protocol on a free port, in a thread. `seen` has the requests."""

    def __init__(self, usage: Mapping[str, int]) -> None:
        self.usage = dict(usage)
        self.port = free_port()
        self.seen: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self.port).start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append({"authorization": request.headers.get("Authorization"), "body": body})
        head = {"id": "cmpl-1", "created": 1, "model": body["model"]}
        total = {**self.usage, "total_tokens": sum(self.usage.values())}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "Hello from acme"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return web.json_response({**head, "object": "chat.completion", "choices": choices, "usage": total})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        pieces: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": "Hello from acme"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": total},
        ]
        for piece in pieces:
            chunk = {**head, "object": "chat.completion.chunk", **piece}
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


def acme_catalog(port: int, completion: str = "0.000000013", credential: str = "ACME_API_KEY") -> str:
    """The example of the issue that asked for the catalogue file."""
    return f"""
[[provider]]
slug = "acme"
protocol = "openai"
base_url = "http://127.0.0.1:{port}/v1"
credential_env = "{credential}"
training = false
retention_days = 0
[[model]]
id = "acme/prime"
context_length = 32768
max_completion_tokens = 4096
[[endpoint]]
model = "acme/prime"
provider = "acme"
upstream_model = "prime-1"
prompt = "0.000000007"
completion = "{completion}"
"""


def ask(api_base: str, key: str, content: str = "Hello", model: str = "demo/echo-1", **more: Any) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
    return httpx2.post(
        f"{api_base}/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30
    )


def get(api_base: str, path: str, key: str | None = None) -> Any:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx2.get(f"{api_base}{path}", headers=headers, timeout=30)


@dataclass(frozen=True)
class Books:
    verification: ledger.Verification
    cost_nanos: int
    requests: int
    statuses: dict[str, int]


Found = TypeVar("Found")


def read(where: Path | str, look: Callable[[Snapshot], Awaitable[Found]]) -> Found:
    """What `look` finds in the database of a data directory (or a URL), beside a server or without one."""

    async def in_snapshot() -> Found:
        url = f"sqlite:///{where / 'bursar.db'}" if isinstance(where, Path) else where
        database = Database(url, clock=SystemClock(), sealer=Sealer(os.urandom(32)), node="node_test")
        try:
            async with database.snapshot(SYSTEM) as snapshot:
                return await look(snapshot)
        finally:
            await database.close()

    with ThreadPoolExecutor(1) as thread:  # a test may have a loop of its own
        return thread.submit(lambda: asyncio.run(in_snapshot())).result(30)


def books(where: Path | str) -> Books:
    """What it all adds up to."""
    table = activity_tables.generations
    counts = select(table.c.status, func.count().label("count"), func.sum(table.c.cost_nanos).label("cost")).group_by(
        table.c.status
    )

    async def look(snapshot: Snapshot) -> Books:
        rows = await snapshot.all(counts)
        return Books(
            await ledger.verify(snapshot),
            sum(int(row.cost) for row in rows),
            sum(row.count for row in rows),
            {row.status: row.count for row in rows},
        )

    return read(where, look)


def generations(where: Path | str) -> dict[str, tuple[str, int]]:
    """Status and cost in nanos of every request, by its id."""
    table = activity_tables.generations

    async def look(snapshot: Snapshot) -> dict[str, tuple[str, int]]:
        rows = await snapshot.all(select(table.c.id, table.c.status, table.c.cost_nanos))
        return {row.id: (row.status, row.cost_nanos) for row in rows}

    return read(where, look)


def eventually(check: Callable[[], Any], seconds: float = 10) -> Any:
    """What `check` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
