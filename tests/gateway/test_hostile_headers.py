"""Authorization headers of somebody who means harm, over a real server's sockets: SQL, NUL, a megabyte, every kind of Unicode, keys that
are nearly right. All are refused, none reaches the database, and none takes long (20,000 by `make prove`; the figures are printed)."""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import uvicorn

from bursar.cli._http import HEAD_BYTES_MAX, protocol_for
from bursar.cli._serving import bind
from bursar.keys import KEY_PREFIX, KeyChecker
from tests.gateway.garbage import garbage_headers
from tests.gateway.world import World
from tests.support.scale import SEED, is_proving, scaled

pytestmark = pytest.mark.anyio

HEADERS = 20_000
P99_SECONDS = 0.02
BODY = json.dumps({"model": "demo/echo-1", "messages": [{"role": "user", "content": "Hi"}]}).encode()
SQL = (
    "' OR 1=1 --",
    "'; DROP TABLE keys; --",
    "' UNION SELECT hash FROM keys --",
    "\\'; SELECT pg_sleep(10); --",
    "1) OR (SELECT 1 FROM keys WHERE hash LIKE '0%') --",
    "$$; COPY keys TO PROGRAM 'id' $$",
    "%27%20OR%201%3D1",
)
TEXTS = ("ключ", "鍵", "🔑", "\u202eyek", "K\u0301ey", "\u0000", "\ufeff", "ſk-burſar", "\U0010ffff", "é" * 50)


def hostile(good: str, chance: random.Random) -> bytes:
    """One value of the header."""
    kinds: list[Callable[[], bytes]] = [
        lambda: chance.choice(list(garbage_headers(good).values())).encode("latin-1"),
        lambda: b"Bearer " + _in_shape(chance.choice(SQL), len(good), chance).encode(),
        lambda: b"Bearer " + chance.choice(SQL).encode() * chance.randint(1, 40),
        lambda: b"Bearer " + _with(good.encode(), chance, bytes([chance.choice((0, 9, 11, 12, 13, 127, 255))])),
        lambda: b"Bearer " + _with(good.encode(), chance, chance.choice(TEXTS).encode()),
        lambda: b"Bearer " + chance.choice(TEXTS).encode() * chance.randint(1, 200),
        lambda: b"Bearer " + chance.randbytes(chance.randint(1, 300)),
        lambda: b"Bearer " + _changed(good, chance).encode(),
        lambda: b"Bearer " + KeyChecker(chance.randbytes(32)).mint().encode(),
        lambda: b"Bearer " + _changed(good, chance).encode() + b"\r\nAuthorization: Bearer null",
        lambda: b"Bearer" + b" " * chance.randint(1, 500) + KEY_PREFIX.encode() + b"A" * chance.randint(0, 5_000),
        lambda: chance.choice((b"bearer ", b"Basic ", b"Digest ", b"")) + chance.randbytes(32).hex().encode(),
    ]
    if chance.random() < 0.005:
        return b"Bearer " + chance.choice((b"A", b"\0", b"' OR ", b"\xf0\x9f\x94\x91")) * (2**20 // 4)
    return chance.choice(kinds)()


def _with(good: bytes, chance: random.Random, piece: bytes) -> bytes:
    at = chance.randrange(1, len(good) - 1)  # whitespace around a key is none of it
    return good[:at] + piece + good[at + chance.randint(0, 1) :]


def _changed(good: str, chance: random.Random) -> str:
    at = chance.randrange(len(KEY_PREFIX), len(good))
    other = chance.choice([c for c in "abcXYZ019-_" if c != good[at]])
    return good[:at] + other + good[at + 1 :]


def _in_shape(text: str, length: int, chance: random.Random) -> str:
    """As long as a key, behind its prefix."""
    filled = KEY_PREFIX + text + "".join(chance.choice("abc0123456789") for _ in range(length))
    return filled[:length]


class Talk:
    """One connection after another, as the server closes them."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, value: bytes) -> int | None:
        """The status; None where the connection was closed without a word."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        head = b"POST /api/v1/chat/completions HTTP/1.1\r\nhost: here\r\nauthorization: " + value
        head += b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)
        try:
            writer.write(head + BODY)
            await writer.drain()
            said = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in said.splitlines()[1:] if ": " in line)
            answer = await reader.readexactly(int(fields["content-length"])) if "content-length" in fields else b""
            assert b"Traceback" not in answer
            status = int(said.split()[1])
            if status != 401 or fields.get("connection") == "close":
                await self.close()
        except (OSError, asyncio.IncompleteReadError):
            await self.close()
            return None
        return status

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(OSError):
                await self._streams[1].wait_closed()
            self._streams = None


@pytest.fixture
async def talk(world: World) -> AsyncIterator[Talk]:
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(
            world.gateway, loop="none", http=protocol_for(world.gateway), lifespan="off", ws="none", log_config=None
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    made = Talk(*listening.getsockname())
    yield made
    await made.close()
    server.should_exit = True
    await serving


async def test_hostile_headers_are_refused_from_memory_and_quickly(world: World, talk: Talk):
    chance = random.Random(SEED)
    statuses: Counter[int | None] = Counter()
    took: list[float] = []
    for _ in range(scaled(HEADERS)):
        value = hostile(world.key, chance)
        begun = time.perf_counter()
        status = await talk.ask(value)
        took.append(time.perf_counter() - begun)
        statuses[status] += 1
        assert status in (401, 400, 431) or (status is None and len(value) > HEAD_BYTES_MAX), (status, value[:200])
    assert world.admission.lookups == 0, "none reached the database"
    assert await world.generations() == []
    assert min(statuses[401], statuses[400], statuses[431] + statuses[None]) > 0
    p50, p99 = (sorted(took)[int(len(took) * share)] * 1000 for share in (0.5, 0.99))
    print(f"\n{len(took)} hostile headers: {dict(statuses)}, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    assert p99 < P99_SECONDS * 1000 or not is_proving()
    good = f"Bearer {world.key}".encode()
    assert await talk.ask(good) == 200, "and who has a key is served"
