"""Pure rules of the ledger: accounts, transfers, and what posting some of them does to each account."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bursar.kernel.ids import SYSTEM_OWNER, GenerationId, OwnerId, WorkerId
from bursar.kernel.money import NANOS_MAX, ZERO, Nanos
from bursar.ledger._windows import Allowance


class Account(StrEnum):
    CREDITS = "credits"
    """What may still be leased or held."""
    LEASED = "leased"
    """Handed to workers, who spend it without asking again."""
    HELD = "held"
    """Reserved for requests that run, one by one, where there is no journal (`durability=database`)."""
    SPENT = "spent"
    """What requests cost, in all."""
    PURCHASES = "system:purchases"
    """The far side of credits that were bought."""
    GRANTS = "system:grants"
    """The far side of credits the operator gave."""
    CORRECTIONS = "system:corrections"
    """The far side of corrections."""
    MOVES = "system:moves"
    """Between two owners: what one gave is with the other in the same transaction, so that nothing ever stays here."""
    LOSSES = "system:losses"
    """The far side of what the house bore itself."""
    HOUSE = "system:house"
    """What requests cost beyond what anybody paid: the house's loss, in all."""

    @property
    def is_system(self) -> bool:
        return self.value.startswith("system:")


class TransferKind(StrEnum):
    PURCHASE = "purchase"
    """Credits bought: system:purchases → credits. The id is the purchase's."""
    GRANT = "grant"
    """Credits given by the operator: system:grants → credits."""
    HOLD = "hold"
    """credits → held, before a request is dispatched."""
    CHARGE = "charge"
    """held → spent, or leased → spent: what the request cost."""
    RELEASE = "release"
    """held → credits: what of the hold was not needed."""
    LEASE = "lease"
    """credits → leased: a worker's share. The reference is the worker."""
    RETURN = "return"
    """leased → credits: what a worker does not need. The reference is the worker."""
    CORRECTION = "correction"
    """Reverses a transfer, or a part of it, between credits and system:corrections. The reference is that transfer."""
    MOVE = "move"
    """One side of credits that go from one owner to another: credits → system:moves, or system:moves → credits. Both sides have one
    id. The reference is the other owner."""
    LOSS = "loss"
    """system:losses → system:house: what of a request's cost nobody could pay. The reference is the generation."""


TRANSFER_ID_CHARACTERS_MAX = 48
CHAIN_START = "0" * 64
"""The hash before a worker's first batch."""


@dataclass(frozen=True)
class Transfer:
    """`amount` nanos from `debit` to `credit`. The caller makes the id, which makes repeating harmless."""

    owner: OwnerId
    id: str
    kind: TransferKind
    debit: Account
    credit: Account
    amount: Nanos
    reference: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.id) <= TRANSFER_ID_CHARACTERS_MAX:
            raise ValueError(f"a transfer's id has 1 to {TRANSFER_ID_CHARACTERS_MAX} characters: {self.id!r}")
        if not 0 < self.amount <= NANOS_MAX:
            raise ValueError(f"a transfer moves a positive 64-bit amount, not {self.amount}")
        if self.debit == self.credit:
            raise ValueError("a transfer moves between two accounts")


def account_key(owner: OwnerId, account: Account) -> tuple[OwnerId, Account]:
    """Whose row an account is: the installation's for `system:*`."""
    return (SYSTEM_OWNER if account.is_system else owner, account)


def net_changes(transfers: Iterable[Transfer]) -> list[tuple[OwnerId, Account, int]]:
    """What each account gains or loses in all, in one fixed order: whoever posts locks rows in that order, so nobody deadlocks.

    The changes sum to zero, and accounts that end where they were are left out.
    """
    changes: defaultdict[tuple[OwnerId, Account], int] = defaultdict(int)
    for transfer in transfers:
        changes[account_key(transfer.owner, transfer.debit)] -= transfer.amount
        changes[account_key(transfer.owner, transfer.credit)] += transfer.amount
    return [(owner, account, change) for (owner, account), change in sorted(changes.items()) if change]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a generation is to be charged, in nanos; 0 settles it as well.

    `subjects` are who may have a limit that it counts for (its key, its user, its owner), in the window of `at`, when it was intended.
    `taken` are the allowances of which the worker has spent the charge. `beyond` is what it cost besides and is not asked for: the
    worker knew that nobody could pay it.
    """

    owner: OwnerId
    generation: GenerationId
    charge: Nanos
    subjects: Sequence[str] = ()
    at: datetime | None = None
    taken: Sequence[Allowance] = ()
    beyond: Nanos = ZERO

    def __post_init__(self) -> None:
        if not 0 <= self.charge <= NANOS_MAX - self.beyond or self.beyond < 0:
            raise ValueError(f"a charge is a 64-bit amount, not {self.charge} and {self.beyond}")


@dataclass(frozen=True)
class Batch:
    """The settlements among the records `first_lsn` … `last_lsn` of one worker's journal, in their order; there may be none."""

    first_lsn: int
    last_lsn: int
    settlements: Sequence[Settlement]

    def __post_init__(self) -> None:
        if not 1 <= self.first_lsn <= self.last_lsn <= NANOS_MAX:
            raise ValueError(
                f"a batch goes from a record to one not before it, not {self.first_lsn} to {self.last_lsn}"
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch did to one generation, in nanos: `charged` its owner, `lost` by the house."""

    owner: OwnerId
    generation: GenerationId
    charged: Nanos
    lost: Nanos = ZERO


def contents_of(outcomes: Iterable[Outcome]) -> str:
    """A line for each: owner, generation, nanos charged, nanos lost. What is kept of a batch, and goes into its hash."""
    return "".join(f"{each.owner} {each.generation} {each.charged} {each.lost}\n" for each in outcomes)


def outcomes_in(contents: str) -> list[Outcome]:
    """Raises `ValueError` for what `contents_of` did not write."""
    outcomes = []
    for line in contents.splitlines():
        owner, generation, charged, lost = line.split(" ")
        outcomes.append(Outcome(OwnerId(owner), GenerationId(generation), Nanos(int(charged)), Nanos(int(lost))))
    return outcomes


def chain_after(previous: str, worker: WorkerId, first_lsn: int, last_lsn: int, contents: str) -> str:
    """The hash of a batch and of all before it: SHA-256, in hexadecimal, over UTF-8 lines that each end in a newline.

    1. the hash before it, `CHAIN_START` for the first;
    2. worker, first record, last record, with a space between them;
    3. `contents_of` what it did, to every generation that it settled, in their order.
    """
    return hashlib.sha256(f"{previous}\n{worker} {first_lsn} {last_lsn}\n{contents}".encode()).hexdigest()


def charge_id(generation: GenerationId) -> str:
    """The name of a generation's charge, whoever posts it: there is one at most."""
    return f"{TransferKind.CHARGE.value}-{generation}"


def loss_of(owner: OwnerId, generation: GenerationId, amount: Nanos) -> Transfer:
    """What the house bears of a generation; there is one at most."""
    name = f"{TransferKind.LOSS.value}-{generation}"
    return Transfer(owner, name, TransferKind.LOSS, Account.LOSSES, Account.HOUSE, amount, reference=generation)


def share_out(charges: Sequence[Nanos], leased: int, credits_left: int) -> tuple[list[Nanos], Nanos]:
    """What of each charge can be paid, first come first served, and how much of it has to come from the credits."""
    cover = min(max(sum(charges) - leased, 0), credits_left)
    left = leased + cover
    paid = []
    for charge in charges:
        paid.append(Nanos(min(charge, left)))
        left -= paid[-1]
    return paid, Nanos(cover)
