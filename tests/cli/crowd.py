"""Many clients at the same moment: each on a connection of its own, all connected and all but one byte sent before any last byte is."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CONNECTING_AT_ONCE = 200
ANSWER_SECONDS_MAX = 60


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """One connection, kept open. `request` is what it sends, again and again."""

    port: int
    request: bytes
    answers: list[Answer] = field(default_factory=list)

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)

    def begin(self) -> None:
        """All but the last byte."""
        self._writer.write(self.request[:-1])

    def finish(self) -> None:
        self._writer.write(self.request[-1:])

    async def sent(self) -> None:
        await self._writer.drain()

    async def answer(self) -> Answer:
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), ANSWER_SECONDS_MAX)
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        self.answers.append(Answer(int(first.split(" ")[1]), headers, body))
        return self.answers[-1]

    async def connect_again(self) -> None:
        """The server closes what was idle for a while."""
        self.close()
        await self.connect()

    @property
    def last(self) -> Answer:
        return self.answers[-1]

    def close(self) -> None:
        self._writer.close()


def request_of(key: str, model: str, **more: Any) -> bytes:
    """A request to the chat completions, as bytes on the wire."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}).encode()
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: bursar\r\nAuthorization: Bearer {key}\r\n"
    return head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def connect(port: int, requests: Iterable[bytes]) -> Sequence[Client]:
    clients = [Client(port, request) for request in requests]
    await _few_at_once([client.connect for client in clients])
    return clients


async def connect_again(clients: Iterable[Client]) -> None:
    await _few_at_once([client.connect_again for client in clients])


async def _few_at_once(works: Sequence[Callable[[], Awaitable[object]]]) -> None:
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def one(work: Callable[[], Awaitable[object]]) -> None:
        async with gate:
            await work()

    await asyncio.gather(*(one(work) for work in works))


async def wave(clients: Sequence[Client]) -> Counter[int]:
    """Each sends its request once; no last byte leaves before every client has sent all others. The statuses of the answers."""
    for client in clients:
        client.begin()
    await asyncio.gather(*(client.sent() for client in clients))
    for client in clients:
        client.finish()
    answers = await asyncio.gather(*(client.answer() for client in clients))
    return Counter(answer.status for answer in answers)
