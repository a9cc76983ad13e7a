"""Creating, disabling and deleting keys. Members manage their own, admins all."""

from bursar import audit, keys
from bursar.access import Actor, Allow, Permission, may
from bursar.actions._standing import enter
from bursar.kernel.ids import KeyId, OwnerId, UserId
from bursar.keys import Key, KeyChecker, KeyKind, NoSuchKey
from bursar.storage import Database, Scope, Tx

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
) -> tuple[Key, str]:
    """The key and its plaintext, to be shown once. Raises `PermissionDenied`, `InvalidField`."""
    async with database.begin(Scope(owner)) as tx:
        await enter(tx, actor, owner, _NEEDED[kind])
        key, plaintext = await keys.create(tx, checker, owner=owner, creator=creator, name=name, kind=kind)
        await audit.record(tx, actor, owner, "key.created", key.id, name=key.name, kind=kind.value, label=key.label)
        return key, plaintext


async def set_key_disabled(database: Database, actor: Actor, *, owner: OwnerId, key: KeyId, disabled: bool) -> Key:
    """Raises `NoSuchKey`, also for a colleague's key when a member asks."""
    async with database.begin(Scope(owner)) as tx:
        found = await _manageable(tx, actor, owner, key)
        await keys.set_disabled(tx, found, disabled)
        await audit.record(tx, actor, owner, "key.disabled" if disabled else "key.enabled", key, name=found.name)
        return found


async def delete_key(database: Database, actor: Actor, *, owner: OwnerId, key: KeyId) -> Key:
    """For good. Raises `NoSuchKey`."""
    async with database.begin(Scope(owner)) as tx:
        found = await _manageable(tx, actor, owner, key)
        await keys.delete(tx, found)
        await audit.record(tx, actor, owner, "key.deleted", key, name=found.name, label=found.label)
        return found


async def _manageable(tx: Tx, actor: Actor, owner: OwnerId, key: KeyId) -> Key:
    context = await enter(tx, actor, owner, Permission.MANAGE_OWN_KEYS)
    found = await keys.find_key(tx, owner, key)
    may_all = isinstance(may(context, Permission.MANAGE_ALL_KEYS), Allow)
    if found is None or (found.creator != actor.user and not may_all):
        raise NoSuchKey("There is no such key here.", remedy="Go back to the list of keys.", key=key)
    return found
