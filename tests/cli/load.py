"""Clients that ask a `Team` again and again, whole answers and streams, and keep what they saw."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import aiohttp

from tests.cli.team import Team

CLIENTS = 16
PAUSE_SECONDS = 0.05
PRICES = {"acme/flat": 10_000_000, "acme/metered": 5_000_000}
"""In nanos: a cent a request; half of a hundred tokens at a hundredth of a cent."""


@dataclass(frozen=True)
class Asked:
    """One request and its answer. Status 0: the connection broke before the end of it."""

    client: int
    at: float
    status: int
    retry_after: int = 0
    generation: str = ""
    cost: int = 0
    error: str = ""


@dataclass
class Load:
    """In a thread, while the block lasts; whoever is refused or cut off asks again."""

    team: Team
    keys: Sequence[str]
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._done = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(60)

    @property
    def clients_served(self) -> int:
        return len({each.client for each in list(self.asked) if each.status == 200})

    @property
    def served(self) -> dict[str, int]:
        """What each answer whose end was seen said that it cost, in nanos."""
        return {each.generation: each.cost for each in list(self.asked) if each.status == 200}

    def statuses(self, since: float, until: float) -> Counter[int]:
        return Counter(each.status for each in self._between(since, until))

    def errors(self, since: float, until: float) -> Counter[str]:
        return Counter(each.error for each in self._between(since, until) if each.status != 200)

    def _between(self, since: float, until: float) -> Iterable[Asked]:
        return [each for each in list(self.asked) if since <= each.at < until]

    async def _all(self) -> None:
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(60)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(self._one(session, number) for number in range(CLIENTS)))

    async def _one(self, session: aiohttp.ClientSession, number: int) -> None:
        """Every second client streams."""
        headers = {"Authorization": f"Bearer {self.keys[number % len(self.keys)]}"}
        body: dict[str, object] = {"model": "acme/flat", "messages": [{"role": "user", "content": "Hi"}]}
        if number // len(self.keys) % 2:
            body |= {"model": "acme/metered", "max_tokens": 100, "stream": True}
        while not self._done.is_set():
            try:
                async with session.post(f"{self.team.api_base}/chat/completions", json=body, headers=headers) as answer:
                    self.asked.append(_asked(number, answer, await answer.text()))
            except (aiohttp.ClientError, TimeoutError) as error:
                self.asked.append(Asked(number, time.monotonic(), 0, error=repr(error)))
            await asyncio.sleep(PAUSE_SECONDS)


def _asked(client: int, answer: aiohttp.ClientResponse, text: str) -> Asked:
    now, generation = time.monotonic(), answer.headers.get("x-generation-id", "")
    if answer.status != 200:
        retry_after = int(answer.headers.get("retry-after", 0))
        return Asked(client, now, answer.status, retry_after, generation, error=json.loads(text)["error"]["message"])
    if answer.content_type == "text/event-stream":
        assert text.endswith("data: [DONE]\n\n"), text
        text = text.split("\n\n")[-3].removeprefix("data: ")
    return Asked(client, now, 200, 0, generation, round(json.loads(text)["usage"]["cost"] * 10**9))
