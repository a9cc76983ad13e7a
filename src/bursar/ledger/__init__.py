"""Double entry, append-only, integer nano-dollars, never below zero. `docs/architecture.md` shows where money flows."""

from bursar.ledger._batches import Applied, WatermarkGap, apply_batch, was_applied
from bursar.ledger._holds import HoldState, OpenHold, extend_hold, list_open_holds, open_hold, settle_hold, void_hold
from bursar.ledger._leases import Lease, WorkerAlive, forget_worker, lease, list_leases, return_all, return_lease
from bursar.ledger._rules import CHAIN_START, Account, Batch, Settlement, Transfer, TransferKind, chain_after
from bursar.ledger._store import (
    Balance,
    BalanceTooLarge,
    InsufficientFunds,
    PostedTransfer,
    TransferConflict,
    balance,
    balances,
    list_transfers,
    post,
)
from bursar.ledger._verify import Verification, verify
from bursar.ledger._workers import (
    NoSuchWorker,
    Worker,
    WorkerStopped,
    find_worker,
    list_workers,
    register_worker,
    touch_worker,
)

__all__ = [
    "CHAIN_START",
    "Account",
    "Applied",
    "Balance",
    "BalanceTooLarge",
    "Batch",
    "HoldState",
    "InsufficientFunds",
    "Lease",
    "NoSuchWorker",
    "OpenHold",
    "PostedTransfer",
    "Settlement",
    "Transfer",
    "TransferConflict",
    "TransferKind",
    "Verification",
    "WatermarkGap",
    "Worker",
    "WorkerAlive",
    "WorkerStopped",
    "apply_batch",
    "balance",
    "balances",
    "chain_after",
    "extend_hold",
    "find_worker",
    "forget_worker",
    "lease",
    "list_leases",
    "list_open_holds",
    "list_transfers",
    "list_workers",
    "open_hold",
    "post",
    "register_worker",
    "return_all",
    "return_lease",
    "settle_hold",
    "touch_worker",
    "verify",
    "void_hold",
    "was_applied",
]
