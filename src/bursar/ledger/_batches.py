"""Batches: what a worker's journal says was used, charged in one transaction, each generation once.

1. The worker's row is locked: one batch of a worker at a time, and nobody takes from its leases meanwhile.
2. A batch at or below the watermark was applied: nothing happens. One that does not begin right behind it is refused.
3. Charges that exceed the worker's lease take the rest from the owner's credits, as far as they go; the rest is the house's.
4. The charges are inserted under ids that derive from the generations.
5. The batch is kept with its hash; watermark and chain move in the same transaction.
6. Balances and leases change by the charges that were new, in one statement for all owners together, in the order in which everybody
   locks accounts. From here on other workers may wait, so that as little as possible follows.
7. What was charged counts for the limits of its key, user and owner, and lowers what the worker has leased of them.
8. What nobody could pay is booked as the house's loss.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Table, bindparam, select, update

from bursar.kernel.errors import Conflict
from bursar.kernel.ids import SYSTEM_OWNER, GenerationId, OwnerId, WorkerId
from bursar.kernel.money import NANOS_MAX, ZERO, Nanos
from bursar.ledger import tables
from bursar.ledger._allowances import Charged, count_used
from bursar.ledger._leases import leases_of
from bursar.ledger._rules import (
    Account,
    Batch,
    Outcome,
    Settlement,
    Transfer,
    TransferKind,
    chain_after,
    charge_id,
    contents_of,
    loss_of,
    net_changes,
    share_out,
)
from bursar.ledger._store import BalanceTooLarge, insert
from bursar.ledger._windows import Allowance
from bursar.ledger._workers import Lock, Worker, lock_worker
from bursar.storage import Tx

_accounts = tables.accounts
_transfers = tables.transfers
_workers = tables.workers
_batches = tables.batches

_Change = tuple[OwnerId, Account, int]


class WatermarkGap(Conflict):
    """A batch does not begin right behind the last record that was applied; nothing of its transaction happens."""


@dataclass(frozen=True)
class Applied:
    """`charged`: the generations that this batch settled, with what was really charged (0 included). `shortfall`: what of their
    charges nobody could pay, where that is more than 0. `lost`: that and what was known before to be beyond, as it was booked: the
    house's loss."""

    charged: Mapping[GenerationId, Nanos]
    shortfall: Mapping[GenerationId, Nanos]
    lost: Mapping[GenerationId, Nanos] = field(default_factory=dict)


async def was_applied(tx: Tx, worker: WorkerId, first_lsn: int, last_lsn: int) -> bool:
    """Whether these records were applied before; if not, they are next. Nobody else applies the worker's records until the
    transaction ends. Raises `WatermarkGap`, `NoSuchWorker`."""
    return _is_behind(await lock_worker(tx, worker, Lock.TAKING), first_lsn, last_lsn)


async def apply_batch(
    tx: Tx, worker: WorkerId, batch: Batch, *, settled: AbstractSet[GenerationId] = frozenset()
) -> Applied:
    """Charges every generation of the batch that was not charged before, once; repeating the batch does nothing.

    `settled` are generations of which somebody else knows that they were settled: a settlement at 0 leaves no transfer to be found
    here. Of one generation twice in a batch the first counts. In system scope: it charges many owners. Raises `WatermarkGap`, `NoSuchWorker`, `BalanceTooLarge`.
    """
    before = await lock_worker(tx, worker, Lock.TAKING)
    if _is_behind(before, batch.first_lsn, batch.last_lsn):
        return Applied({}, {})
    asked: dict[GenerationId, Settlement] = {}
    for settlement in batch.settlements:
        if settlement.generation not in settled:
            asked.setdefault(settlement.generation, settlement)
    charged, changes = await _charge(tx, worker, list(asked.values()))
    missing = {name: Nanos(asked[name].charge - paid) for name, paid in charged.items()}
    losses = [
        loss_of(asked[name].owner, name, Nanos(amount + asked[name].beyond))
        for name, amount in missing.items()
        if amount + asked[name].beyond
    ]
    losses = [transfer for transfer, is_new in await insert(tx, losses) if is_new]
    lost = {GenerationId(each.reference or ""): each.amount for each in losses}
    outcomes = [
        Outcome(asked[name].owner, name, charged[name], lost.get(name, ZERO)) for name in asked if name in charged
    ]
    await _keep(tx, before, batch, outcomes)
    await _move(tx, worker, changes)
    await _count(tx, worker, asked, charged)
    await _add_to_accounts(
        tx, net_changes(losses)
    )  # the house's after all others, so that nobody who waits for them is waited for
    return Applied(charged, {name: amount for name, amount in missing.items() if amount}, lost)


