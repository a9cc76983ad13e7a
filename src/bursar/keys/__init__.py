"""API keys and management keys: minted, hashed, found. Knows owners, not organizations."""

from bursar.keys._format import KEY_PREFIX, KeyChecker
from bursar.keys._leaving import hand_over, list_used_from
from bursar.keys._rotation import GRACE_MAX, KeyExpired, NoGrace, end_grace, rotate
from bursar.keys._store import (
    Key,
    KeyKind,
    NoSuchKey,
    create,
    delete,
    find_by_hash,
    find_key,
    find_key_by_hash,
    list_keys,
    note_addresses,
    page_keys,
    require_key_name,
    set_disabled,
    touch,
    touch_all,
    update_key,
)

__all__ = [
    "GRACE_MAX",
    "KEY_PREFIX",
    "Key",
    "KeyChecker",
    "KeyExpired",
    "KeyKind",
    "NoGrace",
    "NoSuchKey",
    "create",
    "delete",
    "end_grace",
    "find_by_hash",
    "find_key",
    "find_key_by_hash",
    "hand_over",
    "list_keys",
    "list_used_from",
    "note_addresses",
    "page_keys",
    "require_key_name",
    "rotate",
    "set_disabled",
    "touch",
    "touch_all",
    "update_key",
]
