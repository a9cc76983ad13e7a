"""Allowances: what a limit still allows in one window, leased to workers like credits, but in its own unit.

- `set_limit` says how much; what was used in the present window is added up anew from the activity, so that a limit that comes late
  counts what was spent before it.
- `lease_allowance` hands out what is neither used nor leased; `return_allowance` takes back. Nobody spends what was not handed out.
- `count_used` adds what was charged, in the transaction of the charge, to whatever limits there are by then, in the window of the
  intent: what is used is always what the activity says.

Rows are locked in one order by everybody: the worker's row, the accounts, the allowances in theirs, their leases.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Table, and_, bindparam, delete, func, select, union_all, update

from bursar.kernel.errors import Conflict, PaymentRequired
from bursar.kernel.ids import GenerationId, OwnerId, WorkerId
from bursar.kernel.money import Nanos
from bursar.ledger import tables
from bursar.ledger._rules import Account
from bursar.ledger._windows import Allowance, Limit, Period, window_end
from bursar.ledger._workers import Lock, WorkerStopped, lock_worker
from bursar.storage import Snapshot, Tx

_accounts = tables.accounts
_limits = tables.limits
_allowances = tables.allowances
_leases = tables.allowance_leases


class LimitChanged(Conflict):
    """There is no such limit any more, or it is for another period: whoever asked has to look again."""


class LimitReached(PaymentRequired):
    """A request could cost more than a limit allows. `use` says which, and what is left."""

    def __init__(self, use: "LimitUse") -> None:
        super().__init__("A limit does not cover the request.")
        self.use = use


@dataclass(frozen=True)
class LimitUse:
    """A limit in one of its windows: what was charged in it, what is handed out beside that, and when the next one begins."""

    limit: Limit
    used: Nanos
    leased: Nanos
    resets_at: datetime | None

    @property
    def remaining(self) -> Nanos:
        """Of the limit, beside what was charged; never below 0."""
        return Nanos(max(0, self.limit.amount - self.used))

    @property
    def unleased(self) -> Nanos:
        """What may still be handed out."""
        return Nanos(max(0, self.limit.amount - self.used - self.leased))


class AllowanceLease(NamedTuple):
    """What was handed out, how the limit stands now, and what others have of it."""

    granted: Nanos
    use: LimitUse
    elsewhere: Nanos


@dataclass(frozen=True)
class Charged:
    """What one request cost, whose it counts as, and when it was intended."""

    owner: OwnerId
    subjects: Sequence[str]
    at: datetime
    amount: Nanos


async def set_limit(tx: Tx, limit: Limit, *, spent: Callable[[datetime], Awaitable[int]]) -> Limit | None:
    """The limit before, if any. In force on every worker within a second after the commit. Below what is used already, nothing remains.

    `spent` reads what the subject's activity since a moment cost, in nanos. It is asked when no batch can change the answer.
    """
    await _lock_charges(tx, limit.owner)
    before = await tx.first(
        select(_limits).where(_limits.c.owner_id == limit.owner, _limits.c.subject == limit.subject).with_for_update()
    )
    values = {"period": limit.period.value, "limit_nanos": limit.amount}
    row = tx.insert(_limits).values(owner_id=limit.owner, subject=limit.subject, **values)
    await tx.execute(row.on_conflict_do_update(index_elements=["owner_id", "subject"], set_=values))
    allowance = limit.allowance_at(tx.now)
    used = {"used_nanos": await spent(allowance.since)}
    fresh = tx.insert(_allowances).values(**_named(allowance), leased_nanos=0, **used)
    await tx.execute(fresh.on_conflict_do_update(index_elements=_KEY, set_=used))
    await _announce(tx, limit.owner, limit.subject)
    return None if before is None else _limit(before)


async def remove_limit(tx: Tx, owner: OwnerId, subject: str) -> Limit | None:
    """The limit that was removed; None: there was none. What is handed out comes back by itself."""
    query = delete(_limits).where(_limits.c.owner_id == owner, _limits.c.subject == subject)
    for row in await tx.returning(query.returning(_limits)):
        await _announce(tx, owner, subject)
        return _limit(row)
    return None


async def list_limits(snapshot: Snapshot, owner: OwnerId) -> Sequence[Limit]:
    """All of the owner's, by subject."""
    query = select(_limits).where(_limits.c.owner_id == owner).order_by(_limits.c.subject)
    return [_limit(row) for row in await snapshot.all(query)]


