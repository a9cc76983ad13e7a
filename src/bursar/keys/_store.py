import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, bindparam, or_, select, update

from bursar.kernel.errors import InvalidField, NotFound
from bursar.kernel.ids import KeyId, OwnerId, UserId, new_key_id
from bursar.keys import tables
from bursar.keys._format import KeyChecker, hash_of, label_of
from bursar.storage import Snapshot, Tx

NAME_CHARACTERS_MAX = 100
ADDRESS_CHARACTERS_MAX = 64

_keys = tables.keys


class KeyKind(StrEnum):
    INFERENCE = "inference"
    """Calls models; never manages."""
    MANAGEMENT = "management"
    """Manages over the API; never calls models."""


@dataclass(frozen=True)
class Key:
    """`hash` is the SHA-256 of the present plaintext and the key's name on the wire; `label` its masked form.

    A key that was rotated keeps the hash of the plaintext before, which still works until `previous_until` and finds the key until
    it is rotated again. `last_used_address`: of the client that used it last, as far as trusted proxies tell it.
    """

    owner: OwnerId
    id: KeyId
    hash: str
    kind: KeyKind
    name: str
    label: str
    creator: UserId
    created_at: datetime
    updated_at: datetime | None
    disabled_at: datetime | None
    deleted_at: datetime | None
    last_used_at: datetime | None
    include_byok_in_limit: bool = False
    """Whether what providers bill to credentials of one's own counts for the limit; there are none yet."""
    expires_at: datetime | None = None
    """Said once, when it is created."""
    previous_hash: str | None = None
    previous_label: str | None = None
    previous_until: datetime | None = None
    rotated_at: datetime | None = None
    last_used_address: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether nobody took it away; it may have expired."""
        return self.disabled_at is None and self.deleted_at is None

    def ends_at(self, secret_hash: str) -> datetime | None:
        """When the secret of this hash, one of the key's two, ends by itself."""
        ends = [self.expires_at, self.previous_until if secret_hash == self.previous_hash else None]
        return min((each for each in ends if each is not None), default=None)

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def is_in_grace(self, now: datetime) -> bool:
        """Whether the secret before the present one still works."""
        return self.previous_until is not None and now < self.previous_until


class NoSuchKey(NotFound):
    """No key has this id here, or it is somebody else's: the two answer alike."""


def require_key_name(name: str) -> str:
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name:
        raise InvalidField("name", "Give the key a name that says what will use it.")
    if len(name) > NAME_CHARACTERS_MAX or any(unicodedata.category(c).startswith("C") for c in name):
        raise InvalidField("name", f"A key's name has at most {NAME_CHARACTERS_MAX} ordinary characters.")
    return name


async def create(
    tx: Tx,
    checker: KeyChecker,
    *,
    owner: OwnerId,
    creator: UserId,
    name: str,
    kind: KeyKind,
    include_byok_in_limit: bool = False,
    expires_at: datetime | None = None,
) -> tuple[Key, str]:
    """The key and its plaintext, which exists nowhere else. Raises `InvalidField`."""
    if expires_at is not None and expires_at <= await tx.database_time():
        raise InvalidField("expires_at", "That is in the past: the key would never work.")
    plaintext = checker.mint()
    key = Key(
        owner=owner,
        id=new_key_id(tx.now),
        hash=hash_of(plaintext),
        kind=kind,
        name=require_key_name(name),
        label=label_of(plaintext),
        creator=creator,
        created_at=tx.now,
        updated_at=None,
        disabled_at=None,
        deleted_at=None,
        last_used_at=None,
        include_byok_in_limit=include_byok_in_limit,
        expires_at=expires_at,
    )
    await tx.execute(
        _keys.insert().values(
            owner_id=owner,
            id=key.id,
            hash=key.hash,
            kind=kind.value,
            name=key.name,
            label=key.label,
            creator_id=creator,
            created_at=key.created_at,
            include_byok_in_limit=include_byok_in_limit,
            expires_at=expires_at,
        )
    )
    return key, plaintext


async def find_by_hash(snapshot: Snapshot, key_hash: str) -> Key | None:
    """Any key of the installation by a hash of its two, usable or not; only the gateway, in system scope, asks this."""
    row = await snapshot.first(select(_keys).where(_has_hash(key_hash)))
    return None if row is None else _key(row)


async def find_key(snapshot: Snapshot, owner: OwnerId, key: KeyId) -> Key | None:
    """One of the owner's keys that is not deleted."""
    row = await snapshot.first(
        select(_keys).where(_keys.c.owner_id == owner, _keys.c.id == key, _keys.c.deleted_at.is_(None))
    )
    return None if row is None else _key(row)


async def list_keys(
    snapshot: Snapshot, owner: OwnerId, *, creator: UserId | None = None, deleted: bool = False
) -> Sequence[Key]:
    """Newest first: all of the owner's, or one creator's. Deleted ones only when asked for."""
    query = select(_keys).where(_keys.c.owner_id == owner).order_by(_keys.c.id.desc())
    if creator is not None:
        query = query.where(_keys.c.creator_id == creator)
    if not deleted:
        query = query.where(_keys.c.deleted_at.is_(None))
    return [_key(row) for row in await snapshot.all(query)]


