"""Floor 1: the one database, SQLite or PostgreSQL, behind `Database`.

`begin(scope)` gives a `Tx` (reads and writes, commits at the end of the block), `snapshot(scope)` a `Snapshot` (reads only,
one consistent view). Nothing else in Bursar opens a connection, and no room commits.
"""

from bursar.storage._changes import ASKED, Change, Changes
from bursar.storage._copy import CopyFailed, ProgramMissing, copy_database, put_back
from bursar.storage._database import ENQUEUED, SYSTEM, Database, Scope, Snapshot, Tx
from bursar.storage._datadir import DataDir, DataDirInUse
from bursar.storage._follow import follow, forget_old_changes
from bursar.storage._holder import hold, let_go
from bursar.storage._installation import BOOKS_CHECKED, WrongSecret, check_secret, forget, keep, recall, remember
from bursar.storage._migrate import CannotMigrate, current_revision, ensure_role, has_tables, head_revision, migrate
from bursar.storage._outbox import (
    OutboxMessage,
    list_kept,
    mark_delivered,
    mark_failed,
    mark_kept,
    strip,
    strip_expired,
    take,
)
from bursar.storage._repeats import Repeat, RepeatName, find_repeat, forget_old_repeats, keep_repeat
from bursar.storage._sealing import Sealer
from bursar.storage._types import UtcTime, from_microseconds, metadata, to_microseconds

__all__ = [
    "ASKED",
    "BOOKS_CHECKED",
    "ENQUEUED",
    "SYSTEM",
    "CannotMigrate",
    "Change",
    "Changes",
    "CopyFailed",
    "DataDir",
    "DataDirInUse",
    "Database",
    "OutboxMessage",
    "ProgramMissing",
    "Repeat",
    "RepeatName",
    "Scope",
    "Sealer",
    "Snapshot",
    "Tx",
    "UtcTime",
    "WrongSecret",
    "check_secret",
    "copy_database",
    "current_revision",
    "ensure_role",
    "find_repeat",
    "follow",
    "forget",
    "forget_old_changes",
    "forget_old_repeats",
    "from_microseconds",
    "has_tables",
    "head_revision",
    "hold",
    "keep",
    "keep_repeat",
    "let_go",
    "list_kept",
    "mark_delivered",
    "mark_failed",
    "mark_kept",
    "metadata",
    "migrate",
    "put_back",
    "recall",
    "remember",
    "strip",
    "strip_expired",
    "take",
    "to_microseconds",
]
