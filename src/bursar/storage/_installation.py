"""Facts about the installation, kept in the database it belongs to."""

import hashlib

from sqlalchemy import delete, select

from bursar.kernel import errors, secrets
from bursar.storage import tables
from bursar.storage._database import SYSTEM, Database, Snapshot, Tx

BOOKS_CHECKED = "books_checked"
"""The name of the fact what the regular check of the books found last."""
_FINGERPRINT = "secret_fingerprint"

_table = tables.installation


class WrongSecret(errors.SettingsError):
    """The database belongs to an installation with another secret."""


async def recall(snapshot: Snapshot, name: str) -> str | None:
    value = await snapshot.scalar(select(_table.c.value).where(_table.c.name == name))
    return None if value is None else str(value)


async def remember(tx: Tx, name: str, value: str) -> bool:
    """Keeps a fact that is set once; whether this call set it."""
    added = await tx.execute(
        tx.insert(_table).values(name=name, value=value).on_conflict_do_nothing(index_elements=["name"])
    )
    return added == 1


async def keep(tx: Tx, name: str, value: str) -> None:
    """Keeps a fact, in the place of what it was before."""
    await tx.execute(
        tx.insert(_table)
        .values(name=name, value=value)
        .on_conflict_do_update(index_elements=["name"], set_={"value": value})
    )


async def forget(tx: Tx, name: str) -> bool:
    """Whether there was such a fact."""
    return await tx.execute(delete(_table).where(_table.c.name == name)) == 1


async def check_secret(database: Database, installation_secret: bytes) -> None:
    """Raises `WrongSecret` when the data was written with another secret: keys would not be recognized, mails not open."""
    fingerprint = hashlib.sha256(secrets.derive(installation_secret, "fingerprint")).hexdigest()[:32]
    async with database.begin(SYSTEM) as tx:
        if await remember(tx, _FINGERPRINT, fingerprint) or await recall(tx, _FINGERPRINT) == fingerprint:
            return
    raise WrongSecret(
        "This database belongs to an installation with another secret.",
        remedy="Set BURSAR_SECRET_FILE to that installation's secret, or use another database.",
    )
