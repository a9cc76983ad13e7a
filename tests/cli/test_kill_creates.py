"""kill -9 while keys are created under Idempotency-Keys: whatever was sent again is there once, and what was answered before is what there is."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx2
import pytest

from tests.support.postgres import PostgresServer
from tests.support.scale import SEED, scaled
from tests.support.server import RunningServer

CLIENTS = 4
ANSWERS_MAX = 20
"""After so many at most the server is killed, and up to so many seconds later."""
SECONDS_MAX = 0.05


class Creators:
    """Several clients that create key after key, each under a name of its own, until the server is gone."""

    def __init__(self, server: RunningServer, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}
        self._url = f"{server.api_base}/keys"
        self.sent: list[str] = []
        self.answered: dict[str, str] = {}
        self._lock = threading.Lock()

    def create(self, client: httpx2.Client, name: str) -> httpx2.Response:
        headers = {**self._headers, "Idempotency-Key": name}
        return client.post(self._url, headers=headers, json={"name": name, "limit": 5})

    def go_on(self, prefix: str) -> None:
        with httpx2.Client(timeout=10) as client, suppress(httpx2.HTTPError):
            for number in range(10_000):
                name = f"{prefix}-{number}"
                with self._lock:
                    self.sent.append(name)
                answer = self.create(client, name)
                assert answer.status_code == 201, answer.text
                self.answered[name] = answer.json()["data"]["hash"]

    def names_there(self, client: httpx2.Client) -> list[str]:
        names: list[str] = []
        while True:
            answer = client.get(self._url, headers=self._headers, params={"offset": len(names)})
            page = [key["name"] for key in answer.json()["data"]]
            if not page:
                return names
            names += page


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_whatever_is_sent_again_after_a_kill_is_there_once(backend: str, request: pytest.FixtureRequest):
    url = None
    if backend == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.clone("template_bursar")
    chance = random.Random(f"{SEED} {backend}")
    with RunningServer(database_url=url) as server:
        creators, unanswered = Creators(server, server.management_key), 0
        for cycle in range(scaled(20)):
            with ThreadPoolExecutor(CLIENTS) as pool:
                works = [pool.submit(creators.go_on, f"c{cycle}-{client}") for client in range(CLIENTS)]
                enough = len(creators.answered) + chance.randint(1, ANSWERS_MAX)
                while len(creators.answered) < enough and not any(work.done() for work in works):
                    time.sleep(0.001)
                time.sleep(chance.uniform(0, SECONDS_MAX))
                server.kill()
                for work in works:
                    work.result()
            server.start()
            with httpx2.Client(timeout=10) as client:
                for name in [each for each in creators.sent if each.startswith(f"c{cycle}-")]:
                    again = creators.create(client, name)
                    assert again.status_code == 201, again.text
                    known = creators.answered.get(name)
                    unanswered += known is None
                    assert known in (None, again.json()["data"]["hash"])
                    assert known is None or again.headers["idempotent-replayed"] == "true"
        with httpx2.Client(timeout=10) as client:
            there = creators.names_there(client)
        assert sorted(name for name in there if name in set(creators.sent)) == sorted(creators.sent)
        assert creators.answered
        assert unanswered >= CLIENTS, "every client had one on the way"
