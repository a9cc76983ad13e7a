"""What a journal says about requests that run and about settlements on their way to the database; for whoever verifies."""

from datetime import datetime

from bursar.gateway._records import Kind, decode_generation, decode_intent
from bursar.gateway._state import JournalState, ended_at
from bursar.journal import JournalView
from bursar.kernel.ids import GenerationId


def look_at_journal(view: JournalView, watermark: int) -> JournalState:
    """Waits for the disk. `watermark` is the last record that the database has. Raises what `JournalView.records` raises."""
    intents: dict[GenerationId, tuple[int, datetime]] = {}
    lag, since = 0, None
    for record in view.records():
        if record.kind == Kind.INTENT:
            intent = decode_intent(record.payload)
            intents[intent.generation] = intent.ceiling, intent.opened_at
        elif record.kind in (Kind.SETTLE, Kind.VOID):
            row = decode_generation(record.payload)
            intents.pop(row.id, None)
            if record.lsn > watermark:
                lag += 1
                since = since or ended_at(row)
    return JournalState(
        lag=lag,
        lag_since=since,
        open=len(intents),
        held=sum(ceiling for ceiling, _ in intents.values()),
        oldest_open_at=min((opened_at for _, opened_at in intents.values()), default=None),
    )
