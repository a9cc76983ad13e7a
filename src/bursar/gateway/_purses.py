"""What a worker spends from: an owner's credits, and the limits of keys, users and owners. One kind of purse for all of them."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from bursar import ledger
from bursar.kernel.ids import OwnerId, WorkerId
from bursar.kernel.money import Nanos
from bursar.ledger import Allowance, Limit, LimitUse
from bursar.storage import Tx


@dataclass(frozen=True, slots=True)
class Filled:
    """`left`: what nobody has been given yet. `elsewhere`: whether other workers may have some. `use`: of a limit."""

    granted: int
    left: int
    elsewhere: bool = True
    use: LimitUse | None = None


class Source(Protocol):
    """Where a purse is filled from. Each move is repeated by its id when its answer was lost."""

    @property
    def owner(self) -> OwnerId: ...

    @property
    def name(self) -> str:
        """By which workers ask each other for it, and say that some came back."""
        ...

    async def lease(self, tx: Tx, worker: WorkerId, want: Nanos, move_id: str) -> Filled: ...

    async def give_back(self, tx: Tx, worker: WorkerId, amount: Nanos, move_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Credits:
    owner: OwnerId

    @property
    def name(self) -> str:
        return self.owner

    async def lease(self, tx: Tx, worker: WorkerId, want: Nanos, move_id: str) -> Filled:
        granted = await ledger.lease(tx, self.owner, worker, want, transfer_id=move_id)
        return Filled(granted, (await ledger.balance(tx, self.owner)).unleased)

    async def give_back(self, tx: Tx, worker: WorkerId, amount: Nanos, move_id: str) -> None:
        await ledger.return_lease(tx, self.owner, worker, amount, transfer_id=move_id)


@dataclass(frozen=True, slots=True)
class Allowed:
    """One window of a limit."""

    allowance: Allowance

    @property
    def owner(self) -> OwnerId:
        return self.allowance.owner

    @property
    def name(self) -> str:
        return self.allowance.subject

    async def lease(self, tx: Tx, worker: WorkerId, want: Nanos, move_id: str) -> Filled:
        found = await ledger.lease_allowance(tx, self.allowance, worker, want, move_id=move_id)
        return Filled(found.granted, found.use.unleased, found.elsewhere > 0, found.use)

    async def give_back(self, tx: Tx, worker: WorkerId, amount: Nanos, move_id: str) -> None:
        await ledger.return_allowance(tx, self.allowance, worker, amount, move_id=move_id)


@dataclass(slots=True, eq=False)
class Purse:
    source: Source
    limit: Limit | None = None
    """None for credits."""
    free: int = 0
    """Leased and not held by a request, in nanos."""
    held: int = 0
    left: int = 0
    """What nobody had leased, when it was last seen."""
    wanted: int = 0
    """What requests wait for, here or in another purse that they need as well."""
    is_recalled: bool = False
    """Another worker asked for it while requests waited here: what they leave is given back."""
    used_at: float = 0.0  # monotonic seconds
    spent: int = 0
    """Since `spent_since`, for the rate of spending."""
    spent_since: float = 0.0  # monotonic seconds
    refilling: "asyncio.Task[None] | None" = None
    unsure: tuple[str, Nanos] | None = None
    """A lease that was asked for and whose answer was lost: its id, and how much."""
    parked: int = 0
    """To be given back; nobody may spend it meanwhile."""
    returning: tuple[str, Nanos] | None = None
    """A return whose answer was lost: repeated under the same id it does nothing twice."""
    is_returning: bool = False
    returned: asyncio.Event = field(default_factory=asyncio.Event)
    use: LimitUse | None = None
    is_elsewhere: bool = True
    """Whether other workers may have some of it."""
    changes: int = 0
    """How often the limit was changed: what was leased before that is given back."""
    is_outdated: bool = False
    """The limit changed while requests held some: what they do not need is given back too."""
    is_unbound: bool = False
    """The limit is gone: it binds nobody any more."""

    @property
    def owner(self) -> OwnerId:
        return self.source.owner

    @property
    def allowance(self) -> Allowance | None:
        return self.source.allowance if isinstance(self.source, Allowed) else None

    @property
    def available(self) -> int:
        return max(0, self.free + self.left)

    def lacks(self, amount: int) -> bool:
        return self.free < amount and not self.is_unbound

    def park(self, keep: int = 0) -> None:
        """All that is free but `keep`."""
        spare = self.free - keep
        if spare > 0:
            self.parked += spare
            self.free -= spare


class Lacking(Exception):
    """A purse does not cover what is asked, also after a refill."""

    def __init__(self, purse: Purse) -> None:
        super().__init__(purse.source.name)
        self.purse = purse
