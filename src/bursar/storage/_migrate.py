"""Schema migrations, forward from every landed version. They are plain Alembic and import no room."""

import logging
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import ProgrammingError

from bursar.kernel import errors
from bursar.storage._database import APPLICATION_ROLE, SYSTEM, Database, connected

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 7_281_953_011
"""The PostgreSQL advisory lock under which one node migrates while the others wait."""

_log = logging.getLogger("bursar.migrate")


class SchemaNewer(errors.SettingsError):
    """The database was written by a later Bursar."""


class CannotMigrate(errors.SettingsError):
    """The database user lacks a right that migrations need."""


def head_revision() -> str:
    """The newest migration: files are named `v0001_…`, and the name's first part is the revision."""
    return max(path.name.split("_")[0] for path in (_SCRIPTS / "versions").glob("v*.py"))


async def current_revision(database: Database) -> str | None:
    """The schema's revision, None for an empty database. Changes nothing."""
    async with database.snapshot(SYSTEM) as snapshot:
        return await snapshot.run_sync(_current)


async def migrate(database: Database) -> bool:
    """Brings the schema to this version's; returns whether anything was done.

    Raises `SchemaNewer` when the data was written by a later version, `CannotMigrate` when the user may not make the
    application's role.
    """
    engine = database.owner_engine()
    try:
        async with connected(engine) as connection, connection.begin():
            if database.dialect == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            return await connection.run_sync(_upgrade)
    except ProgrammingError as error:
        if "permission denied" not in str(error.orig):
            raise
        raise CannotMigrate(
            f"The database user may not do what a migration needs: {str(error.orig).partition(': ')[2] or error.orig}",
            remedy=f"As a superuser: CREATE ROLE {APPLICATION_ROLE} NOLOGIN; GRANT {APPLICATION_ROLE} TO that user; "
            "and let it own the database.",
        ) from None
    finally:
        await engine.dispose()


async def has_tables(database: Database) -> bool:
    async with database.snapshot(SYSTEM) as snapshot:
        return bool(await snapshot.run_sync(lambda connection: inspect(connection).get_table_names()))


async def ensure_role(database: Database) -> None:
    """Makes the application's role on PostgreSQL, as the first migration does: a copy that is put back grants it rights."""
    engine = database.owner_engine()
    try:
        async with connected(engine) as connection, connection.begin():
            there = await connection.scalar(
                text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": APPLICATION_ROLE}
            )
            if not there:
                await connection.execute(text(f"CREATE ROLE {APPLICATION_ROLE} NOLOGIN"))
            mine = await connection.scalar(
                text("SELECT pg_has_role(current_user, :role, 'MEMBER')"), {"role": APPLICATION_ROLE}
            )
            if not mine:
                await connection.execute(text(f"GRANT {APPLICATION_ROLE} TO CURRENT_USER"))
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> bool:
    current = _current(connection)
    head = head_revision()
    if current == head:
        return False
    if current is not None and current > head:
        raise SchemaNewer(
            f"The database has schema {current}, this Bursar knows {head}.", remedy="Start the newer version of Bursar."
        )
    # Imported here: most starts find nothing to do, and Alembic takes a third of a second to import.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    _log.info("migrating the database from %s to %s", current or "nothing", head)
    command.upgrade(config, "head")
    return True


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: Any = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)
