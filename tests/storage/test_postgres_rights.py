"""A database user that is no superuser: migrating says what it lacks, and works once it has it."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from bursar import storage
from tests.conftest import open_database
from tests.support.postgres import PostgresServer


def run(url: str, *statements: str) -> None:
    async def work() -> None:
        engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))
        await engine.dispose()

    asyncio.run(work())


def migrated(url: str) -> bool:
    async def work() -> bool:
        database = open_database(url)
        try:
            return await storage.migrate(database)
        finally:
            await database.close()

    return asyncio.run(work())


def test_a_user_without_the_rights_is_told_and_with_the_role_granted_migrates():
    with PostgresServer() as server:
        url = server.create_database("plain")
        run(
            url, "CREATE ROLE plain LOGIN", "ALTER DATABASE plain OWNER TO plain", "GRANT ALL ON SCHEMA public TO plain"
        )
        as_plain = url.replace("postgres@", "plain@")
        with pytest.raises(storage.CannotMigrate) as refused:
            migrated(as_plain)
        assert "CREATE ROLE bursar_app" in (refused.value.remedy or "")
        run(url, "CREATE ROLE bursar_app NOLOGIN", "GRANT bursar_app TO plain")
        assert migrated(as_plain)
        assert not migrated(as_plain)
