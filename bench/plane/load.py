"""A load generator that keeps out of the way: raw keep-alive connections, one request in flight on each.

`python load.py URL KEYS CONNECTIONS SECONDS EVENTS GAP_MS RATE STATUS` prints one JSON line: requests, seconds, latencies (ms), events.
KEYS is a file with one key a line, used in turn. EVENTS 0 asks for whole answers; else for streams of so many events, GAP_MS apart.
RATE 0 asks as fast as answers come; else so many times a second in all, and latency counts from when a request was due.
Every answer must have STATUS.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import count, cycle, repeat
from pathlib import Path
from urllib.parse import urlsplit

import httptools
import uvloop

BODY = {
    "model": "bench/prime",
    "messages": [{"role": "user", "content": "Say something good about slow things. " * 4}],
    "max_tokens": 256,
}


class Client(asyncio.Protocol):
    def __init__(
        self,
        requests: Iterator[bytes],
        due: Iterator[float],
        until: float,
        latencies: list[float],
        done: asyncio.Future[None],
        status: int,
    ) -> None:
        self.status = status
        self.requests, self.due, self.until, self.latencies, self.done = requests, due, until, latencies, done
        self.events = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._send_when_due()

    def _send_when_due(self) -> None:
        self.begun = next(self.due)
        wait = self.begun - time.perf_counter()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.begun = self.begun or time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b"\ndata: ") + data.startswith(b"data: ")
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() != self.status:
            if not self.done.done():
                self.done.set_exception(RuntimeError(f"status {self.parser.get_status_code()}"))
            return
        now = time.perf_counter()
        self.latencies.append(now - self.begun)
        if now < self.until:
            self._send_when_due()
        elif not self.done.done():
            self.transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or RuntimeError("closed early"))


def requests_of(url: str, keys: list[str], events: int, gap_ms: str) -> list[bytes]:
    parts = urlsplit(url)
    stream = {"stream": True, "max_tokens": events, "user": f"gap-{gap_ms}"} if events else {"stream": False}
    body = json.dumps({**BODY, **stream}, separators=(",", ":")).encode()
    return [
        (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        + body
        for key in keys
    ]


def moments(begun: float, number: int, connections: int, rate: int) -> Iterator[float]:
    """When connection `number` is to ask; 0 for at once."""
    if not rate:
        return repeat(0.0)
    return count(begun + number / rate, connections / rate)


async def main(
    url: str, keys: list[str], connections: int, seconds: float, events: int, gap_ms: str, rate: int, status: int
) -> None:
    parts = urlsplit(url)
    requests = cycle(requests_of(url, keys, events, gap_ms))
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    begun = time.perf_counter()
    clients = [
        Client(
            requests,
            moments(begun, number, connections, rate),
            begun + seconds,
            latencies,
            loop.create_future(),
            status,
        )
        for number in range(connections)
    ]
    for client in clients:
        await loop.create_connection(lambda client=client: client, parts.hostname, parts.port)  # type: ignore[misc]
    await asyncio.gather(*(client.done for client in clients))
    took = time.perf_counter() - begun
    ordered = sorted(latencies)
    print(
        json.dumps(
            {
                "requests": len(latencies),
                "seconds": took,
                "p50_ms": ordered[len(ordered) // 2] * 1000,
                "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
                "events": sum(client.events for client in clients),
            }
        )
    )


if __name__ == "__main__":
    url, key_file, connections, seconds, events, gap_ms, rate, status = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        keys = Path(key_file).read_text().split()
        runner.run(main(url, keys, int(connections), float(seconds), int(events), gap_ms, int(rate), int(status)))
