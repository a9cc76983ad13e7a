"""What every request came to, of all owners: for comparing what was promised with what was charged."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from bursar.activity import GenerationStatus
from bursar.activity import tables as activity_tables
from bursar.kernel.ids import GenerationId
from bursar.kernel.money import Nanos
from bursar.storage import Snapshot

_generations = activity_tables.generations


@dataclass(frozen=True, slots=True)
class Settlement:
    status: GenerationStatus
    cost: Nanos


async def settlements(snapshot: Snapshot) -> Mapping[GenerationId, Settlement]:
    """Of every generation there is: for a small installation, such as one that tests itself."""
    rows = await snapshot.all(select(_generations.c.id, _generations.c.status, _generations.c.cost_nanos))
    return {GenerationId(row.id): Settlement(GenerationStatus(row.status), Nanos(row.cost_nanos)) for row in rows}
