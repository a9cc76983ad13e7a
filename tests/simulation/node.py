"""One node with one worker: its disk, its clock, and the process that is started on them again and again."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bursar.gateway import (
    Admission,
    ConcurrencyLimits,
    Dispatcher,
    EndpointHealth,
    Gateway,
    JournalFunds,
    Leases,
    LeaseSizes,
    Live,
    StickySessions,
)
from bursar.gateway._records import Kind
from bursar.journal import Journal
from bursar.kernel.errors import Unavailable
from bursar.kernel.ids import WorkerId
from bursar.keys import KeyChecker
from tests.simulation.database import BEGINNING, Network, Server, SimulatedDatabase
from tests.simulation.disk import LIMITS, SimulatedSyncer
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.upstream import Upstreams, catalog
from tests.support.journal import ForgetfulDisk, PowerLost
from tests.support.memory import SECRET

FOLDER = Path("/journal")
DRAIN_SECONDS = 20


@dataclass
class NodeClock:
    """What the node believes; `offset` is its error. Durations are right whatever the wall clock says."""

    loop: SimulatedLoop
    offset: timedelta = timedelta(0)

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.loop.time()) + self.offset

    def monotonic(self) -> float:
        return self.loop.time()


class Node:
    """`proof`: what the journal said, at a start, of requests that had no end: what each of them may cost."""

    def __init__(
        self,
        name: str,
        *,
        loop: SimulatedLoop,
        server: Server,
        rng: random.Random,
        upstreams: Upstreams,
        sizes: LeaseSizes,
        note: Callable[[str], None],
        alone: bool,
    ) -> None:
        self.name = name
        self.worker = WorkerId(name)
        self.clock = NodeClock(loop)
        self.disk = ForgetfulDisk()
        self.network = Network(rng)
        self.proof: dict[str, int] = {}
        self.refusals: list[str] = []
        """Why it did not start, where the database was not to blame."""
        self.is_ready = False
        self.is_lost = False
        self.up_since = 0.0
        self.forgotten_at = -1.0
        self.starts = 0
        self.process: Process | None = None
        self._alone = alone
        self._loop = loop
        self._server = server
        self._rng = rng
        self._upstreams = upstreams
        self._sizes = sizes
        self._note = note
        self._slow = 1.0

    def start(self) -> None:
        """A process begins; it serves as soon as it has recovered."""
        if self.is_lost or (self.process is not None and self.process.is_alive):
            return
        self.starts += 1
        self.process = Process(self.name, self._loop)
        self.database = SimulatedDatabase(self._server, self.process, self.network, self.clock)
        self._server.databases.append(self.database)
        self.process.on_death.append(lambda database=self.database: self._server.databases.remove(database))
        self.process.on_death.append(lambda process=self.process: self._server.died(process))
        self.syncer = SimulatedSyncer(self._rng, self.disk)
        if self._rng.random() < 0.1:
            self.disk.fuse = self._rng.randrange(12)
        self.process.spawn(self._run())

    async def _run(self) -> None:
        try:
            self.journal = Journal.open(
                FOLDER, self.name, limits=LIMITS, disk=self.disk, syncer=self.syncer, on_failure=self._disk_failed
            )
        except PowerLost:
            self._note(f"{self.name} loses its power while it starts")
            self._again(power=True)
            return
        except Exception as error:  # noqa: BLE001 - whatever refuses to start is a fault
            self._refused(error)
            return
        self.disk.fuse = None
        self.proof |= self._read_proof()  # before `recover`, which may write and then die
        leases = Leases(self.database, self.worker, self.clock, sizes=self._sizes, alone=self._alone)
        self.funds = JournalFunds(self.database, self.journal, leases, self.worker, self.clock)
        try:
            interrupted = await self.funds.recover()
        except Unavailable:
            self._note(f"{self.name} cannot recover without the database")
            self._again(power=False)
            return
        except Exception as error:  # noqa: BLE001
            self._refused(error)
            return
        self.funds.start()
        self.gateway = self._make_gateway()
        self.is_ready = True
        self.up_since = self._loop.time()
        self._note(f"{self.name} serves; {interrupted} requests had been interrupted")

    def _make_gateway(self) -> Gateway:
        admission = Admission(self.database, KeyChecker(SECRET), self.clock)
        return Gateway(
            admission=admission,
            live=Live(self.database, admission, self.clock),
            funds=self.funds,
            dispatcher=Dispatcher(
                self._upstreams,  # type: ignore[arg-type]
                lambda _provider: None,
                health=EndpointHealth(self.clock, random.Random(self._rng.random())),
                sessions=StickySessions(self.clock),
            ),
            catalog=lambda: self._catalog,
            clock=self.clock,
            credits_url=lambda _caller: "https://bursar.example/credits",
            limits=ConcurrencyLimits(),
        )

    _catalog = catalog()

    def _read_proof(self) -> dict[str, int]:
        """Of every request without an end: the cost in its latest progress. Read here apart from the code under test."""
        open_: dict[str, int] = {}
        for record in self.journal.replay(self.journal.first_lsn - 1):
            content: Any = msgspec.msgpack.decode(record.payload)
            if record.kind == Kind.INTENT:
                open_[content[1]] = 0
            elif record.kind == Kind.PROGRESS:
                open_[content[0]] = content[3]
            else:
                open_.pop(content["id"], None)
        return open_

    def _refused(self, error: Exception) -> None:
        self._note(f"{self.name} does not start: {error!r}")
        self.refusals.append(f"{self.name} does not start: {error!r}")
        self.down(power=False)

    def _again(self, *, power: bool) -> None:
        self.down(power=power)
        self._loop.call_later(0.7, self.start)

    def _disk_failed(self) -> None:
        self._note(f"the disk of {self.name} fails")
        self.is_ready = False
        process = self.process
        self._loop.call_later(0.5, lambda: process is self.process and self.down(power=False))

    def heal(self) -> None:
        self.network.heal()
        if self.process is not None:
            self.syncer.slow, self.syncer.broken = 1.0, False

    def down(self, *, power: bool) -> None:
        """Killed, or without power: what is left is the disk, and in the second case only what was synced of it."""
        if self.process is None or not self.process.is_alive:
            return
        self.is_ready = False
        self.syncer.cut_short()
        self.process.kill()
        self.disk.lose_power(self._rng) if power else self.disk.kill()

    async def stop(self) -> None:
        """SIGTERM: streams are cut and settled, leases returned."""
        self.is_ready = False
        process = self.process
        assert process is not None
        if not hasattr(self, "gateway"):
            return
        work = process.spawn(self._close())
        died = self._loop.create_future()
        process.on_death.append(lambda: died.done() or died.set_result(None))
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await asyncio.wait({work, died}, return_when=asyncio.FIRST_COMPLETED)
        if self.process is process:
            self.down(power=False)

    async def _close(self) -> None:
        await self.gateway.drain()
        await self.funds.close()