async def limit_uses(snapshot: Snapshot, owner: OwnerId, subjects: Iterable[str], at: datetime) -> dict[str, LimitUse]:
    """In the window of `at`, by subject, of those that have a limit."""
    query = select(_limits).where(_limits.c.owner_id == owner, _limits.c.subject.in_(list(subjects)))
    limits = [_limit(row) for row in await snapshot.all(query)]
    if not limits:
        return {}
    rows = await snapshot.all(
        select(_allowances).where(
            _allowances.c.owner_id == owner,
            _allowances.c.subject.in_([limit.subject for limit in limits]),
            _allowances.c.since.in_([limit.allowance_at(at).since for limit in limits]),
        )
    )
    known = {_allowance(row): row for row in rows}
    return {limit.subject: _use(limit, known.get(limit.allowance_at(at)), at) for limit in limits}


async def lease_allowance(
    tx: Tx, allowance: Allowance, worker: WorkerId, want: Nanos, *, move_id: str
) -> AllowanceLease:
    """Hands out `want`, or what there is of it, and what the limit looks like then.

    `move_id` is the caller's: the latest one repeated hands out what it did the first time. Raises `LimitChanged`, `WorkerStopped`,
    `NoSuchWorker`.
    """
    if want < 0:
        raise ValueError(f"a lease of {want} nanos")
    if (await lock_worker(tx, worker, Lock.SHARED)).stopped_at is not None:
        raise WorkerStopped("This worker was forgotten.", remedy="Start it again.", worker=worker)
    use = await _lock_allowance(tx, allowance)
    mine = await tx.first(select(_leases).where(_named_by(_leases, allowance), _leases.c.holder == worker))
    if mine is not None and mine.lease_id == move_id:
        return AllowanceLease(Nanos(mine.lease_nanos), use, Nanos(use.leased - mine.amount_nanos))
    others = Nanos(use.leased - (0 if mine is None else mine.amount_nanos))
    granted = Nanos(min(want, use.unleased))
    if granted:
        await _hand_out(tx, allowance, worker, granted, move_id)
    return AllowanceLease(granted, LimitUse(use.limit, use.used, Nanos(use.leased + granted), use.resets_at), others)


async def return_allowance(tx: Tx, allowance: Allowance, worker: WorkerId, amount: Nanos, *, move_id: str) -> Nanos:
    """Takes back `amount`, at most what the worker has; returns how much that was. The latest one repeated does nothing more."""
    if amount < 0:
        raise ValueError(f"a return of {amount} nanos")
    await lock_worker(tx, worker, Lock.TAKING)
    mine = await tx.first(select(_leases).where(_named_by(_leases, allowance), _leases.c.holder == worker))
    if mine is None:
        return Nanos(0)
    if mine.return_id == move_id:
        return Nanos(mine.return_nanos)
    returned = Nanos(min(amount, mine.amount_nanos))
    await _lower(tx, allowance, returned)
    await tx.execute(
        update(_leases)
        .where(_named_by(_leases, allowance), _leases.c.holder == worker)
        .values(amount_nanos=_leases.c.amount_nanos - returned, return_id=move_id, return_nanos=returned)
    )
    return returned


async def reserve_allowances(
    tx: Tx, owner: OwnerId, subjects: Iterable[str], generation: GenerationId, amount: Nanos, at: datetime
) -> None:
    """For one request that has no worker's lease: all limits that bind it, or none. Raises `LimitReached`."""
    if not amount:
        return
    query = select(_limits).where(_limits.c.owner_id == owner, _limits.c.subject.in_(list(subjects)))
    for allowance in sorted(_limit(row).allowance_at(at) for row in await tx.all(query)):
        await _reserve(tx, allowance, generation, amount)


async def extend_reserve(tx: Tx, owner: OwnerId, generation: GenerationId, extra: Nanos) -> None:
    """More of what `reserve_allowances` took, in the same windows. Raises `LimitReached`."""
    query = select(_leases).where(_leases.c.owner_id == owner, _leases.c.holder == generation)
    for allowance in sorted(_allowance(row) for row in await tx.all(query)):
        try:
            await _reserve(tx, allowance, generation, extra)
        except LimitChanged:  # nothing binds it any more
            continue


async def extend_at_most(tx: Tx, owner: OwnerId, generation: GenerationId, extra: Nanos) -> Nanos:
    """As much of `extra` as every limit has left that `reserve_allowances` took from; returns how much that was."""
    query = select(_leases).where(_leases.c.owner_id == owner, _leases.c.holder == generation)
    bound = []
    for allowance in sorted(_allowance(row) for row in await tx.all(query)):
        with suppress(LimitChanged):
            bound.append((allowance, await _lock_allowance(tx, allowance)))
    covered = Nanos(min([extra, *(use.unleased for _, use in bound)]))
    for allowance, _ in bound if covered else ():
        await _hand_out(tx, allowance, generation, covered, None)
    return covered


