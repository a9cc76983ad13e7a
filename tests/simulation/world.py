"""One schedule: nodes, clients, an operator and bad weather, all decided by a seed; then calm, and the laws of `money.md`.

1. For `TRAFFIC_SECONDS` requests arrive while processes are killed, machines lose power, links and disks fail, clocks jump.
2. The weather clears: everything is started again, except nodes that never come back; those are forgotten by the operator.
3. Everything that is owed is applied. Then `laws` looks at the database, the clients and the providers side by side.
"""

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bursar import ledger
from bursar.gateway import Caller, LeaseSizes
from bursar.kernel.ids import KeyId, OwnerId, UserId
from bursar.kernel.money import Nanos
from bursar.ledger import Account, Transfer, TransferKind, WorkerAlive
from bursar.storage import SYSTEM
from tests.simulation.database import Network, Server, SimulatedDatabase
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.node import Node, NodeClock
from tests.simulation.upstream import Upstreams

TRAFFIC_SECONDS = 6.0
QUIET_SECONDS = 60.0
"""How long what is owed may take once the weather is fine."""
APPLIED_SECONDS = 8.0
"""How long a batch may take then; the longest pause between two tries is 5 s."""
FORGET_SECONDS = 20
"""Without a sign of a worker for so long, the operator may forget it; longer than its blind time."""
USER = UserId("user_1")
FAULTS = ("kill", "power", "terminate", "cut", "lossy", "slow", "clock", "disk", "deaf", "lose")
"""What the weather may bring; each is a method of `Schedule`."""


class Violation(Exception):
    """A law of `money.md` does not hold."""


@dataclass
class Asked:
    """One request, as its client knows it. Every request has a key of its own, by which its rows are found."""

    number: int
    owner: OwnerId
    node: str
    streamed: bool
    at: float
    body_bytes: int = 0
    status: int | None = None
    body: bytearray = field(default_factory=bytearray)
    has_ended: bool = False
    has_left: bool = False

    @property
    def key(self) -> KeyId:
        return KeyId(f"key_{self.number}")

    def told(self) -> int | None:
        """What it was told to have been charged, in nanos, if it saw the end of an answer."""
        if not self.has_ended or self.status != 200:
            return None
        if not self.streamed:
            return _nanos(json.loads(self.body))
        events = bytes(self.body).decode().split("\n\n")
        if events[-2:] != ["data: [DONE]", ""]:
            return None
        return _nanos(json.loads(events[-3].removeprefix("data: ")))


def _nanos(answer: Mapping[str, Any]) -> int | None:
    return round(answer["usage"]["cost"] * 10**9) if "usage" in answer else None


