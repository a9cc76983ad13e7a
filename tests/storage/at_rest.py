"""All that a database keeps, as one text: every column of every row, and for SQLite the bytes of its files too."""

from pathlib import Path

from sqlalchemy import text

from bursar.storage import SYSTEM, Database, metadata


async def everything_stored(database: Database) -> str:
    """Values as they lie there: binary ones in hex as well as read as Latin-1, so that plain text inside them is found."""
    found: list[str] = []
    async with database.snapshot(SYSTEM) as snapshot:
        for table in metadata.sorted_tables:
            for row in await snapshot.all(text(f"SELECT * FROM {table.name}")):
                found += [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row]
    if database.dialect == "sqlite":
        assert database.url.database is not None
        path = Path(database.url.database)
        files = [file for file in path.parent.glob(f"{path.name}*") if file.is_file()]
        assert any(file.name.endswith("-wal") for file in files), "the write-ahead log is part of what is stored"
        found += [file.read_bytes().decode("latin-1") for file in files]
    return "\n".join(found)
