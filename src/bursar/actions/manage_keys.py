"""Creating, changing, disabling and deleting keys. Members manage their own, admins all."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from bursar import audit, keys, ledger
from bursar.access import Actor, Allow, Permission, may
from bursar.actions._after import Then
from bursar.actions._standing import belongs, enter, require_open
from bursar.actions.set_limits import Allowing, put_limit
from bursar.audit import Change
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import KeyId, OwnerId, UserId
from bursar.kernel.money import Nanos
from bursar.keys import Key, KeyChecker, KeyKind, NoSuchKey
from bursar.ledger import Period
from bursar.storage import Database, Scope, Tx


class Unchanged(Enum):
    """Says that a field which may be None stays as it is."""

    UNCHANGED = 0


class NotAMember(InvalidField):
    """A key is created for somebody who does not belong to its owner."""


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """What is to be different; `limit` None: no limit any more."""

    name: str | None = None
    disabled: bool | None = None
    include_byok_in_limit: bool | None = None
    limit: Nanos | Unchanged | None = Unchanged.UNCHANGED
    period: Period | None = None


_ABLED = {True: "key.disabled", False: "key.enabled"}
_NEEDED = {KeyKind.INFERENCE: Permission.CREATE_KEYS, KeyKind.MANAGEMENT: Permission.MANAGE_MANAGEMENT_KEYS}


async def create_key(
    database: Database,
    checker: KeyChecker,
    actor: Actor,
    *,
    owner: OwnerId,
    creator: UserId,
    name: str,
    kind: KeyKind = KeyKind.INFERENCE,
    limit: Allowing | None = None,
    include_byok_in_limit: bool = False,
    expires_at: datetime | None = None,
    then: Then[tuple[Key, str]] | None = None,
) -> tuple[Key, str]:
    """The key and its plaintext, to be shown once; when it expires is never changed. Raises `PermissionDenied`, `InvalidField`; `NotAMember` when the creator is none of
    the organization."""
    async with database.begin(Scope(owner)) as tx:
        await enter(tx, actor, owner, _NEEDED[kind])
        await require_open(tx, owner)
        if not await belongs(tx, creator, owner):
            raise NotAMember("creator_user_id", "There is no such member here.")
        if kind is KeyKind.MANAGEMENT:  # it can do what its creator may, so it is an admin's
            await enter(tx, Actor.person(creator), owner, _NEEDED[kind])
        key, plaintext = await keys.create(
            tx,
            checker,
            owner=owner,
            creator=creator,
            name=name,
            kind=kind,
            include_byok_in_limit=include_byok_in_limit,
            expires_at=expires_at,
        )
        more = {} if expires_at is None else {"expires_at": expires_at.isoformat()}
        await audit.record(
            tx, actor, owner, "key.created", key.id, name=key.name, kind=kind.value, label=key.label, **more
        )
        if limit is not None:
            await put_limit(tx, actor, owner, key.id, limit)
        if then is not None:
            await then(tx, (key, plaintext))
        return key, plaintext


async def update_key(database: Database, actor: Actor, *, owner: OwnerId, key: KeyId, changes: KeyChanges) -> Key:
    """The key as it is then. Raises `NoSuchKey`, `InvalidField`."""
    async with database.begin(Scope(owner)) as tx:
        found = await manageable(tx, actor, owner, key)
        if changes.disabled is not None and changes.disabled != (found.disabled_at is not None):
            await keys.set_disabled(tx, found, changes.disabled)
            await audit.record(tx, actor, owner, _ABLED[changes.disabled], key, name=found.name)
        if changes.name is not None or changes.include_byok_in_limit is not None:
            await keys.update_key(tx, found, name=changes.name, include_byok_in_limit=changes.include_byok_in_limit)
            await _note_changes(tx, actor, found)
        await _change_limit(tx, actor, found, changes)
        changed = await keys.find_key(tx, owner, key)
        assert changed is not None
        return changed


async def _note_changes(tx: Tx, actor: Actor, before: Key) -> None:
    after = await keys.find_key(tx, before.owner, before.id)
    assert after is not None
    name = Change(before.name, after.name)
    byok = Change(before.include_byok_in_limit, after.include_byok_in_limit)
    if name.is_one or byok.is_one:
        changed = {"include_byok_in_limit": byok} if byok.is_one else {}
        await audit.record(
            tx, actor, before.owner, "key.changed", before.id, name=name if name.is_one else after.name, **changed
        )


async def _change_limit(tx: Tx, actor: Actor, key: Key, changes: KeyChanges) -> None:
    """An amount alone keeps the period, a period alone the amount; a period without a limit says nothing."""
    if changes.limit is Unchanged.UNCHANGED and changes.period is None:
        return
    now = next((each for each in await ledger.list_limits(tx, key.owner) if each.subject == key.id), None)
    amount = (None if now is None else now.amount) if changes.limit is Unchanged.UNCHANGED else changes.limit
    period = changes.period or (now.period if now is not None else Period.TOTAL)
    await put_limit(tx, actor, key.owner, key.id, None if amount is None else Allowing(amount, period))
    await keys.update_key(tx, key)


async def set_key_disabled(database: Database, actor: Actor, *, owner: OwnerId, key: KeyId, disabled: bool) -> Key:
    """Raises `NoSuchKey`, also for a colleague's key when a member asks."""
    async with database.begin(Scope(owner)) as tx:
        found = await manageable(tx, actor, owner, key)
        if disabled != (found.disabled_at is not None):
            await keys.set_disabled(tx, found, disabled)
            await audit.record(tx, actor, owner, _ABLED[disabled], key, name=found.name)
        return found


async def delete_key(database: Database, actor: Actor, *, owner: OwnerId, key: KeyId) -> Key:
    """For good. Raises `NoSuchKey`."""
    async with database.begin(Scope(owner)) as tx:
        found = await manageable(tx, actor, owner, key)
        await keys.delete(tx, found)
        await ledger.remove_limit(tx, owner, found.id)
        await audit.record(tx, actor, owner, "key.deleted", key, name=found.name, label=found.label)
        return found


async def manageable(tx: Tx, actor: Actor, owner: OwnerId, key: KeyId) -> Key:
    """Raises `NoSuchKey`, also for a colleague's key when a member asks; `PermissionDenied` for a management key of one's own by somebody
    who may have none any more."""
    context = await enter(tx, actor, owner, Permission.MANAGE_OWN_KEYS)
    found = await keys.find_key(tx, owner, key)
    may_all = isinstance(may(context, Permission.MANAGE_ALL_KEYS), Allow)
    if found is None or (found.creator != actor.user and not may_all):
        raise NoSuchKey("There is no such key here.", remedy="Go back to the list of keys.", key=key)
    if found.kind is KeyKind.MANAGEMENT:
        await enter(tx, actor, owner, Permission.MANAGE_MANAGEMENT_KEYS)
    return found