async def give_back_all(tx: Tx, holder: WorkerId | GenerationId, owner: OwnerId | None = None) -> None:
    """Whatever is handed out to a worker or to a request."""
    query = select(_leases).where(_leases.c.holder == holder)
    if owner is not None:
        query = query.where(_leases.c.owner_id == owner)
    rows = await tx.all(query)
    for allowance, amount in sorted((_allowance(row), row.amount_nanos) for row in rows):
        await _lower(tx, allowance, amount)
    if rows:
        gone = delete(_leases).where(_leases.c.holder == holder)
        await tx.execute(gone if owner is None else gone.where(_leases.c.owner_id == owner))


async def count_used(
    tx: Tx, charged: Iterable[Charged], taken: Mapping[Allowance, int], worker: WorkerId | None
) -> None:
    """Adds what was charged to the limits that bind it now, and lowers by `taken` what the worker has. The owners' `spent` accounts
    are locked by then: whoever sets a limit waits for this transaction, or has ended before it."""
    used = await _used_by_allowance(tx, [each for each in charged if each.amount])
    kept = await _leased_to(tx, worker, taken) if worker is not None and taken else {}
    spent = {allowance: min(amount, kept.get(allowance, 0)) for allowance, amount in taken.items()}
    rows = [
        {**_named(allowance), "used": used.get(allowance, 0), "spent": spent.get(allowance, 0)}
        for allowance in sorted(used.keys() | spent.keys())
    ]
    fresh = tx.insert(_allowances).values(
        {name: bindparam(name) for name in _KEY}
        | {"used_nanos": bindparam("used", type_=BigInteger), "leased_nanos": 0}
    )
    more = {
        "used_nanos": _allowances.c.used_nanos + bindparam("used", type_=BigInteger),
        "leased_nanos": _allowances.c.leased_nanos - bindparam("spent", type_=BigInteger),
    }
    await tx.execute_each(fresh.on_conflict_do_update(index_elements=_KEY, set_=more), rows)
    await tx.execute_each(
        update(_leases)
        .where(*(_leases.c[name] == bindparam(f"of_{name}") for name in _KEY), _leases.c.holder == worker)
        .values(amount_nanos=_leases.c.amount_nanos - bindparam("amount")),
        [
            {f"of_{name}": value for name, value in _named(allowance).items()} | {"amount": amount}
            for allowance, amount in sorted(spent.items())
            if amount
        ],
    )


async def allowances_apart(snapshot: Snapshot) -> Sequence[tuple[str, int]]:
    """Which allowances differ in what is handed out of them from their leases, and by how many nanos; none when all is well."""
    key = [_allowances.c[name] for name in _KEY]
    kept = select(*key, _allowances.c.leased_nanos.label("amount"))
    parts = select(*(_leases.c[name] for name in _KEY), (-_leases.c.amount_nanos).label("amount"))
    both = union_all(kept, parts).subquery()
    names, apart = [both.c[name] for name in _KEY], func.sum(both.c.amount)
    rows = await snapshot.all(select(*names, apart).group_by(*names).having(apart != 0))
    return [(" ".join(map(str, row[:-1])), int(row[-1])) for row in map(tuple, rows)]


async def _lock_charges(tx: Tx, owner: OwnerId) -> None:
    """Nothing is charged to the owner until the transaction ends."""
    spent = {"owner_id": owner, "account": Account.SPENT.value}
    await tx.execute(tx.insert(_accounts).values(**spent, balance_nanos=0).on_conflict_do_nothing())
    await tx.first(
        select(_accounts).where(*(_accounts.c[name] == value for name, value in spent.items())).with_for_update()
    )


async def _announce(tx: Tx, owner: OwnerId, subject: str) -> None:
    await tx.announce("limit", f"{owner} {subject}")