async def _keep(tx: Tx, worker: Worker, batch: Batch, outcomes: Sequence[Outcome]) -> None:
    """The next link of the worker's chain, and its watermark."""
    contents = contents_of(outcomes)
    chain = chain_after(worker.chain, worker.id, batch.first_lsn, batch.last_lsn, contents)
    await tx.execute(
        _batches.insert().values(
            worker=worker.id,
            first_lsn=batch.first_lsn,
            last_lsn=batch.last_lsn,
            previous=worker.chain,
            hash=chain,
            contents=contents,
            at=tx.now,
        )
    )
    await tx.execute(
        update(_workers)
        .where(_workers.c.worker == worker.id)
        .values(watermark=batch.last_lsn, chain=chain, batches=_workers.c.batches + 1)
    )


async def _count(
    tx: Tx, worker: WorkerId, asked: Mapping[GenerationId, Settlement], paid: Mapping[GenerationId, Nanos]
) -> None:
    """A limit counts what was paid; the worker has spent what was asked for."""
    counted = []
    taken: defaultdict[Allowance, int] = defaultdict(int)
    for name, amount in paid.items():
        each = asked[name]
        if each.at is not None:
            counted.append(Charged(each.owner, each.subjects, each.at, amount))
        for allowance in each.taken:
            taken[allowance] += each.charge
    await count_used(tx, counted, taken, worker)


def _is_behind(worker: Worker, first_lsn: int, last_lsn: int) -> bool:
    if last_lsn <= worker.watermark:
        return True
    if first_lsn != worker.watermark + 1:
        raise WatermarkGap(
            f"The journal of {worker.id} was applied to record {worker.watermark}; "
            f"a batch of {first_lsn} to {last_lsn} does not follow.",
            worker=worker.id,
            watermark=worker.watermark,
        )
    return False


async def _charge(
    tx: Tx, worker: WorkerId, asked: Sequence[Settlement]
) -> tuple[dict[GenerationId, Nanos], Sequence[_Change]]:
    """What is charged, by generation, and what that is to change of balances: those that had been charged before are left out."""
    by_owner: defaultdict[OwnerId, list[Settlement]] = defaultdict(list)
    for settlement in asked:
        by_owner[settlement.owner].append(settlement)
    leased = await leases_of(tx, worker, list(by_owner))  # may grow meanwhile; nobody else takes from it
    short = [owner for owner, theirs in by_owner.items() if _sum(theirs) > leased.get(owner, 0)]
    paid = {each.generation: each.charge for each in asked if each.owner not in short}
    covers: list[Transfer] = []
    if short:
        credits_left = await _lock_accounts(tx, list(by_owner))
        for owner in short:
            fresh = await _not_charged_yet(tx, owner, by_owner[owner])
            shares, cover = share_out([each.charge for each in fresh], leased.get(owner, 0), credits_left.get(owner, 0))
            paid |= {each.generation: share for each, share in zip(fresh, shares, strict=True)}
            if cover:
                covers.append(_cover(owner, worker, fresh, leased.get(owner, 0), cover))
    charges = [_transfer(each, paid[each.generation]) for each in asked if paid.get(each.generation)]
    posted = []
    for transfer, is_new in await insert(tx, [*covers, *charges]):
        if is_new:
            posted.append(transfer)
        else:
            paid.pop(GenerationId(transfer.reference or ""), None)
    changes = net_changes(posted)
    await _require_room(tx, changes)
    return paid, changes


