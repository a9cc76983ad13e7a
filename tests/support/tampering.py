"""Changing what nobody may: as a superuser, with the triggers off."""

from sqlalchemy import text

from bursar.storage import Database


async def behind_their_backs(database: Database, *statements: str) -> None:
    """Each must change something. The triggers are gone on SQLite afterwards, and off for these statements on PostgreSQL."""
    engine = database.owner_engine()
    try:
        async with engine.begin() as connection:
            if database.dialect == "postgresql":
                await connection.execute(text("SET LOCAL session_replication_role = replica"))
            else:
                rows = await connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
                for (name,) in rows.all():
                    await connection.execute(text(f"DROP TRIGGER {name}"))
            for statement in statements:
                assert (await connection.execute(text(statement))).rowcount > 0, statement
    finally:
        await engine.dispose()