async def _lock_allowance(tx: Tx, allowance: Allowance) -> LimitUse:
    """Kept still until the transaction ends. The first of a new window clears away the old ones. Raises `LimitChanged`."""
    begun = tx.insert(_allowances).values(**_named(allowance), used_nanos=0, leased_nanos=0)
    if await tx.execute(begun.on_conflict_do_nothing(index_elements=_KEY)):
        await tx.execute(
            delete(_allowances).where(
                _allowances.c.owner_id == allowance.owner,
                _allowances.c.subject == allowance.subject,
                _allowances.c.period == allowance.period.value,
                _allowances.c.since < allowance.since,
                _allowances.c.leased_nanos == 0,
            )
        )
    row = await tx.first(select(_allowances).where(_named_by(_allowances, allowance)).with_for_update())
    found = await tx.first(
        select(_limits).where(
            _limits.c.owner_id == allowance.owner,
            _limits.c.subject == allowance.subject,
            _limits.c.period == allowance.period.value,
        )
    )
    if found is None:
        raise LimitChanged("This limit was removed or changed.", owner=allowance.owner, subject=allowance.subject)
    return _use(_limit(found), row, allowance.since)


async def _reserve(tx: Tx, allowance: Allowance, generation: GenerationId, amount: Nanos) -> None:
    use = await _lock_allowance(tx, allowance)
    if use.unleased < amount:
        raise LimitReached(use)
    await _hand_out(tx, allowance, generation, amount, None)


async def _hand_out(
    tx: Tx, allowance: Allowance, holder: WorkerId | GenerationId, amount: Nanos, move_id: str | None
) -> None:
    limit = (
        select(_limits.c.limit_nanos)
        .where(_limits.c.owner_id == allowance.owner, _limits.c.subject == allowance.subject)
        .scalar_subquery()
    )
    handed = await tx.execute(
        update(_allowances)
        .where(
            _named_by(_allowances, allowance), _allowances.c.used_nanos + _allowances.c.leased_nanos + amount <= limit
        )
        .values(leased_nanos=_allowances.c.leased_nanos + amount)
    )
    if handed != 1:  # it was lowered a moment ago
        raise LimitChanged("This limit was changed.", owner=allowance.owner, subject=allowance.subject)
    move = {"lease_id": move_id, "lease_nanos": amount}
    row = tx.insert(_leases).values(**_named(allowance), holder=holder, amount_nanos=amount, **move)
    await tx.execute(
        row.on_conflict_do_update(
            index_elements=[*_KEY, "holder"], set_={"amount_nanos": _leases.c.amount_nanos + amount, **move}
        )
    )


async def _lower(tx: Tx, allowance: Allowance, amount: int) -> None:
    await tx.execute(
        update(_allowances)
        .where(_named_by(_allowances, allowance))
        .values(leased_nanos=_allowances.c.leased_nanos - amount)
    )


async def _used_by_allowance(tx: Tx, charged: Sequence[Charged]) -> dict[Allowance, int]:
    if not charged:
        return {}
    rows = await tx.all(
        select(_limits).where(
            _limits.c.owner_id.in_({each.owner for each in charged}),
            _limits.c.subject.in_({subject for each in charged for subject in each.subjects}),
        )
    )
    limits = {(limit.owner, limit.subject): limit for limit in map(_limit, rows)}
    used: defaultdict[Allowance, int] = defaultdict(int)
    for each in charged if limits else ():
        for subject in set(each.subjects):
            limit = limits.get((each.owner, subject))
            if limit is not None:
                used[limit.allowance_at(each.at)] += each.amount
    return dict(used)


async def _leased_to(tx: Tx, worker: WorkerId, allowances: Iterable[Allowance]) -> dict[Allowance, int]:
    """What the worker has of them: it may grow meanwhile, but nobody else takes from it."""
    owners = {each.owner for each in allowances}
    rows = await tx.all(
        select(_leases).where(
            _leases.c.holder == worker,
            _leases.c.owner_id.in_(owners),
            _leases.c.subject.in_({each.subject for each in allowances}),
        )
    )
    return {_allowance(row): row.amount_nanos for row in rows}


_KEY = ("owner_id", "subject", "period", "since")


def _named(allowance: Allowance) -> dict[str, Any]:
    return {
        "owner_id": allowance.owner,
        "subject": allowance.subject,
        "period": allowance.period.value,
        "since": allowance.since,
    }


def _named_by(table: Table, allowance: Allowance) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in _named(allowance).items()))


def _allowance(row: Any) -> Allowance:
    return Allowance(OwnerId(row.owner_id), row.subject, Period(row.period), row.since)


def _limit(row: Any) -> Limit:
    return Limit(OwnerId(row.owner_id), row.subject, Nanos(row.limit_nanos), Period(row.period))


def _use(limit: Limit, row: Any | None, at: datetime) -> LimitUse:
    used, leased = (0, 0) if row is None else (row.used_nanos, row.leased_nanos)
    return LimitUse(limit, Nanos(used), Nanos(leased), window_end(limit.period, at))
