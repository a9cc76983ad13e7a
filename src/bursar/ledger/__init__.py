"""Double entry, append-only, integer nano-dollars, never below zero. `docs/architecture.md` shows where money flows."""

from bursar.ledger._holds import HoldState, OpenHold, extend_hold, list_open_holds, open_hold, settle_hold, void_hold
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

__all__ = [
    "Account",
    "Balance",
    "BalanceTooLarge",
    "HoldState",
    "InsufficientFunds",
    "OpenHold",
    "PostedTransfer",
    "Transfer",
    "TransferConflict",
    "TransferKind",
    "Verification",
    "balance",
    "balances",
    "extend_hold",
    "list_open_holds",
    "list_transfers",
    "open_hold",
    "post",
    "settle_hold",
    "verify",
    "void_hold",
]
