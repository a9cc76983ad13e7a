"""All laws of money at once: the ledger's own, its chains of batches, and that the activity says the same as the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    func,
    literal,
    literal_column,
    select,
    type_coerce,
    union_all,
)

from bursar import ledger
from bursar.activity import tables as activity_tables
from bursar.ledger import (
    OWNERS_AT_ONCE,
    CorrectionState,
    Difference,
    Findings,
    Progress,
    TransferKind,
    Verification,
    between,
    owner_pages,
    unheard,
)
from bursar.ledger import tables as ledger_tables
from bursar.reports.billing import DAY_MICROSECONDS
from bursar.storage import BOOKS_CHECKED, Snapshot, recall

_generations = activity_tables.generations
_hours = activity_tables.usage_hours
_transfers = ledger_tables.transfers
_accounts = ledger_tables.accounts
_corrections = ledger_tables.corrections

_NO_KEY: ColumnElement[str] = literal_column("''")
_EPOCH = date(1970, 1, 1)
PER_PAGE_MAX = 100
"""So many differences of one law and one page of owners are read."""


@dataclass(frozen=True)
class _Law:
    """`rows` gives (subject…, kept, counted) where the two differ."""

    name: str
    sentence: str
    rows: Select[Any]


async def verify_all(snapshot: Snapshot, progress: Progress = unheard) -> Verification:
    """Reads every transfer, batch, generation and roll-up, in one snapshot; `drift` and `differences` are of all laws. In system scope."""
    return together(await ledger.verify(snapshot, progress), await verify_each(snapshot, progress))


async def verify_each(snapshot: Snapshot, progress: Progress = unheard) -> Findings:
    """The long part of it, one charge at a time: every batch with its hashes, every generation and roll-up with its entries."""
    chains = await ledger.verify_chains(snapshot, progress)
    activity = await _verify_activity(snapshot, progress)
    return Findings(chains.drift + activity.drift, chains.count + activity.count, [*chains.named, *activity.named])


def together(balances: Verification, each: Findings) -> Verification:
    """What `ledger.verify` and `verify_each` found."""
    return replace(
        balances,
        drift=balances.drift + each.drift,
        differences=[*balances.differences, *each.named],
        difference_count=balances.difference_count + each.count,
    )


async def _verify_activity(snapshot: Snapshot, progress: Progress) -> Findings:
    found = Findings()
    of = int(await snapshot.scalar(select(func.count(func.distinct(_accounts.c.owner_id)))))
    done = 0
    async for after, last in owner_pages(snapshot):
        for law in _laws(after, last):
            for row in await snapshot.all(law.rows.limit(PER_PAGE_MAX)):
                values = tuple(row)
                found.add(_difference(law, values[:-2], int(values[-2] or 0), int(values[-1] or 0)))
        done += OWNERS_AT_ONCE
        progress("activity", min(done, of), of)
    return found


def _difference(law: _Law, subject: Sequence[Any], kept: int, counted: int) -> Difference:
    named = " ".join(
        f"{_EPOCH + timedelta(days=part)}" if isinstance(part, int) else part or "(no key)" for part in subject
    )
    return Difference(law.name, named, law.sentence.format(kept=kept, counted=counted), kept, counted)


def _laws(after: str, last: str | None) -> Sequence[_Law]:
    mine = between(_generations.c.owner_id, after, last)
    return (
        _Law(
            "activity",
            "the activity of that day says {kept}, the charges make {counted}",
            _by_day(mine, _generations.c.cost_nanos, TransferKind.CHARGE),
        ),
        _Law(
            "losses",
            "the activity of that day says the house lost {kept}, the entries make {counted}",
            _by_day(mine, _generations.c.house_nanos, TransferKind.LOSS),
        ),
        _Law("charge", "the activity says {kept}, the charge is {counted}", _without_generation(after, last)),
        _Law("correction", "the entry is {kept}, of what was confirmed {counted}", _unconfirmed(after, last)),
        _Law("roll-up", "the sums of that day say {kept}, its requests make {counted}", _rolled_up(after, last)),
    )


def _day(moment: ColumnElement[Any]) -> ColumnElement[int]:
    return type_coerce(moment, BigInteger) // DAY_MICROSECONDS


def _by_day(mine: ColumnElement[bool], cost: ColumnElement[int], kind: TransferKind) -> Select[Any]:
    """By owner, key and day: what the generations say, and the entries of that kind that belong to them."""
    entry = and_(
        _transfers.c.owner_id == _generations.c.owner_id,
        _transfers.c.id == literal(f"{kind.value}-") + _generations.c.id,
    )
    day, key = _day(_generations.c.created_at), func.coalesce(_generations.c.key_id, _NO_KEY)
    kept, counted = func.sum(cost), func.sum(func.coalesce(_transfers.c.amount_nanos, 0))
    return (
        select(_generations.c.owner_id, key.label("key"), day.label("day"), kept, counted)
        .select_from(_generations)
        .join(_transfers, entry, isouter=True)
        .where(mine)
        .group_by(_generations.c.owner_id, "key", "day")
        .having(kept != counted)
    )


def _without_generation(after: str, last: str | None) -> Select[Any]:
    """Charges and losses of requests that the activity does not know."""
    known = (
        select(_generations.c.id)
        .where(_generations.c.owner_id == _transfers.c.owner_id, _generations.c.id == _transfers.c.reference)
        .exists()
    )
    return select(_transfers.c.owner_id, _transfers.c.id, literal(0), _transfers.c.amount_nanos).where(
        between(_transfers.c.owner_id, after, last),
        _transfers.c.kind.in_((TransferKind.CHARGE.value, TransferKind.LOSS.value)),
        ~known,
    )


def _unconfirmed(after: str, last: str | None) -> Select[Any]:
    """Corrections that were posted and do not stand as confirmed, or otherwise."""
    same = and_(
        _corrections.c.owner_id == _transfers.c.owner_id,
        _corrections.c.id == _transfers.c.id,
        _corrections.c.state == CorrectionState.POSTED.value,
    )
    confirmed = func.coalesce(_corrections.c.amount_nanos, 0)
    return (
        select(_transfers.c.owner_id, _transfers.c.id, _transfers.c.amount_nanos, confirmed)
        .select_from(_transfers)
        .join(_corrections, same, isouter=True)
        .where(
            between(_transfers.c.owner_id, after, last),
            _transfers.c.kind == TransferKind.CORRECTION.value,
            confirmed != _transfers.c.amount_nanos,
        )
    )


def _rolled_up(after: str, last: str | None) -> Select[Any]:
    """By owner, key and day: the sums that pages read, and what they are of."""

    def side(table: Any, moment: ColumnElement[Any], kept: ColumnElement[Any], counted: ColumnElement[Any]) -> Any:
        key = func.coalesce(table.c.key_id, _NO_KEY).label("key")
        return select(
            table.c.owner_id, key, _day(moment).label("day"), kept.label("kept"), counted.label("counted")
        ).where(between(table.c.owner_id, after, last))

    nothing = literal(0)
    both = union_all(
        side(_hours, _hours.c.hour, _hours.c.cost_nanos, nothing),
        side(_generations, _generations.c.created_at, nothing, _generations.c.cost_nanos),
    ).subquery()
    kept, counted = func.sum(both.c.kept), func.sum(both.c.counted)
    return (
        select(both.c.owner_id, both.c.key, both.c.day, kept, counted)
        .group_by(both.c.owner_id, both.c.key, both.c.day)
        .having(kept != counted)
    )


@dataclass(frozen=True)
class LastCheck:
    """What the regular check found last, on whatever node; `seconds` is how long it took. Every balance was added up at `at`; `each_at`,
    maybe earlier, is when `verify_each` looked last. Amounts in nanos."""

    at: datetime
    seconds: float  # duration, not money
    drift: int
    difference_count: int
    differences: Sequence[str]
    balances: Mapping[str, int]
    transfers: int
    leases: int
    leased: int
    losses: int
    open_holds: int
    held: int
    oldest_hold_at: datetime | None
    each_at: datetime | None = None

    @property
    def is_right(self) -> bool:
        return self.difference_count == 0


def encode_check(
    books: Verification,
    at: datetime,
    each_at: datetime,
    seconds: float,  # duration, not money
) -> str:
    """As `last_check` reads it."""
    check = LastCheck(
        at=at,
        seconds=seconds,
        drift=books.drift,
        difference_count=books.difference_count,
        differences=[each.line for each in books.differences],
        balances=books.balances,
        transfers=books.transfers,
        leases=books.leases,
        leased=books.leased,
        losses=books.losses,
        open_holds=books.open_holds,
        held=books.held,
        oldest_hold_at=books.oldest_hold_at,
        each_at=each_at,
    )
    return msgspec.json.encode(check).decode()


async def last_check(snapshot: Snapshot) -> LastCheck | None:
    """None before the first."""
    found = await recall(snapshot, BOOKS_CHECKED)
    return None if found is None else msgspec.json.decode(found, type=LastCheck)


def told(books: Verification) -> dict[str, Any]:
    """Plain JSON, for operators; money in nanos, exactly."""
    return {
        "ok": books.difference_count == 0,
        "drift": books.drift,
        "differences": [
            {"law": each.law, "subject": each.subject, "message": each.sentence, "nanos": each.nanos}
            for each in books.differences
        ],
        "difference_count": books.difference_count,
        "sums": {"USD": dict(books.balances)},
        "house_loss": books.losses,
        "accounts": books.accounts,
        "transfers": books.transfers,
        "leases": books.leases,
        "leased": books.leased,
        "holds": {"open": books.open_holds, "held": books.held},
        "workers": [
            {
                "worker": worker.id,
                "node": worker.node,
                "watermark": worker.watermark,
                "batches": worker.batches,
                "chain": worker.chain,
            }
            for worker in books.workers
        ],
    }
