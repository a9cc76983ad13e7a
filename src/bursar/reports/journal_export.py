"""The books in other people's formats: double entry, exact to the nano, as text, line by line.

`csv` has two rows for each transfer, whose amounts sum to zero. `beancount` is a journal that bean-check accepts: the installation's
own view, where owners' credits are what it owes, what was bought and granted is the other side, and charges are its income. A
correction and what it corrects share a link, and so do the two sides of a move.
"""

import csv
import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Select, func, or_, select, union_all

from bursar.identity import tables as identity_tables
from bursar.kernel.errors import NotFound
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import NANOS_PER_CREDIT
from bursar.ledger import Account, TransferKind
from bursar.ledger import tables as ledger_tables
from bursar.organizations import tables as organization_tables
from bursar.storage import Snapshot

_transfers = ledger_tables.transfers

ExportFormat = Literal["beancount", "csv"]

PAGE = 1_000
CURRENCY = "USD"
CSV_COLUMNS = ("at", "transfer", "kind", "owner", "account", "amount", "currency", "corrects", "reference", "reason")
OPENING = "Equity:Opening-Balances"

_ROOTS = {
    Account.CREDITS: "Liabilities:{owner}:Credits",
    Account.LEASED: "Liabilities:{owner}:Leased",
    Account.HELD: "Liabilities:{owner}:Held",
    Account.SPENT: "Income:{owner}:Usage",
    Account.PURCHASES: "Assets:Purchases",
    Account.GRANTS: "Expenses:Grants",
    Account.CORRECTIONS: "Expenses:Corrections",
    Account.MOVES: "Equity:Moves",
    Account.LOSSES: "Expenses:Losses",
    Account.HOUSE: "Liabilities:House",
}


@dataclass(frozen=True)
class ExportRange:
    """Whose transfers (None: everybody's), `since` ≤ at < `until`; None is no bound. What was before `since` opens the accounts."""

    owner: OwnerId | None = None
    since: datetime | None = None
    until: datetime | None = None


async def export_journal(snapshot: Snapshot, wanted: ExportRange, format_: ExportFormat) -> AsyncIterator[str]:
    """Pieces of text, in the order of time, that memory never holds at once."""
    opening = await _opening(snapshot, wanted)
    if format_ == "csv":
        async for piece in _csv(snapshot, wanted, opening):
            yield piece
    else:
        async for piece in _Beancount(snapshot, wanted, opening).write():
            yield piece


class NoOwner(NotFound):
    """Nobody is called that."""


async def find_owner(snapshot: Snapshot, name: str) -> OwnerId:
    """By an organization's slug, a person's e-mail address, or either's id. Raises `NoOwner`."""
    people, organizations = identity_tables.users, organization_tables.organizations
    row = await snapshot.first(
        union_all(
            select(organizations.c.id).where(or_(organizations.c.slug == name, organizations.c.id == name)),
            select(people.c.id).where(or_(people.c.email_normalized == name.strip().lower(), people.c.id == name)),
        )
    )
    if row is None:
        raise NoOwner(f"There is no owner {name}.", remedy="Name an organization's slug or a person's e-mail address.")
    return OwnerId(row[0])


Balances = Mapping[tuple[str, str], int]
"""By owner and account; as the ledger counts, where an owner's balance is positive."""


async def _opening(snapshot: Snapshot, wanted: ExportRange) -> dict[tuple[str, str], int]:
    if wanted.since is None:
        return {}
    return await _balances(snapshot, ExportRange(wanted.owner, None, wanted.since))


