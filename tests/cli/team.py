"""`bursar serve` with several workers on PostgreSQL, somebody with credits and a key, and a provider whose answers can be steered."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2
from aiohttp import web

from tests.cli.support import Serve, bursar
from tests.support.server import free_port

CATALOG = """
[[provider]]
slug = "acme"
protocol = "openai"
base_url = "http://127.0.0.1:{port}/v1"
training = false
"""
MODEL = """
[[model]]
id = "acme/{name}"
context_length = 32768
max_completion_tokens = 4096
[[endpoint]]
model = "acme/{name}"
provider = "acme"
upstream_model = "{name}"
prompt = "0"
{prices}
"""
FLAT = 'completion = "0"\nrequest = "0.01"'
"""A cent a request."""
BY_TOKEN = 'completion = "0.0001"'
"""A cent for a hundred tokens."""


class Provider:
    """Speaks OpenAI's protocol in a thread. A request says in `user` what becomes of it: `hold` until `release`, `silent` for ever
    after a first piece; its usage is half of `max_tokens`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.running = 0
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

    def catalog(self, folder: Path) -> Path:
        path = folder / "catalog.toml"
        models = MODEL.format(name="flat", prices=FLAT) + MODEL.format(name="metered", prices=BY_TOKEN)
        path.write_text(CATALOG.format(port=self.port) + models)
        return path

    def release(self) -> None:
        """Whatever was held goes on, and what comes is not held."""
        self._loop.call_soon_threadsafe(self._released.set)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._released = asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", self.port, backlog=4096)
        self._loop.run_until_complete(site.start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.running += 1
        try:
            return await (self._stream(request, body) if body.get("stream") else self._whole(body))
        finally:
            self.running -= 1

    async def _whole(self, body: Mapping[str, Any]) -> web.StreamResponse:
        await self._wait(body)
        message = {"role": "assistant", "content": "Hello"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        head = {"id": "c", "created": 1, "model": body["model"]}
        return web.json_response({**head, "object": "chat.completion", "choices": choices, "usage": _usage(body)})

    async def _stream(self, request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "c", "created": 1, "model": body["model"], "object": "chat.completion.chunk"}

        async def say(**piece: Any) -> None:
            await response.write(f"data: {json.dumps({**head, **piece})}\n\n".encode())

        await say(choices=[{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}])
        await self._wait(body)
        await say(choices=[{"index": 0, "delta": {"content": " there"}, "finish_reason": "stop"}])
        await say(choices=[], usage=_usage(body))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _wait(self, body: Mapping[str, Any]) -> None:
        if body.get("user") == "silent":
            await asyncio.Event().wait()
        if body.get("user") == "hold":
            await self._released.wait()


def _usage(body: Mapping[str, Any]) -> dict[str, int]:
    tokens = (body.get("max_tokens") or 2) // 2
    return {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}


class Team(Serve):
    """`bursar serve --workers N` on `url` (or SQLite); `workers` are its processes, by their index."""

    def __init__(
        self,
        data_dir: Path,
        provider: Provider,
        url: str | None = None,
        *,
        workers: int = 1,
        args: Sequence[str] = (),
        program: Sequence[str] = ("bursar",),
        **env: str,
    ) -> None:
        """`program`: the module to run, and what it wants before the command."""
        data_dir.mkdir(exist_ok=True, parents=True)
        self.env = {"BURSAR_CATALOG": str(provider.catalog(data_dir.parent)), "BURSAR_SECRET": "s" * 40, **env}
        if url is not None:
            self.env["BURSAR_DATABASE_URL"] = url
        for name, most in (("TOTAL", 8192), ("PER_OWNER", 8192), ("PER_KEY", 8192)):
            self.env.setdefault(f"BURSAR_CONCURRENCY_{name}", str(most))
        self.data_dir = data_dir
        self.workers = workers
        self._is_dead = False
        super().__init__(data_dir, args=["--workers", str(workers), *args], env=self.env, program=program)

    @property
    def api_base(self) -> str:
        return f"{self.base_url}/api/v1"

    @property
    def where(self) -> Path | str:
        """The database, as `support.read` takes it."""
        return self.env.get("BURSAR_DATABASE_URL") or self.data_dir

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def processes(self) -> list[int]:
        """The workers', or the one that serves alone."""
        return children(self.pid) or [self.pid]

    def run(self, *command: str) -> Any:
        return bursar(*command, "--data-dir", self.data_dir, "--json", env=self.env).succeeded().json

    def owner(self, name: str = "p", amount: str = "100", keys: int = 1) -> list[dict[str, Any]]:
        """A person with these credits; the keys. By the operator's commands, as one who scripts them."""
        email = f"{name}@example.com"
        self.run("users", "add", "--email", email, "--name", name, "--verified")
        self.run("credits", "grant", "--user", email, "--amount", amount, "--reason", "for a test")
        return [self.run("keys", "add", "--email", email, "--name", f"key {number}") for number in range(keys)]

    def health(self, what: str = "ready") -> int:
        try:
            return int(httpx2.get(f"{self.base_url}/health/{what}", timeout=5).status_code)
        except httpx2.HTTPError:
            return 0

    def signal(self, name: signal.Signals) -> None:
        self._process.send_signal(name)

    def die(self) -> None:
        """What a power cut leaves: nobody is started again, and nobody returns anything."""
        workers = children(self.pid)
        self._is_dead = True
        for process in (self.pid, *workers):
            kill(process)
        self._process.wait(10)
        for process in workers:
            while Path(f"/proc/{process}").exists():
                time.sleep(0.02)

    def __exit__(self, kind: object, *rest: object) -> None:
        if self._is_dead:
            self._end(signal.SIGKILL)
        else:
            super().__exit__(kind, *rest)

    def wait(self, seconds: float = 30) -> int:
        return self._process.wait(seconds)


def children(pid: int) -> list[int]:
    """The processes that one started, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    found.append(int(entry.name))
    return sorted(found)


def memory(pid: int) -> int:
    """In MB: what is the process's own, and its share of what it has in common with others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("Pss:"))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def stream_of(team: Team, key: str, **more: Any) -> Iterator[Iterator[str]]:
    body = {"model": "acme/metered", "stream": True, "max_tokens": 100, **more}
    body["messages"] = [{"role": "user", "content": "Hi"}]
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.stream("POST", f"{team.api_base}/chat/completions", json=body, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        yield (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
