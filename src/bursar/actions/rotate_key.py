"""A new secret for a key, and the end of the one before. Whoever may disable a key may rotate it."""

from datetime import timedelta

from bursar import audit, keys
from bursar.access import Actor
from bursar.actions._after import Then
from bursar.actions.manage_keys import manageable
from bursar.kernel.ids import KeyId, OwnerId
from bursar.keys import Key, KeyChecker
from bursar.storage import Database, Scope


async def rotate_key(
    database: Database,
    checker: KeyChecker,
    actor: Actor,
    *,
    owner: OwnerId,
    key: KeyId,
    grace: timedelta,
    then: Then[tuple[Key, str]] | None = None,
) -> tuple[Key, str]:
    """The key as it is then and its new plaintext, to be shown once; the one before works for `grace` longer. Raises `NoSuchKey`,
    `InvalidField`, `keys.KeyExpired`."""
    async with database.begin(Scope(owner)) as tx:
        found = await manageable(tx, actor, owner, key)
        rotated, plaintext = await keys.rotate(tx, checker, found, grace)
        await audit.record(
            tx,
            actor,
            owner,
            "key.rotated",
            key,
            name=found.name,
            label=rotated.label,
            previous_label=found.label,
            grace_seconds=int(grace.total_seconds()),
        )
        if then is not None:
            await then(tx, (rotated, plaintext))
        return rotated, plaintext


async def end_grace(database: Database, actor: Actor, *, owner: OwnerId, key: KeyId) -> Key:
    """The secret before the present one ends now. Raises `NoSuchKey`, `keys.NoGrace`."""
    async with database.begin(Scope(owner)) as tx:
        found = await manageable(tx, actor, owner, key)
        ended = await keys.end_grace(tx, found)
        await audit.record(
            tx, actor, owner, "key.grace_ended", key, name=found.name, previous_label=found.previous_label
        )
        return ended
