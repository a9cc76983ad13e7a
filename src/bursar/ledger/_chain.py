"""The chains of batches: each one's hash recomputed from what is kept of it, and what it says compared with the entries.

Somebody who changes a past charge, with the balance to match, changes what the batch says against the entry; whoever changes both
breaks the hash; and whoever writes all hashes anew ends at another last one than was written down elsewhere (`bursar ledger verify`
prints it).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import select

from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos
from bursar.ledger import tables
from bursar.ledger._rules import CHAIN_START, Outcome, chain_after, charge_id, loss_of, outcomes_in
from bursar.ledger._verify import Difference, Findings, Progress, unheard
from bursar.ledger._workers import Worker, list_workers
from bursar.storage import Snapshot

_batches = tables.batches
_transfers = tables.transfers

BATCHES_AT_ONCE = 10
TRANSFERS_AT_ONCE = 250
"""So few that a server which checks its books beside serving is never busy with them for more than some milliseconds at once."""


async def verify_chains(snapshot: Snapshot, progress: Progress = unheard) -> Findings:
    """Reads every batch and looks up every charge in them. In system scope."""
    found = Findings()
    workers = await list_workers(snapshot)
    of = sum(worker.batches - worker.batches_unkept for worker in workers)
    done = 0
    for worker in workers:
        chain = _Chain(worker, found)
        after = 0
        while rows := await _page(snapshot, worker, after):
            for owner, said in _said([outcome for row in rows for outcome in chain.follow(row)]).items():
                for some in _some(said.items(), TRANSFERS_AT_ONCE):
                    await _compare(snapshot, owner, some, found)
            after = rows[-1].first_lsn
            done += len(rows)
            progress("batches", done, of)
        chain.end()
    return found


async def _page(snapshot: Snapshot, worker: Worker, after: int) -> Sequence[Any]:
    return await snapshot.all(
        select(_batches)
        .where(_batches.c.worker == worker.id, _batches.c.first_lsn > after)
        .order_by(_batches.c.first_lsn)
        .limit(BATCHES_AT_ONCE)
    )


class _Chain:
    """One worker's, followed batch by batch."""

    def __init__(self, worker: Worker, found: Findings) -> None:
        self._worker = worker
        self._found = found
        self._count = 0
        self._last_lsn: int | None = None
        # What came before the batches were kept has a hash that nothing is left to check by.
        self._hash = None if worker.batches_unkept else CHAIN_START

    def follow(self, row: Any) -> Sequence[Outcome]:
        """What the batch says it did."""
        subject = f"{row.worker} {row.first_lsn}-{row.last_lsn}"
        expected_lsn = (self._last_lsn or 0) + 1
        if self._hash is not None and (row.previous != self._hash or row.first_lsn != expected_lsn):
            self._tell(subject, "the batch does not follow the one before it: one was changed or is missing")
        if chain_after(row.previous, row.worker, row.first_lsn, row.last_lsn, row.contents) != row.hash:
            self._tell(subject, "the hash of the batch is not that of its contents: it was changed")
        self._hash, self._last_lsn = row.hash, row.last_lsn
        self._count += 1
        try:
            return outcomes_in(row.contents)
        except ValueError:
            self._tell(subject, "the contents of the batch cannot be read: they were changed")
            return []

    def end(self) -> None:
        worker, kept = self._worker, self._worker.batches - self._worker.batches_unkept
        if self._count != kept:
            self._tell(worker.id, f"{kept} batches were applied and {self._count} are there")
        if self._last_lsn is None:
            return
        if (worker.chain, worker.watermark) != (self._hash, self._last_lsn):
            self._tell(worker.id, "the last batch is not the one that the worker's row names")

    def _tell(self, subject: str, sentence: str) -> None:
        self._found.add(Difference("chain", subject, sentence))


def _said(outcomes: Sequence[Outcome]) -> dict[OwnerId, dict[str, Nanos]]:
    """The entries that there must be, by owner and name. A settlement at 0 has none."""
    said: defaultdict[OwnerId, dict[str, Nanos]] = defaultdict(dict)
    for each in outcomes:
        if each.charged:
            said[each.owner][charge_id(each.generation)] = each.charged
        if each.lost:
            said[each.owner][loss_of(each.owner, each.generation, each.lost).id] = each.lost
    return said


async def _compare(snapshot: Snapshot, owner: OwnerId, said: Mapping[str, Nanos], found: Findings) -> None:
    """One owner's at a time: a list of pairs would have SQLite read the whole table."""
    rows = await snapshot.all(
        select(_transfers.c.id, _transfers.c.amount_nanos).where(
            _transfers.c.owner_id == owner, _transfers.c.id.in_(list(said))
        )
    )
    there = {row.id: row.amount_nanos for row in rows}
    for name, amount in said.items():
        sentence = "the entry is {kept}, its batch says {counted}"
        found.compare("charge", f"{owner} {name}", sentence, there.get(name, 0), amount)


def _some(items: Iterable[tuple[str, Nanos]], most: int) -> Iterator[dict[str, Nanos]]:
    remaining = iter(items)
    while some := dict(islice(remaining, most)):
        yield some
