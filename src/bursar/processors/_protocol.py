from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from bursar.kernel.errors import InvalidInput
from bursar.kernel.ids import PurchaseId
from bursar.kernel.money import Nanos


class InvalidEvent(InvalidInput):
    """An event whose signature or content does not hold."""


class EventKind(StrEnum):
    PAID = "paid"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Checkout:
    """Where the buyer's browser goes to pay."""

    url: str


@dataclass(frozen=True)
class ProcessorEvent:
    """What a processor said of one purchase, its signature checked. `id` is the processor's own, for repeats."""

    id: str
    kind: EventKind
    purchase: PurchaseId
    amount: Nanos


class Processor(Protocol):
    name: str

    async def checkout(self, purchase: PurchaseId, amount: Nanos) -> Checkout:
        """Starts a payment. A repeat with the same purchase id is the same payment."""
        ...

    def read_event(self, body: bytes, signature: str) -> ProcessorEvent:
        """Checks and reads an event that arrived. Raises `InvalidEvent`."""
        ...
