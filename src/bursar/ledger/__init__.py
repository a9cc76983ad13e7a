"""Double entry, append-only, integer nano-dollars, never below zero. `docs/architecture.md` shows where money flows."""

from bursar.ledger._holds import HoldState, OpenHold, extend_hold, list_open_holds, open_hold, settle_hold, void_hold
from bursar.ledger._leases import Lease, WorkerAlive, forget_worker, lease, list_leases, return_all, return_lease
from bursar.ledger._rules import Account, Transfer, TransferKind
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
    "Account",
    "Balance",
    "BalanceTooLarge",
    "HoldState",
    "InsufficientFunds",
    "Lease",
    "NoSuchWorker",
    "OpenHold",
    "PostedTransfer",
    "Transfer",
    "TransferConflict",
    "TransferKind",
    "Verification",
    "Worker",
    "WorkerAlive",
    "WorkerStopped",
    "balance",
    "balances",
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
]
