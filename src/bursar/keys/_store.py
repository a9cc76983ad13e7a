import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, or_, select, update

from bursar.kernel.errors import InvalidField, NotFound
from bursar.kernel.ids import KeyId, OwnerId, UserId, new_key_id
from bursar.kernel.secrets import hash_secret
from bursar.keys import tables
from bursar.keys._format import KEY_PREFIX, KeyChecker
from bursar.storage import Snapshot, Tx

NAME_CHARACTERS_MAX = 100

_keys = tables.keys


class KeyKind(StrEnum):
    INFERENCE = "inference"
    """Calls models; never manages."""
    MANAGEMENT = "management"
    """Manages over the API; never calls models."""


@dataclass(frozen=True)
class Key:
    """`hash` is the SHA-256 of the plaintext and the key's name on the wire; `label` its masked form."""

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

    @property
    def is_usable(self) -> bool:
        return self.disabled_at is None and self.deleted_at is None


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
) -> tuple[Key, str]:
    """The key and its plaintext, which exists nowhere else. Raises `InvalidField`."""
    plaintext = checker.mint()
    key = Key(
        owner=owner,
        id=new_key_id(tx.now),
        hash=hash_secret(plaintext),
        kind=kind,
        name=require_key_name(name),
        label=f"{plaintext[: len(KEY_PREFIX) + 3]}...{plaintext[-4:]}",
        creator=creator,
        created_at=tx.now,
        updated_at=None,
        disabled_at=None,
        deleted_at=None,
        last_used_at=None,
        include_byok_in_limit=include_byok_in_limit,
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
        )
    )
    return key, plaintext


async def find_by_hash(snapshot: Snapshot, key_hash: str) -> Key | None:
    """Any key of the installation by its hash, usable or not; only the gateway, in system scope, asks this."""
    row = await snapshot.first(select(_keys).where(_keys.c.hash == key_hash))
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
    """The owner's API key of this hash that is not deleted; management keys answer like none."""
    row = await snapshot.first(
        select(_keys).where(
            _keys.c.owner_id == owner,
            _keys.c.hash == key_hash,
            _keys.c.kind == KeyKind.INFERENCE.value,
            _keys.c.deleted_at.is_(None),
        )
    )
    return None if row is None else _key(row)


async def page_keys(snapshot: Snapshot, owner: OwnerId, *, offset: int, count: int, disabled: bool) -> Sequence[Key]:
    """Newest first, `count` of the owner's API keys from `offset` on; disabled ones only when asked for."""
    query = (
        select(_keys)
        .where(_keys.c.owner_id == owner, _keys.c.kind == KeyKind.INFERENCE.value, _keys.c.deleted_at.is_(None))
        .order_by(_keys.c.id.desc())
        .offset(offset)
        .limit(count)
    )
    rows = await snapshot.all(query if disabled else query.where(_keys.c.disabled_at.is_(None)))
    return [_key(row) for row in rows]


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
    await tx.announce("key", key.hash)


async def delete(tx: Tx, key: Key) -> None:
    """For good; its name stays with the activity it caused."""
    await tx.execute(
        update(_keys)
        .where(_keys.c.owner_id == key.owner, _keys.c.id == key.id)
        .values(deleted_at=tx.now, updated_at=tx.now)
    )
    await tx.announce("key", key.hash)


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
    )
