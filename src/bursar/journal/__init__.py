"""The append-only file of one worker: records with a number, on disk when `synced` returns. Knows no owners, money or database.

`docs/decisions/0011-journal.md` says why it looks like this; `_format.py` draws the bytes.
"""

from bursar.journal._disk import Closeable, Disk, File, RealDisk
from bursar.journal._errors import (
    JournalClosed,
    JournalCorrupt,
    JournalFailed,
    JournalFull,
    JournalInUse,
    JournalOfAnother,
    JournalTooNew,
    JournalUnusable,
    RecordsMissing,
    RecordTooLarge,
)
from bursar.journal._format import Record
from bursar.journal._journal import Journal
from bursar.journal._limits import JournalLimits
from bursar.journal._segments import move_journal
from bursar.journal._syncer import Syncer, ThreadSyncer
from bursar.journal._view import JournalView, journal_folders

__all__ = [
    "Closeable",
    "Disk",
    "File",
    "Journal",
    "JournalClosed",
    "JournalCorrupt",
    "JournalFailed",
    "JournalFull",
    "JournalInUse",
    "JournalLimits",
    "JournalOfAnother",
    "JournalTooNew",
    "JournalUnusable",
    "JournalView",
    "RealDisk",
    "Record",
    "RecordTooLarge",
    "RecordsMissing",
    "Syncer",
    "ThreadSyncer",
    "journal_folders",
    "move_journal",
]
