"""Adds everything up again: the laws of the ledger, each told as the differences that it finds; there must be none.

1. Every kept balance is the sum of its entries, and all accounts together are zero.
2. What one owner gave in a move, another got.
3. An owner's `held` account is the sum of the open holds, the `leased` account the sum of the leases; what is handed out of a limit
   is the sum of its leases.
4. Every batch has the hash that its contents give, follows the one before it, and did to the entries what it says (`_chain`).

Owners are read some at a time, and added up here in integers of any size, so that neither memory nor 64 bits limit what can be checked.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, func, select

from bursar.kernel.ids import SYSTEM_OWNER
from bursar.kernel.money import NANOS_PER_CREDIT
from bursar.ledger import tables
from bursar.ledger._allowances import allowances_apart
from bursar.ledger._holds import HoldState
from bursar.ledger._moves import one_sided_moves
from bursar.ledger._rules import Account
from bursar.ledger._workers import Worker, list_workers
from bursar.storage import Snapshot

_accounts = tables.accounts
_transfers = tables.transfers
_holds = tables.holds
_leases = tables.leases

OWNERS_AT_ONCE = 500
DIFFERENCES_MAX = 100
"""So many differences are named; all of them count."""

Progress = Callable[[str, int, int], None]
"""Told what is being checked, how much of it is done, and how much there is."""


def unheard(_what: str, _done: int, _of: int) -> None:
    """For those who wait without watching."""


@dataclass(frozen=True)
class Difference:
    """`law` is one word, `subject` names whose account, charge or batch it is; `kept` is what stands there and `counted` what it should
    be, in nanos (both None where no amount differs)."""

    law: str
    subject: str
    sentence: str
    kept: int | None = None
    counted: int | None = None

    @property
    def line(self) -> str:
        """All of it, for a log or a list."""
        return f"{self.law}: {self.subject}: {self.sentence}"

    @property
    def nanos(self) -> int:
        return 0 if self.kept is None or self.counted is None else abs(self.kept - self.counted)


@dataclass
class Findings:
    """Differences as they are found. `drift` adds up all of them, in nanos; `count` counts them, also those without an amount."""

    drift: int = 0
    count: int = 0
    named: list[Difference] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        self.drift += difference.nanos
        self.count += 1
        if len(self.named) < DIFFERENCES_MAX:
            self.named.append(difference)

    def compare(self, law: str, subject: str, what: str, kept: int, counted: int) -> None:
        """`what` names the two: "the balance is {kept}, its entries make {counted}"."""
        if kept != counted:
            self.add(Difference(law, subject, what.format(kept=kept, counted=counted), kept, counted))


@dataclass(frozen=True)
class Verification:
    """All in nanos. `drift` must be 0: the sum of the absolute differences between kept balances and added-up entries, plus
    what all accounts together miss to zero, plus what each owner's `held` account and open holds, `leased` account and leases,
    and what is handed out of each allowance and its leases, differ by. `leased` is a part of `available`; `losses` is what the house
    bore.

    `workers` says how far each journal was applied: what is journaled beyond its watermark is lag, never drift. `balances` are the
    sums of all accounts of one name.
    """

    drift: int
    accounts: int
    transfers: int
    open_holds: int
    held: int
    available: int
    spent: int
    leased: int = 0
    losses: int = 0
    workers: Sequence[Worker] = ()
    balances: Mapping[str, int] = field(default_factory=dict)
    leases: int = 0
    oldest_hold_at: datetime | None = None
    differences: Sequence[Difference] = ()
    difference_count: int = 0


async def verify(snapshot: Snapshot, progress: Progress = unheard) -> Verification:
    """Reads every transfer; in one snapshot, so that a running server changes nothing about the answer. In system scope."""
    sums = _Sums(snapshot, progress)
    await sums.read()
    totals = sums.totals
    return Verification(
        drift=sums.found.drift,
        accounts=sums.accounts,
        transfers=sums.transfers,
        open_holds=sums.open_holds,
        held=totals[Account.HELD],
        available=totals[Account.CREDITS] + totals[Account.LEASED],
        spent=totals[Account.SPENT],
        leased=totals[Account.LEASED],
        losses=totals[Account.HOUSE],
        workers=await list_workers(snapshot),
        balances={account.value: totals[account] for account in Account} | totals,
        leases=sums.leases,
        oldest_hold_at=sums.oldest_hold_at,
        differences=sums.found.named,
        difference_count=sums.found.count,
    )


class _Sums:
    """What one pass over the owners adds up."""

    def __init__(self, snapshot: Snapshot, progress: Progress) -> None:
        self.found = Findings()
        self.totals: defaultdict[str, int] = defaultdict(int)
        self.accounts = self.transfers = self.open_holds = self.leases = 0
        self.oldest_hold_at: datetime | None = None
        self._snapshot = snapshot
        self._progress = progress
        self._far: defaultdict[str, int] = defaultdict(int)
        """The sums of the installation's accounts, of which every owner has a part."""

    async def read(self) -> None:
        owners = int(await self._snapshot.scalar(select(func.count(func.distinct(_accounts.c.owner_id)))))
        held = await self._held()
        done = 0
        async for after, last in owner_pages(self._snapshot):
            entries = await self._entries(after, last)
            leased = await self._leased(after, last)
            kept = await self._kept(after, last)
            self._compare(kept, entries)
            self._compare_parts(Account.LEASED, kept, leased, "its leases")
            self._compare_parts(
                Account.HELD, kept, {name: held.pop(name) for name in [*held] if name in kept}, "its open holds"
            )
            done += OWNERS_AT_ONCE
            self._progress("balances", min(done, owners), owners)
        for owner, amount in held.items():
            self.found.compare(
                "held", f"{owner} held", "the account is {kept}, its open holds make {counted}", 0, amount
            )
        await self._finish()

    async def _finish(self) -> None:
        rows = await self._snapshot.all(select(_accounts).where(_accounts.c.owner_id == SYSTEM_OWNER))
        kept = {row.account: row.balance_nanos for row in rows}
        self._compare({SYSTEM_OWNER: kept}, {SYSTEM_OWNER: self._far})
        sentence = "all accounts together are {kept}, not zero"
        self.found.compare("conservation", "all accounts", sentence, sum(self.totals.values()), 0)
        for row in await one_sided_moves(self._snapshot):
            sentence = "one owner gave {kept}, another got {counted}"
            self.found.compare("move", row.id, sentence, int(row.given), int(row.taken))
        for name, apart in await allowances_apart(self._snapshot):
            self.found.compare("allowance", name, "what is handed out and its leases differ by {kept}", apart, 0)

    async def _kept(self, after: str, last: str | None) -> dict[str, dict[str, int]]:
        rows = await self._snapshot.all(
            select(_accounts).where(between(_accounts.c.owner_id, after, last), _accounts.c.owner_id != SYSTEM_OWNER)
        )
        kept: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for row in rows:
            kept[row.owner_id][row.account] = row.balance_nanos
        return kept

    async def _entries(self, after: str, last: str | None) -> dict[str, dict[str, int]]:
        """Both sides of every transfer of these owners, by owner and account."""
        amount = _transfers.c.amount_nanos
        rows = await self._snapshot.all(
            select(
                _transfers.c.owner_id,
                _transfers.c.debit,
                _transfers.c.credit,
                func.count().label("number"),
                *exact_sum(amount),
            )
            .where(between(_transfers.c.owner_id, after, last))
            .group_by(_transfers.c.owner_id, _transfers.c.debit, _transfers.c.credit)
        )
        entries: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for row in rows:
            self.transfers += row.number
            for account, change in ((row.debit, -exact(row)), (row.credit, exact(row))):
                (self._far if account.startswith("system:") else entries[row.owner_id])[account] += change
        return {owner: dict(each) for owner, each in entries.items()}

    async def _held(self) -> dict[str, int]:
        rows = await self._snapshot.all(
            select(
                _holds.c.owner_id,
                func.count().label("number"),
                func.min(_holds.c.opened_at).label("oldest"),
                *exact_sum(_holds.c.amount_nanos),
            )
            .where(_holds.c.state == HoldState.OPEN.value)
            .group_by(_holds.c.owner_id)
        )
        self.open_holds = sum(row.number for row in rows)
        self.oldest_hold_at = min((row.oldest for row in rows), default=None)
        return {row.owner_id: exact(row) for row in rows}

    async def _leased(self, after: str, last: str | None) -> dict[str, int]:
        rows = await self._snapshot.all(
            select(_leases.c.owner_id, func.count().label("number"), *exact_sum(_leases.c.amount_nanos))
            .where(between(_leases.c.owner_id, after, last), _leases.c.amount_nanos > 0)
            .group_by(_leases.c.owner_id)
        )
        self.leases += sum(row.number for row in rows)
        return {row.owner_id: exact(row) for row in rows}

    def _compare(self, kept: Mapping[str, Mapping[str, int]], entries: Mapping[str, Mapping[str, int]]) -> None:
        """Each account with its entries; one that is missing counts as 0."""
        self.accounts += sum(len(each) for each in kept.values())
        sentence = "the balance is {kept}, its entries make {counted}"
        for owner in sorted({*kept, *entries}):
            mine, counted = kept.get(owner, {}), entries.get(owner, {})
            for account in sorted({*mine, *counted}):
                self.totals[account] += mine.get(account, 0)
                subject = f"{owner} {account}"
                self.found.compare("balance", subject, sentence, mine.get(account, 0), counted.get(account, 0))

    def _compare_parts(
        self, account: Account, kept: Mapping[str, Mapping[str, int]], parts: Mapping[str, int], what: str
    ) -> None:
        """Owner by owner: one's too much does not make up for another's too little."""
        for owner in sorted({*kept, *parts}):
            balance = kept.get(owner, {}).get(account, 0)
            sentence = f"the account is {{kept}}, {what} make {{counted}}"
            self.found.compare(account.value, f"{owner} {account}", sentence, balance, parts.get(owner, 0))


async def owner_pages(snapshot: Snapshot) -> AsyncIterator[tuple[str, str | None]]:
    """All owners some at a time, as (after, up to) for `between`; the last has no end, so that no owner is left out for having no
    account."""
    after = ""
    while True:
        rows = await snapshot.all(
            select(_accounts.c.owner_id)
            .where(_accounts.c.owner_id > after)
            .group_by(_accounts.c.owner_id)
            .order_by(_accounts.c.owner_id)
            .limit(OWNERS_AT_ONCE)
        )
        last = rows[-1].owner_id if len(rows) == OWNERS_AT_ONCE else None
        yield after, last
        if last is None:
            return
        after = last


def between(column: Column[str], after: str, last: str | None) -> ColumnElement[bool]:
    return column > after if last is None else (column > after) & (column <= last)


def exact_sum(column: ColumnElement[int]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """A sum in two parts, since one of many amounts need not fit 64 bits; `exact` puts them together."""
    return (
        func.sum(column // NANOS_PER_CREDIT).label("sum_high"),
        func.sum(column % NANOS_PER_CREDIT).label("sum_low"),
    )


def exact(row: Any) -> int:
    return int(row.sum_high) * NANOS_PER_CREDIT + int(row.sum_low)