async def _balances(snapshot: Snapshot, wanted: ExportRange) -> dict[tuple[str, str], int]:
    """What the transfers in the range make of each account. The installation's accounts have a balance with each owner."""
    high, low = _transfers.c.amount_nanos // NANOS_PER_CREDIT, _transfers.c.amount_nanos % NANOS_PER_CREDIT

    def side(account: Any, sign: int) -> Select[Any]:
        return _within(
            select(
                _transfers.c.owner_id,
                account.label("account"),
                (sign * high).label("high"),
                (sign * low).label("low"),
            ),
            wanted,
        )

    both = union_all(side(_transfers.c.debit, -1), side(_transfers.c.credit, 1)).subquery()
    rows = await snapshot.all(
        select(both.c.owner_id, both.c.account, func.sum(both.c.high).label("high"), func.sum(both.c.low).label("low"))
        .group_by(both.c.owner_id, both.c.account)
        .order_by(both.c.owner_id, both.c.account)
    )
    return {(row.owner_id, row.account): int(row.high) * NANOS_PER_CREDIT + int(row.low) for row in rows}


def _within(query: Select[Any], wanted: ExportRange) -> Select[Any]:
    if wanted.owner is not None:
        query = query.where(_transfers.c.owner_id == wanted.owner)
    if wanted.since is not None:
        query = query.where(_transfers.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(_transfers.c.at < wanted.until)
    return query


def _pages(snapshot: Snapshot, wanted: ExportRange) -> AsyncIterator[Sequence[Any]]:
    """By time; within a moment by owner and id."""
    query = _within(select(_transfers), wanted)
    return snapshot.pages(query.order_by(_transfers.c.at, _transfers.c.owner_id, _transfers.c.id), PAGE)


async def _csv(snapshot: Snapshot, wanted: ExportRange, opening: Balances) -> AsyncIterator[str]:
    lines = _Lines()
    lines.write(CSV_COLUMNS)
    for (owner, account), balance in opening.items():
        assert wanted.since is not None
        if balance:
            at = wanted.since.isoformat()
            lines.write((at, "", "opening", owner, account, decimal(balance), CURRENCY, "", "", "Opening balance"))
    yield lines.taken()
    async for rows in _pages(snapshot, wanted):
        for row in rows:
            corrects = row.reference if row.kind == TransferKind.CORRECTION else ""
            about = (row.at.isoformat(), row.id, row.kind, row.owner_id)
            rest = (CURRENCY, corrects or "", row.reference or "", _harmless(row.reason or ""))
            lines.write((*about, row.debit, decimal(-row.amount_nanos), *rest))
            lines.write((*about, row.credit, decimal(row.amount_nanos), *rest))
        yield lines.taken()


class _Lines:
    def __init__(self) -> None:
        self._buffer = io.StringIO()
        self._writer = csv.writer(self._buffer, lineterminator="\n")

    def write(self, values: Sequence[str]) -> None:
        self._writer.writerow(values)

    def taken(self) -> str:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text


def _harmless(text: str) -> str:
    """What a spreadsheet would take for a formula is text there too."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@dataclass
class _Beancount:
    snapshot: Snapshot
    wanted: ExportRange
    opening: Balances
    corrected: set[tuple[str, str]] = field(default_factory=set)
    """Transfers that were corrected, by owner and id: there are few."""

    async def write(self) -> AsyncIterator[str]:
        first = await self.snapshot.scalar(_within(select(func.min(_transfers.c.at)), self.wanted))
        opened = self.wanted.since or first or self.snapshot.now
        movements = await _balances(self.snapshot, self.wanted)
        self.corrected = await self._corrected()
        yield await self._head(opened, {*self.opening, *movements})
        async for rows in _pages(self.snapshot, self.wanted):
            yield "".join(self._transaction(row) for row in rows)
        yield await self._assertions(opened, movements)

    async def _corrected(self) -> set[tuple[str, str]]:
        rows = await self.snapshot.all(
            _within(
                select(_transfers.c.owner_id, _transfers.c.reference).where(
                    _transfers.c.kind == TransferKind.CORRECTION.value
                ),
                ExportRange(self.wanted.owner),
            )
        )
        return {(row.owner_id, row.reference) for row in rows}

    async def _head(self, opened: datetime, used: set[tuple[str, str]]) -> str:
        names = await _names(self.snapshot)
        lines = ['option "title" "Bursar"\n', f'option "operating_currency" "{CURRENCY}"\n\n']
        day = f"{opened:%Y-%m-%d}"
        accounts: dict[str, str] = {OPENING: ""} if self.opening else {}
        for owner, account in sorted(used):
            accounts.setdefault(_account(owner, account), "" if account.startswith("system:") else owner)
        for name, owner in accounts.items():
            lines.append(f"{day} open {name} {CURRENCY}\n")
            if owner:
                lines.append(f"  owner: {_quoted(owner)}\n")
                lines.append(f"  name: {_quoted(names[owner])}\n" if owner in names else "")
        totals: dict[str, int] = {}
        for (owner, account), balance in self.opening.items():
            totals[_account(owner, account)] = totals.get(_account(owner, account), 0) - balance
        if any(totals.values()):
            lines.append(f'\n{day} * "opening balances"\n')
            lines += [f"  {name}  {decimal(amount)} {CURRENCY}\n" for name, amount in totals.items() if amount]
            if sum(totals.values()):
                lines.append(f"  {OPENING}  {decimal(-sum(totals.values()))} {CURRENCY}\n")
        return "".join(lines) + "\n"

    def _transaction(self, row: Any) -> str:
        links = ""
        if row.kind == TransferKind.CORRECTION:
            links += f" ^{row.reference}"
        if row.kind == TransferKind.MOVE or (row.owner_id, row.id) in self.corrected:
            links += f" ^{row.id}"
        amount = decimal(row.amount_nanos)
        lines = [
            f'{row.at:%Y-%m-%d} * "{row.kind}" {_quoted(row.reason or "")}{links}\n',
            f"  transfer: {_quoted(row.id)}\n",
            f'  at: "{row.at.isoformat()}"\n',
            f"  reference: {_quoted(row.reference)}\n" if row.reference else "",
            f"  {_account(row.owner_id, row.debit)}  {amount} {CURRENCY}\n",
            f"  {_account(row.owner_id, row.credit)}  -{amount} {CURRENCY}\n\n",
        ]
        return "".join(lines)

    async def _assertions(self, opened: datetime, movements: Balances) -> str:
        """What bean-check adds up for itself and compares: the balances on the morning after the last transfer."""
        last = await self.snapshot.scalar(_within(select(func.max(_transfers.c.at)), self.wanted))
        day = f"{(last or opened).astimezone(UTC) + timedelta(days=1):%Y-%m-%d}"
        totals: dict[str, int] = {}
        for balances in (self.opening, movements):
            for (owner, account), amount in balances.items():
                totals[_account(owner, account)] = totals.get(_account(owner, account), 0) - amount
        return "".join(
            f"{day} balance {name}  {decimal(amount)} {CURRENCY}\n" for name, amount in sorted(totals.items())
        )


async def _names(snapshot: Snapshot) -> dict[str, str]:
    people, organizations = identity_tables.users, organization_tables.organizations
    rows = await snapshot.all(
        union_all(
            select(people.c.id, people.c.email.label("called")),
            select(organizations.c.id, organizations.c.name.label("called")),
        )
    )
    return {row.id: row.called for row in rows}


def _account(owner: str, account: str) -> str:
    """Names are made of letters, digits and hyphens there, and begin with a capital; ids keep apart whom names might not."""
    pattern = _ROOTS.get(Account(account), "Equity:Unknown")
    return pattern.format(owner=re.sub(r"[^A-Za-z0-9]", "-", owner).capitalize())


def decimal(nanos: int) -> str:
    """USD with all nine decimals: `"-0.000000025"`."""
    whole, rest = divmod(abs(nanos), NANOS_PER_CREDIT)
    return f"{'-' if nanos < 0 else ''}{whole}.{rest:09d}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