async def _lock_accounts(tx: Tx, owners: Sequence[OwnerId]) -> dict[OwnerId, int]:
    """Locks all that the batch may touch, in the order in which everybody does (by code point, whatever the database's
    collation); the credits of each owner."""
    by_code_point = _accounts.c.owner_id.collate("C") if tx.dialect == "postgresql" else _accounts.c.owner_id
    accounts = [account.value for account in (Account.CREDITS, Account.LEASED, Account.SPENT)]
    rows = await tx.all(
        select(_accounts)
        .where(_accounts.c.owner_id.in_(owners), _accounts.c.account.in_(accounts))
        .order_by(by_code_point, _accounts.c.account)
        .with_for_update()
    )
    return {OwnerId(row.owner_id): row.balance_nanos for row in rows if row.account == Account.CREDITS}


async def _not_charged_yet(tx: Tx, owner: OwnerId, settlements: Sequence[Settlement]) -> list[Settlement]:
    """Those without a transfer; a charge of 0 never has one."""
    names = [charge_id(each.generation) for each in settlements]
    rows = await tx.all(select(_transfers.c.id).where(_transfers.c.owner_id == owner, _transfers.c.id.in_(names)))
    known = {row.id for row in rows}
    return [each for each, name in zip(settlements, names, strict=True) if name not in known or not each.charge]


async def _require_room(tx: Tx, changes: Sequence[_Change]) -> None:
    added = {owner: change for owner, account, change in changes if account is Account.SPENT}
    spent = await tx.all(
        select(_accounts.c.owner_id, _accounts.c.balance_nanos).where(
            _accounts.c.owner_id.in_(added), _accounts.c.account == Account.SPENT.value
        )
    )
    for row in spent:
        if row.balance_nanos > NANOS_MAX - added[row.owner_id]:  # SQLite would turn the sum into a float
            raise BalanceTooLarge("That is more than one account can hold.", owner=row.owner_id)


async def _move(tx: Tx, worker: WorkerId, changes: Sequence[_Change]) -> None:
    """Changes accounts and leases. Rows that a change takes from are there, and large enough: whoever could have
    changed that waits for this transaction."""
    await _add_to_accounts(tx, changes)
    await _add_each(
        tx,
        tables.leases,
        [
            {"owner_id": owner, "worker": worker, "change": change}
            for owner, account, change in changes
            if account is Account.LEASED
        ],
    )


async def _add_to_accounts(tx: Tx, changes: Sequence[_Change]) -> None:
    await _add_each(
        tx,
        tables.accounts,
        [{"owner_id": owner, "account": name.value, "change": change} for owner, name, change in changes],
    )


async def _add_each(tx: Tx, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds `change` to the last column of each row, in one round trip; a row that was not there begins with it."""
    *key, amount = table.columns
    insert_row = tx.insert(table).values(
        {column: bindparam(column.name) for column in key} | {amount: bindparam("first")}
    )
    await tx.execute_each(
        insert_row.on_conflict_do_update(
            index_elements=key, set_={amount.name: amount + bindparam("change", type_=BigInteger)}
        ),
        # No owner's row may begin below zero, not even in a proposal that is dropped because the row is there.
        [{**row, "first": row["change"] if row["owner_id"] == SYSTEM_OWNER else max(row["change"], 0)} for row in rows],
    )


def _sum(settlements: Sequence[Settlement]) -> int:
    return sum(each.charge for each in settlements)


def _cover(owner: OwnerId, worker: WorkerId, settlements: Sequence[Settlement], leased: int, amount: Nanos) -> Transfer:
    """Named after the first generation that it pays for, which is charged in this transaction and in no other."""
    so_far = 0
    for each in settlements:
        so_far += each.charge
        if so_far > leased:
            name = f"{TransferKind.LEASE.value}-{each.generation}.rest"
            return Transfer(owner, name, TransferKind.LEASE, Account.CREDITS, Account.LEASED, amount, reference=worker)
    raise ValueError("there is nothing to cover")


def _transfer(settlement: Settlement, amount: Nanos) -> Transfer:
    return Transfer(
        settlement.owner,
        charge_id(settlement.generation),
        TransferKind.CHARGE,
        Account.LEASED,
        Account.SPENT,
        amount,
        reference=settlement.generation,
    )