class Schedule:
    """Everything that happens under one seed. `trace` is readable, and the same each time."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = rng = random.Random(f"schedule {seed}")
        self.trace: list[str] = []
        self.loop = SimulatedLoop(random.Random(f"turns {seed}"))
        self.server = Server(self.loop, rng)
        self.operator = SimulatedDatabase(
            self.server, Process("operator", self.loop), Network(rng), NodeClock(self.loop)
        )
        weather = rng.choice((0.0, 0.3, 0.5, 1.0, 1.0))
        self.faults = [name for name in FAULTS if rng.random() < 0.5] if weather else []
        self.upstreams = Upstreams(
            rng, weather * rng.choice((0.0, 0.15, 0.3)), weather * rng.choice((0.0, 0.05)), self.note
        )
        count = rng.choice((1, 2, 3))
        sizes = LeaseSizes(
            seconds=rng.choice((1, 5)),
            share=rng.choice((1, 2, 4, 16)),
            least=rng.choice((1, 5_000, 50_000)),
            idle_seconds=rng.choice((0, 3)),
            blind_seconds=8,
        )
        self.nodes = [
            Node(
                f"node_{letter}",
                loop=self.loop,
                server=self.server,
                rng=rng,
                upstreams=self.upstreams,
                sizes=sizes,
                note=self.note,
                alone=count == 1,
            )
            for letter in "abc"[:count]
        ]
        self.owners = [OwnerId(f"org_{number}") for number in range(rng.choice((1, 2, 3)))]
        self.granted: dict[OwnerId, int] = dict.fromkeys(self.owners, 0)
        self.grants = 0
        self.asked: list[Asked] = []
        self.violations: list[str] = []
        self._clients: list[asyncio.Task[None]] = []
        for node in self.nodes:
            node.clock.offset = timedelta(seconds=rng.choice((0, 0, -30, 30)))

    def note(self, what: str) -> None:
        self.trace.append(f"{self.loop.time():9.4f}  {what}")

    def violated(self, what: str) -> None:
        self.note(f"VIOLATION: {what}")
        self.violations.append(what)

    async def run(self) -> None:
        for owner in self.owners:
            await self._grant(owner, self.rng.choice((20_000, 100_000, 400_000)))
        for node in self.nodes:
            node.start()
        others = [asyncio.ensure_future(self._weather()), asyncio.ensure_future(self._operate())]
        await self._traffic()
        await asyncio.gather(*others)
        await self._clear()

    async def _traffic(self) -> None:
        number = 0
        busy = self.rng.choice((0.2, 0.4, 0.8))
        while self.loop.time() < TRAFFIC_SECONDS:
            await asyncio.sleep(self.rng.expovariate(1 / busy))
            for _ in range(self.rng.choice((1, 1, 1, 4))):
                ready = [node for node in self.nodes if node.is_ready]
                if ready:
                    number += 1
                    node = self.rng.choice(ready)
                    self._clients.append(asyncio.ensure_future(self._ask(number, node)))

    async def _ask(self, number: int, node: Node) -> None:
        rng = self.rng
        asked = Asked(number, rng.choice(self.owners), node.name, rng.random() < 0.7, self.loop.time())
        self.asked.append(asked)
        body: dict[str, Any] = {"model": "acme/prime", "user": str(number), "stream": asked.streamed}
        body["messages"] = [{"role": "user", "content": "Hello" * rng.choice((1, 30))}]
        if not asked.streamed or rng.random() < 0.6:
            body["max_tokens"] = rng.choice((20, 100, 400))
        data = json.dumps(body).encode()
        asked.body_bytes = len(data)
        self.note(f"request {number} of {asked.owner} goes to {node.name}")
        await self._exchange(asked, node, data)
        told = asked.told()
        end = f"was told {told}" if told is not None else "saw no end" if not asked.has_ended else "was refused"
        self.note(f"request {number} is over: {asked.status}, {end}")

    async def _exchange(self, asked: Asked, node: Node, data: bytes) -> None:
        process = node.process
        assert process is not None
        left, gone = asyncio.Event(), self.loop.create_future()
        pieces = [data]

        async def receive() -> dict[str, Any]:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(), "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Mapping[str, Any]) -> None:
            if asked.has_left or not process.is_alive:
                return
            if message["type"] == "http.response.start":
                asked.status = message["status"]
            else:
                asked.body += message.get("body", b"")
                asked.has_ended = not message.get("more_body", False)
            await asyncio.sleep(self.rng.choice((0, 0, 0.001)))

        scope = {"type": "http", "method": "POST", "path": "/api/v1/chat/completions", "headers": []}
        caller = Caller(asked.owner, USER, asked.key)
        cancelling = self.rng.random() < 0.5
        serving = process.spawn(node.gateway.serve(scope, receive, send, caller))
        process.on_death.append(lambda: gone.done() or gone.set_result(None))
        patience = self.rng.choice((0.001, 0.01, 0.1, 0.5, 2.0)) if self.rng.random() < 0.3 else None
        await asyncio.wait([serving, gone], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done() and not gone.done():
            self.note(f"the client of request {asked.number} leaves")
            asked.has_left = True
            # Servers tell it in either way: by what `receive` says, or by cancelling whoever serves.
            process.run(serving.cancel if cancelling else left.set)

    # What goes wrong

    async def _weather(self) -> None:
        pause = self.rng.choice((0.3, 1.0, 3.0))
        while self.faults and self.loop.time() < TRAFFIC_SECONDS:
            await asyncio.sleep(self.rng.expovariate(1 / pause))
            node, fault = self.rng.choice(self.nodes), self.rng.choice(self.faults)
            if node.is_lost:
                continue
            self.note(f"{fault}: {node.name}")
            getattr(self, f"_{fault}")(node)

    def _later(self, seconds: tuple[float, ...], work: Any) -> None:
        self.loop.call_later(self.rng.choice(seconds), work)

    def _kill(self, node: Node) -> None:
        node.down(power=False)
        self._later((0.01, 0.5, 3.0), node.start)

    def _power(self, node: Node) -> None:
        node.down(power=True)
        self._later((0.01, 0.5, 3.0), node.start)

    def _terminate(self, node: Node) -> None:
        if node.is_ready:
            stopping = asyncio.ensure_future(node.stop())
            stopping.add_done_callback(lambda _: self._later((0.01, 0.5), node.start))

    def _cut(self, node: Node) -> None:
        node.network.is_cut = True
        self._later((0.05, 1.0, 5.0), node.network.heal)

    def _lossy(self, node: Node) -> None:
        network = node.network
        network.losing, network.losing_commits = self.rng.choice(((0.02, 0.02), (0.2, 0.2), (0.0, 0.5)))
        self._later((1.0, 4.0), network.heal)

    def _slow(self, node: Node) -> None:
        if node.process is not None and node.process.is_alive:
            node.network.slow = node.syncer.slow = self.rng.choice((10.0, 50.0))
            self._later((0.5, 2.0), node.heal)

    def _clock(self, node: Node) -> None:
        node.clock.offset = timedelta(hours=self.rng.choice((-1, 1, 0)))

    def _disk(self, node: Node) -> None:
        if node.process is not None and node.process.is_alive:
            node.syncer.broken = True
            self._later((1.0, 3.0), node.start)

    def _deaf(self, _node: Node) -> None:
        self.server.notices_lost = self.rng.choice((0.3, 1.0))
        self._later((1.0, 5.0), lambda: setattr(self.server, "notices_lost", 0.0))

    def _lose(self, node: Node) -> None:
        """It never comes back. One of several, and not in every schedule."""
        if sum(not each.is_lost for each in self.nodes) > 1 and self.rng.random() < 0.3:
            self.note(f"{node.name} is lost for good")
            node.down(power=True)
            node.is_lost = True

    # What the operator does

    async def _operate(self) -> None:
        while self.loop.time() < TRAFFIC_SECONDS:
            await asyncio.sleep(self.rng.choice((1.0, 3.0)))
            if self.rng.random() < 0.3:
                await self._grant(self.rng.choice(self.owners), self.rng.choice((1, 7_000, 60_000)))
            else:
                await self._forget(self.rng.choice(self.nodes))

    async def _grant(self, owner: OwnerId, amount: int) -> None:
        """Bought once, whatever is repeated: answers may be lost."""
        self.grants += 1
        name = f"tr_grant-{self.grants}"
        grant = Transfer(owner, name, TransferKind.GRANT, Account.GRANTS, Account.CREDITS, Nanos(amount))
        self.granted[owner] += amount
        self.note(f"{owner} gets {amount}")
        for _ in range(self.rng.choice((1, 1, 2))):
            async with self.operator.begin(SYSTEM) as tx:
                await ledger.post(tx, [grant])

    async def _forget(self, node: Node) -> bool:
        """Refused for whoever gave a sign of life lately, whatever anybody's clock says."""
        try:
            async with self.operator.begin(SYSTEM) as tx:
                await ledger.forget_worker(tx, node.worker, alive_within=timedelta(seconds=FORGET_SECONDS))
        except (WorkerAlive, ledger.NoSuchWorker):
            return False
        self.note(f"{node.name} is forgotten")
        node.forgotten_at = self.loop.time()
        up = self.loop.time() - node.up_since
        if node.is_ready and up < FORGET_SECONDS:  # it registered when it started
            self.violated(f"{node.name} was forgotten while it served")
        return True

    # Calm

    async def _clear(self) -> None:
        self.note("the weather clears")
        self.server.notices_lost = 0.0
        self.upstreams.failing = self.upstreams.silent = 0.0
        for node in self.nodes:
            node.heal()
        if self._clients:
            await asyncio.wait(self._clients, timeout=QUIET_SECONDS)
        await self._until_all_serve()
        for node in self._left():
            await asyncio.wait([node.process.spawn(node.gateway.drain())], timeout=QUIET_SECONDS)  # type: ignore[union-attr]
        for node in self.nodes:
            if node.is_lost:
                await self._forget_the_lost(node)
        await asyncio.sleep(APPLIED_SECONDS)

    def _left(self) -> list[Node]:
        return [node for node in self.nodes if not node.is_lost]

    async def _until_all_serve(self) -> None:
        for _ in range(int(QUIET_SECONDS)):
            for node in self._left():
                node.start()
            if all(node.is_ready for node in self._left()):
                return
            await asyncio.sleep(1.0)
        for node in self._left():
            if not node.is_ready:
                self.violated(node.refusals[-1] if node.refusals else f"{node.name} does not serve again")
        raise Violation

    async def _forget_the_lost(self, node: Node) -> None:
        for _ in range(3):
            if await self._forget(node):
                return
            await asyncio.sleep(FORGET_SECONDS)
        if node.starts and node.up_since:
            self.violated(f"{node.name} is gone and cannot be forgotten")
