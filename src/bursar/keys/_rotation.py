"""A key gets another secret and stays the same key: id, name, limit, usage, creator. The secret before it works on for a while."""

from datetime import timedelta

from sqlalchemy import update

from bursar.kernel.errors import Conflict, InvalidField
from bursar.keys import tables
from bursar.keys._format import KeyChecker, hash_of, label_of
from bursar.keys._store import Key, announce, find_key
from bursar.storage import Tx

GRACE_MAX = timedelta(days=7)
"""For so long at most the secret before still works."""

_keys = tables.keys


class KeyExpired(Conflict):
    """A key that has expired gets no new secret: when it expires is said once, when it is created."""


class NoGrace(Conflict):
    """There is no secret before the present one that still works."""


async def rotate(tx: Tx, checker: KeyChecker, key: Key, grace: timedelta) -> tuple[Key, str]:
    """The key as it is then and its new plaintext, which exists nowhere else. A grace of 0: the secret before ends at once, and so
    does one that was before that, whatever grace it had. Raises `InvalidField`, `KeyExpired`."""
    if not timedelta(0) <= grace <= GRACE_MAX:
        raise InvalidField("grace_seconds", f"The old secret works for at most {GRACE_MAX.days} days longer.")
    now = await tx.database_time()
    if key.expires_at is not None and key.expires_at <= now:
        raise KeyExpired(
            f"The key {key.name} has expired: it gets no new secret.", remedy="Create a new key.", key=key.id
        )
    plaintext = checker.mint()
    await tx.execute(
        update(_keys)
        .where(_keys.c.owner_id == key.owner, _keys.c.id == key.id)
        .values(
            hash=hash_of(plaintext),
            label=label_of(plaintext),
            previous_hash=key.hash,
            previous_label=key.label,
            previous_until=now + grace,
            rotated_at=now,
            updated_at=now,
        )
    )
    await announce(tx, key)
    return await _again(tx, key), plaintext


async def end_grace(tx: Tx, key: Key) -> Key:
    """The secret before the present one ends now. Raises `NoGrace`."""
    now = await tx.database_time()
    if not key.is_in_grace(now):
        raise NoGrace(
            f"Only the present secret of {key.name} works: there is no other to end.",
            remedy="To replace that one, rotate the key.",
            key=key.id,
        )
    await tx.execute(
        update(_keys)
        .where(_keys.c.owner_id == key.owner, _keys.c.id == key.id)
        .values(previous_until=now, updated_at=now)
    )
    await announce(tx, key)
    return await _again(tx, key)


async def _again(tx: Tx, key: Key) -> Key:
    found = await find_key(tx, key.owner, key.id)
    assert found is not None
    return found
