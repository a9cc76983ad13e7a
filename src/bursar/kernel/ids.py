"""Typed, prefixed, time-sortable ids.

Shape: `<prefix>_<26 characters>` (a generation is `gen-<26 characters>`, as OpenRouter's clients expect). The 26 characters
are a ULID in lowercase Crockford base 32: 48 bits of milliseconds since 1970, then 80 random bits, so that ids made later
sort later and a month can be read from the id itself.
"""

import os
import struct
from collections.abc import Iterator
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
InvitationId = NewType("InvitationId", str)
SessionId = NewType("SessionId", str)
CreditMoveId = NewType("CreditMoveId", str)

WorkerId = NewType("WorkerId", str)
"""One serving process of one node, the same across restarts: at most 40 characters."""

OwnerId = NewType("OwnerId", str)
"""Whose credits, keys and activity: a `UserId` (personal) or an `OrganizationId`."""

SYSTEM_OWNER = OwnerId("system")
"""The installation itself: the far side of purchases, grants and the house's losses."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(one + other for one in _ALPHABET for other in _ALPHABET)
"""Two characters for each number of 10 bits: half as many steps for an id, and every request makes one."""
_SHIFTS = tuple(range(120, -1, -10))
_LENGTH = 26
_TIME_LENGTH = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class _Randomness:
    """The system's random bytes, fetched many at a time: asking for ten costs as much as asking for thousands.

    Safe among threads, as `next` of an iterator is; a forked process starts with none of its parent's.
    """

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        self._left: Iterator[tuple[int, int]] = iter(())

    def eighty_bits(self) -> int:
        found = next(self._left, None)
        while found is None:
            self._left = struct.iter_unpack(">HQ", os.urandom(_RANDOM_BYTES_AT_ONCE))
            found = next(self._left, None)
        return found[0] << 64 | found[1]


_RANDOM_BYTES_AT_ONCE = 4_000
_randomness = _Randomness()


def _ulid(at: datetime, random: int | None = None) -> str:
    milliseconds = (at - _EPOCH) // _MILLISECOND  # exactly: a float of seconds puts some moments a millisecond early
    return _text((milliseconds << 80) | (_randomness.eighty_bits() if random is None else random))


def _text(number: int) -> str:
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])


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


def event_id_after(earlier: EventId, at: datetime) -> EventId:
    """A new one that sorts after `earlier`, also within its millisecond."""
    made = new_event_id(at)
    if made > earlier:
        return made
    number = 0
    for character in earlier[-_LENGTH:]:
        number = number * len(_ALPHABET) + _ALPHABET.index(character)
    return EventId(f"evt_{_text(number + 1)}")


def new_message_id(at: datetime) -> MessageId:
    return MessageId(f"msg_{_ulid(at)}")


def new_invitation_id(at: datetime) -> InvitationId:
    return InvitationId(f"inv_{_ulid(at)}")


def new_session_id(at: datetime) -> SessionId:
    return SessionId(f"ses_{_ulid(at)}")


def new_credit_move_id(at: datetime) -> CreditMoveId:
    return CreditMoveId(f"mov_{_ulid(at)}")


def generation_floor(at: datetime) -> GenerationId:
    """The smallest id a generation made at `at` can have: ids compare like their times."""
    return GenerationId(f"gen-{_ulid(at, 0)}")


def event_floor(at: datetime) -> EventId:
    """The smallest id an audit event of `at` can have."""
    return EventId(f"evt_{_ulid(at, 0)}")


def made_at(name: str) -> datetime:
    """When an id was made, to the millisecond. Raises `ValueError` for what has no time in it."""
    number = 0
    for character in name[-_LENGTH:][:_TIME_LENGTH]:
        number = number * len(_ALPHABET) + _ALPHABET.index(character)
    return _EPOCH + number * _MILLISECOND


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the shape of an id with this prefix (`"user"`, `"gen"`, …); says nothing of its existence."""
    mark = "-" if prefix == "gen" else "_"
    head, _, tail = text.partition(mark)
    return head == prefix and len(tail) == _LENGTH and all(c in _ALPHABET for c in tail)


def is_personal(owner: OwnerId) -> bool:
    return owner.startswith("user_")