async def find_key_by_hash(snapshot: Snapshot, owner: OwnerId, key_hash: str) -> Key | None:
    """The owner's API key of this hash, or of this one before it was last rotated, that is not deleted; management keys answer like
    none."""
    row = await snapshot.first(
        select(_keys).where(
            _keys.c.owner_id == owner,
            _has_hash(key_hash),
            _keys.c.kind == KeyKind.INFERENCE.value,
            _keys.c.deleted_at.is_(None),
        )
    )
    return None if row is None else _key(row)


async def page_keys(
    snapshot: Snapshot, owner: OwnerId, *, offset: int, count: int, disabled: bool, expired: bool
) -> Sequence[Key]:
    """Newest first, `count` of the owner's API keys from `offset` on; disabled and expired ones only when asked for."""
    query = (
        select(_keys)
        .where(_keys.c.owner_id == owner, _keys.c.kind == KeyKind.INFERENCE.value, _keys.c.deleted_at.is_(None))
        .order_by(_keys.c.id.desc())
        .offset(offset)
        .limit(count)
    )
    if not disabled:
        query = query.where(_keys.c.disabled_at.is_(None))
    if not expired:
        now = await snapshot.database_time()
        query = query.where(or_(_keys.c.expires_at.is_(None), _keys.c.expires_at > now))
    return [_key(row) for row in await snapshot.all(query)]


async def update_key(tx: Tx, key: Key, *, name: str | None = None, include_byok_in_limit: bool | None = None) -> None:
    """Changes what is not None. Raises `InvalidField`."""
    values: dict[str, Any] = {"updated_at": tx.now}
    if name is not None:
        values["name"] = require_key_name(name)
    if include_byok_in_limit is not None:
        values["include_byok_in_limit"] = include_byok_in_limit
    await tx.execute(update(_keys).where(_keys.c.owner_id == key.owner, _keys.c.id == key.id).values(**values))


async def set_disabled(tx: Tx, key: Key, disabled: bool) -> None:
    """In force on every node after the commit."""
    await tx.execute(
        update(_keys)
        .where(_keys.c.owner_id == key.owner, _keys.c.id == key.id)
        .values(disabled_at=tx.now if disabled else None, updated_at=tx.now)
    )
    await announce(tx, key)


async def delete(tx: Tx, key: Key) -> None:
    """For good; its name stays with the activity it caused."""
    await tx.execute(
        update(_keys)
        .where(_keys.c.owner_id == key.owner, _keys.c.id == key.id)
        .values(deleted_at=tx.now, updated_at=tx.now)
    )
    await announce(tx, key)


async def announce(tx: Tx, key: Key) -> None:
    """Every node drops what it remembers of the key, by whichever of its hashes, and cuts what runs on it where it may not."""
    for each in (key.hash, key.previous_hash):
        if each is not None:
            await tx.announce("key", each)


async def touch(tx: Tx, owner: OwnerId, key: KeyId, at: datetime) -> None:
    """Remembers when the key was last used; never earlier than it already says."""
    await touch_all(tx, {(owner, key): at})


async def touch_all(tx: Tx, used: Mapping[tuple[OwnerId, KeyId], datetime]) -> None:
    """The same for many at once, in one order, so that nobody deadlocks."""
    await tx.execute_each(
        update(_keys)
        .where(
            _keys.c.owner_id == bindparam("owner"),
            _keys.c.id == bindparam("key"),
            or_(_keys.c.last_used_at.is_(None), _keys.c.last_used_at < bindparam("used_at")),
        )
        .values(last_used_at=bindparam("used_at")),
        [{"owner": owner, "key": key, "used_at": at} for (owner, key), at in sorted(used.items())],
    )


async def note_addresses(tx: Tx, addresses: Mapping[tuple[OwnerId, KeyId], str]) -> None:
    """From where each was used last; in one order, so that nobody deadlocks."""
    await tx.execute_each(
        update(_keys)
        .where(_keys.c.owner_id == bindparam("owner"), _keys.c.id == bindparam("key"))
        .values(last_used_address=bindparam("address")),
        [
            {"owner": owner, "key": key, "address": address[:ADDRESS_CHARACTERS_MAX]}
            for (owner, key), address in sorted(addresses.items())
        ],
    )


def _has_hash(key_hash: str) -> ColumnElement[bool]:
    return or_(_keys.c.hash == key_hash, _keys.c.previous_hash == key_hash)


def _key(row: Any) -> Key:
    return Key(
        owner=OwnerId(row.owner_id),
        id=KeyId(row.id),
        hash=row.hash,
        kind=KeyKind(row.kind),
        name=row.name,
        label=row.label,
        creator=UserId(row.creator_id),
        created_at=row.created_at,
        updated_at=row.updated_at,
        disabled_at=row.disabled_at,
        deleted_at=row.deleted_at,
        last_used_at=row.last_used_at,
        include_byok_in_limit=row.include_byok_in_limit,
        expires_at=row.expires_at,
        previous_hash=row.previous_hash,
        previous_label=row.previous_label,
        previous_until=row.previous_until,
        rotated_at=row.rotated_at,
        last_used_address=row.last_used_address,
    )
