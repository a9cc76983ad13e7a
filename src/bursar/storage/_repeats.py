"""What was answered to a request that carried an Idempotency-Key, and that a form of a page was sent: written in the transaction that
did what was asked, kept for a day."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select

from bursar.kernel.errors import TooLarge
from bursar.kernel.ids import OwnerId
from bursar.storage._database import SYSTEM, Database, Snapshot, Tx
from bursar.storage.tables import repeats

REPEATS_KEPT = timedelta(days=1)
ANSWER_CHARACTERS_MAX = 256 * 1024


@dataclass(frozen=True)
class RepeatName:
    """Which request: of which owner, by which caller (the id of a key or a person), and the hash of the name that the caller gave it."""

    owner: OwnerId
    caller: str
    name_hash: str


@dataclass(frozen=True)
class Repeat:
    """`body_hash` is of what was asked, `answer` what was answered, as JSON and without anything secret."""

    name: RepeatName
    body_hash: str
    status: int
    answer: str


async def find_repeat(snapshot: Snapshot, name: RepeatName) -> Repeat | None:
    """What was answered under this name within the last day."""
    row = await snapshot.first(
        select(repeats).where(
            repeats.c.owner_id == name.owner,
            repeats.c.caller == name.caller,
            repeats.c.name_hash == name.name_hash,
            repeats.c.created_at > snapshot.now - REPEATS_KEPT,
        )
    )
    return None if row is None else Repeat(name, row.body_hash, row.status, row.answer)


async def keep_repeat(tx: Tx, repeat: Repeat) -> bool:
    """Whether this is the first under its name. Another transaction that is keeping the same name is waited for. Raises `TooLarge`."""
    if len(repeat.answer) > ANSWER_CHARACTERS_MAX:
        raise TooLarge("The answer is too long to be kept for a repeat.", remedy="Ask for fewer things at once.")
    name = repeat.name
    values = {"owner_id": name.owner, "caller": name.caller, "name_hash": name.name_hash}
    fresh = {"body_hash": repeat.body_hash, "status": repeat.status, "answer": repeat.answer, "created_at": tx.now}
    kept = await tx.execute(
        tx.insert(repeats)
        .values(**values, **fresh)
        .on_conflict_do_update(
            index_elements=list(values), set_=fresh, where=repeats.c.created_at <= tx.now - REPEATS_KEPT
        )
    )
    return kept == 1


async def forget_old_repeats(database: Database) -> int:
    """Forgets what is older than a day; how many that were."""
    async with database.begin(SYSTEM) as tx:
        return await tx.execute(delete(repeats).where(repeats.c.created_at <= tx.now - REPEATS_KEPT))
