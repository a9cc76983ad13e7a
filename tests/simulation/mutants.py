"""Twelve ways to get money wrong, each a small change of the real code. The simulation has to catch every one.

A mutant replaces text in the source of a function and compiles that function anew, in place: every name by which it was imported
means the mutant. Text that is not found is an error: code that moved on takes its mutant with it.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bursar.gateway import Gateway, JournalFunds
from bursar.gateway._apply import apply_settlements
from bursar.gateway._purses import Credits
from bursar.gateway._run import Run
from bursar.kernel import money
from bursar.kernel.ids import TransferId, new_transfer_id
from bursar.ledger import _batches, _leases, _rules, _workers


class Change:
    """In `function`, each first text becomes the second."""

    def __init__(self, function: Callable[..., Any], *texts: tuple[str, str]) -> None:
        self._function: Any = function
        self._texts = texts

    @contextmanager
    def applied(self) -> Iterator[None]:
        function = self._function
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in self._texts:
            if source.count(old) != 1:
                raise LookupError(f"{function.__qualname__} has {source.count(old)} times, and not once: {old}")
            source = source.replace(old, new)
        made: dict[str, Any] = {}
        exec(compile(source, f"<mutant of {function.__qualname__}>", "exec"), function.__globals__, made)
        before = function.__code__
        function.__code__ = made[function.__name__].__code__
        try:
            yield
        finally:
            function.__code__ = before


@dataclass(frozen=True)
class Mutant:
    name: str
    breaks: str
    """What of `money.md` it breaks."""
    seed: int
    """One that caught it; where the code moved on, another will."""
    changes: tuple[Change, ...]

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:
            for change in self.changes:
                stack.enter_context(change.applied())
            yield


_SYNCED = "    await self._synced(lsn)\n"
_RESOLVED = "self._leases.resolve(hold.purses, hold.amount, charged)"

_WATERMARK_FORGOTTEN = Change(
    _batches._keep,
    ("watermark=batch.last_lsn,", "watermark=0,"),
    ("_batches.insert().values(", "_batches.insert().prefix_with('OR IGNORE').values("),
)
"""Batches are kept under their first record, so that the database itself refuses to apply one twice: that is taken away as well."""

MUTANTS = (
    Mutant(
        "no ids and no watermark",
        "exactly once: a batch that is repeated is charged again",
        10,
        (
            Change(
                _batches._is_behind,
                ("if last_lsn <= worker.watermark:", "if False:"),
                ("if first_lsn != worker.watermark + 1:", "if False:"),
            ),
            _WATERMARK_FORGOTTEN,
            Change(
                apply_settlements,
                ("settled = {each.id for each in generations} - {each.id for each in fresh}", "settled = set()"),
            ),
            Change(
                _rules.charge_id,
                (
                    'return f"{TransferKind.CHARGE.value}-{generation}"',
                    "from tests.simulation.mutants import another_id; return another_id()",
                ),
            ),
        ),
    ),
    Mutant(
        "intent not synced",
        "dispatched ⇒ traced: the power is lost after dispatch",
        12,
        (Change(JournalFunds.hold, (_SYNCED, "    pass\n")),),
    ),
    Mutant(
        "end sent before settle",
        "done ⇒ charged: the client has the end, and the process dies",
        27,
        (Change(JournalFunds.settle, (_SYNCED, "    pass\n")),),
    ),
    Mutant(
        "no lease",
        "no overspend: workers spend what they did not lease",
        1,
        (
            Change(
                Credits.lease,
                (
                    "granted = await ledger.lease(tx, self.owner, worker, want, transfer_id=move_id)",
                    "granted = min(want, (await ledger.balance(tx, self.owner)).unleased)",
                ),
            ),
        ),
    ),
    Mutant(
        "float money",
        "charged ⇒ proven: a sum of floats is off by a nano",
        2,
        (
            Change(
                money.charge,
                ("total += count * price", "total += count * (price / 1e18)"),
                ("nanos = -(-total // ATTOS_PER_NANO)", "nanos = -int(-total * 1e9 // 1)"),
            ),
        ),
    ),
    Mutant(
        "watermark in memory",
        "exactly once: what was applied is not known after a start",
        24,
        (
            _WATERMARK_FORGOTTEN,
            Change(_batches._is_behind, ("if first_lsn != worker.watermark + 1:", "if False:")),
        ),
    ),
    Mutant(
        "release before settle",
        "no overspend: what is owed is spent again before it is charged",
        49,
        (
            Change(JournalFunds._end, (_RESOLVED, "self._leases.resolve(hold.purses, hold.amount, 0)")),
            Change(JournalFunds.settle, (_SYNCED, _SYNCED + "    self._leases.resolve(hold.purses, 0, charged)\n")),
        ),
    ),
    Mutant(
        "double release",
        "no overspend: a hold is given back twice",
        8,
        (Change(JournalFunds._end, (_RESOLVED, f"{_RESOLVED}; {_RESOLVED}")),),
    ),
    Mutant(
        "wall-clock leases",
        "no overspend: a worker whose clock is an hour behind is forgotten while it serves",
        5,
        tuple(
            Change(function, ("now = await tx.database_time()", "now = tx.now"))
            for function in (_workers.register_worker, _workers.touch_worker, _leases.forget_worker)
        ),
    ),
    Mutant(
        "charge on a fallback without output",
        "failure ⇒ free: an attempt that fell back is paid for",
        7,
        (
            Change(
                Run._row,
                (
                    "cost_nanos=charge(pricing, usage)",
                    "cost_nanos=Nanos(charge(pricing, usage) * len(self.trace.tried))",
                ),
            ),
        ),
    ),
    Mutant(
        "journal truncated early",
        "dispatched ⇒ traced: the intents of running requests are gone after a kill",
        19,
        (
            Change(
                JournalFunds._apply_once,
                (
                    "self._journal.truncate(last if oldest is None else min(last, oldest - 1))",
                    "self._journal.truncate(self._journal.synced_lsn)",
                ),
            ),
        ),
    ),
    Mutant(
        "settle in the request's task",
        "usable: a client that leaves cancels what it owes, and its hold is held for ever",
        3,
        (Change(Gateway.serve, ("await asyncio.shield(task)", "await task")),),
    ),
)


def another_id() -> TransferId:
    """Never the same twice."""
    return new_transfer_id(datetime(2026, 11, 24, tzinfo=UTC))
