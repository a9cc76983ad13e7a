"""Purchases of credits: their table and rules. The processor that takes the card is another room."""

from bursar.payments._store import (
    PURCHASE_NANOS_MAX,
    PURCHASE_NANOS_MIN,
    NoSuchPurchase,
    Purchase,
    PurchaseState,
    find_purchase,
    get_purchase,
    list_purchases,
    mark_cancelled,
    mark_paid,
    open_purchase,
    require_amount,
)

__all__ = [
    "PURCHASE_NANOS_MAX",
    "PURCHASE_NANOS_MIN",
    "NoSuchPurchase",
    "Purchase",
    "PurchaseState",
    "find_purchase",
    "get_purchase",
    "list_purchases",
    "mark_cancelled",
    "mark_paid",
    "open_purchase",
    "require_amount",
]
