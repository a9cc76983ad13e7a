"""What can go wrong with a journal.

    BursarError
    ├── Conflict      JournalInUse          another process holds the folder
    ├── SettingsError JournalUnusable       the folder or the worker's name cannot be used
    │                 JournalTooNew         written by a later Bursar
    │                 JournalOfAnother      belongs to another worker
    ├── (500)         JournalCorrupt        damage that no crash leaves behind
    │                 RecordsMissing        the journal does not hold what is asked for
    │                 RecordTooLarge        a fault of ours
    └── Unavailable   JournalFull           only the reserve is left, or not even that
                      JournalFailed         a write or a sync failed; for ever
                      JournalClosed         appended to after `close`

The last three may be told to a client, and so name no file.
"""

from pathlib import Path

from bursar.kernel import errors


class JournalInUse(errors.Conflict):
    """Another process holds the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The journal {folder} is in use by another process.",
            remedy="Stop that process, or give this worker a folder of its own.",
        )


class JournalUnusable(errors.SettingsError):
    """The folder cannot be made, read or written, or has no room for a first segment."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"The journal {folder} cannot be used: {(error.strerror or type(error).__name__).lower()}.",
            remedy="Give the user that runs Bursar the right to read and write the folder, and free some space on its disk.",
        )


class JournalTooNew(errors.SettingsError):
    """Written in a format that this version does not know."""

    def __init__(self, path: Path, version: int, known: int) -> None:
        super().__init__(
            f"The journal file {path} has format {version}; this Bursar knows formats up to {known}.",
            remedy="Start the later version of Bursar that wrote it; to go back for good, restore the backup from before.",
        )


class JournalOfAnother(errors.SettingsError):
    """The folder belongs to another worker: replaying it here would charge twice."""

    def __init__(self, path: Path, worker: str, asked: str) -> None:
        super().__init__(
            f"The journal file {path} belongs to worker {worker}, not to {asked}.",
            remedy="Point this worker to its own folder; never copy a data directory to a second node.",
        )


class JournalCorrupt(errors.BursarError):
    """Damage that no crash leaves behind. `path` and `offset` (bytes from the file's start) say where; what comes before is whole."""

    def __init__(self, path: Path, offset: int, why: str) -> None:
        super().__init__(
            f"The journal file {path} is damaged at byte {offset}: {why}.",
            remedy="Delete nothing: it may hold charges that are not in the database yet. Copy the folder, check the disk, "
            "and put the folder back from a backup.",
            offset=offset,
        )
        self.path = path
        self.offset = offset


class RecordsMissing(errors.BursarError):
    """The journal ends before, or begins after, what the database says was applied."""

    def __init__(self, folder: Path, *, after: int, first: int, last: int) -> None:
        held = f"holds {first} to {last}" if last >= first else f"is empty and goes on with {first}"
        super().__init__(
            f"The journal {folder} {held}, but what follows record {after} was asked for.",
            remedy="Put the folder back that belongs to this database (one backup holds both). If it is lost for good: stop this "
            "server, run `bursar nodes forget` for it, and start it again, as a new worker.",
            after=after,
        )


class RecordTooLarge(errors.BursarError):
    """A fault of ours: nothing was appended."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"A journal record of {size_bytes} bytes is larger than {limit_bytes}.",
            remedy="Raise JournalLimits.record_bytes_max, or write less.",
        )


class JournalFull(errors.Unavailable):
    """Only the reserve is left, or not even that. Nothing was appended."""

    def __init__(self) -> None:
        super().__init__(
            "This server cannot note down further requests: the disk of its journal is full, or too much of it waits for "
            "the database.",
            remedy="Free space on the disk of the data directory, and see that the database can be reached.",
        )


class JournalFailed(errors.Unavailable):
    """What was being written is in doubt until the journal is opened again. Never tried again: after a failed fsync the
    kernel may count as clean what never reached the disk (https://wiki.postgresql.org/wiki/Fsync_Errors)."""

    def __init__(self) -> None:
        super().__init__(
            "The disk of this server's journal failed.",
            remedy="See the server's log, check the disk, and start the server again.",
        )


class JournalClosed(errors.Unavailable):
    """Appended to, or waited for, after `close`."""

    def __init__(self) -> None:
        super().__init__("This server is shutting down.", remedy="Send the request again.")
