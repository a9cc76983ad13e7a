"""Typed, prefixed, time-sortable ids.

Shape: `<prefix>_<26 characters>` (a generation is `gen-<26 characters>`, as OpenRouter's clients expect). The 26 characters
are a ULID in lowercase Crockford base 32: 48 bits of milliseconds since 1970, then 80 random bits, so that ids made later
sort later and a month can be read from the id itself.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import NewType

UserId = NewType("UserId", str)
OrganizationId = NewType("OrganizationId", str)
KeyId = NewType("KeyId", str)
GenerationId = NewType("GenerationId", str)
PurchaseId = NewType("PurchaseId", str)
TransferId = NewType("TransferId", str)
EventId = NewType("EventId", str)
MessageId = NewType("MessageId", str)

OwnerId = NewType("OwnerId", str)
"""Whose credits, keys and activity: a `UserId` (personal) or an `OrganizationId`."""

SYSTEM_OWNER = OwnerId("system")
"""The installation itself: the far side of purchases, grants and the house's losses."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def _ulid(at: datetime, random: int | None = None) -> str:
    milliseconds = (at - _EPOCH) // _MILLISECOND  # exactly: a float of seconds puts some moments a millisecond early
    number = (milliseconds << 80) | (int.from_bytes(os.urandom(10)) if random is None else random)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def new_user_id(at: datetime) -> UserId:
    return UserId(f"user_{_ulid(at)}")


def new_organization_id(at: datetime) -> OrganizationId:
    return OrganizationId(f"org_{_ulid(at)}")


def new_key_id(at: datetime) -> KeyId:
    return KeyId(f"key_{_ulid(at)}")


def new_generation_id(at: datetime) -> GenerationId:
    return GenerationId(f"gen-{_ulid(at)}")


def new_purchase_id(at: datetime) -> PurchaseId:
    return PurchaseId(f"pur_{_ulid(at)}")


def new_transfer_id(at: datetime) -> TransferId:
    return TransferId(f"tr_{_ulid(at)}")


def new_event_id(at: datetime) -> EventId:
    return EventId(f"evt_{_ulid(at)}")


def new_message_id(at: datetime) -> MessageId:
    return MessageId(f"msg_{_ulid(at)}")


def generation_floor(at: datetime) -> GenerationId:
    """The smallest id a generation made at `at` can have: ids compare like their times."""
    return GenerationId(f"gen-{_ulid(at, 0)}")


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the shape of an id with this prefix (`"user"`, `"gen"`, …); says nothing of its existence."""
    mark = "-" if prefix == "gen" else "_"
    head, _, tail = text.partition(mark)
    return head == prefix and len(tail) == _LENGTH and all(c in _ALPHABET for c in tail)


def is_personal(owner: OwnerId) -> bool:
    return owner.startswith("user_")
