"""What a worker's journal holds: intents, how far each came, and how it ended. The shapes are on disk: fields are only ever added at the end."""

from datetime import datetime
from enum import IntEnum

import msgspec

from bursar import activity
from bursar.activity import Generation, UsageSource
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, UserId
from bursar.kernel.money import Nanos


class Kind(IntEnum):
    """Of a record in the journal. The numbers are on disk: they are never given another meaning."""

    INTENT = 1
    PROGRESS = 2
    SETTLE = 3
    VOID = 4


class JournaledIntent(msgspec.Struct, frozen=True, array_like=True):
    owner: OwnerId
    generation: GenerationId
    ceiling: int
    price_version: str
    key: KeyId | None
    user: UserId
    model: str
    opened_at: datetime


class JournaledProgress(msgspec.Struct, frozen=True, array_like=True):
    generation: GenerationId
    prompt_tokens: int
    completion_tokens: int
    cost: int
    price_version: str = ""
    images: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0


encode = msgspec.msgpack.Encoder().encode
decode_intent = msgspec.msgpack.Decoder(JournaledIntent).decode
decode_progress = msgspec.msgpack.Decoder(JournaledProgress).decode
decode_generation = msgspec.msgpack.Decoder(Generation).decode


def interrupted_row(intent: JournaledIntent, so_far: JournaledProgress | None) -> Generation:
    """A request in doubt costs what was journaled of it; the rest is the house's."""
    row = activity.interrupted(
        intent.owner,
        intent.generation,
        intent.opened_at,
        key=intent.key,
        user=intent.user,
        model=intent.model,
        price_version=intent.price_version,
    )
    if so_far is None:
        return row
    return msgspec.structs.replace(
        row,
        price_version=so_far.price_version or intent.price_version,
        prompt_tokens=so_far.prompt_tokens,
        completion_tokens=so_far.completion_tokens,
        audio_output_tokens=so_far.audio_output_tokens,
        image_output_tokens=so_far.image_output_tokens,
        images=so_far.images,
        cost_nanos=Nanos(so_far.cost),
        usage_source=UsageSource.ESTIMATED,
    )
