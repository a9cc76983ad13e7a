"""`Idempotency-Key`: a request that creates something is done once, however often it is sent.

1. Was this name answered within the last day? Then the same answer again, or 409 where the body is another one.
2. The action is done. Last in its transaction the answer is written under the name: one `INSERT` beside what it creates, so that
   there are both or neither, whatever dies when. Nothing is claimed beforehand, so nothing is left behind to be cleaned up.
3. Of two at once, the second waits for the first in the database (for the one writer of SQLite, for the row of the name on
   PostgreSQL), finds the name taken, undoes what it did itself, and answers as the first did. A refusal that the first one caused
   (the slug is taken now, the address is invited) is looked at in the same way.

Refusals are not kept: the same request may be sent again once its cause is gone. A secret is not kept: the repeat has null in its
place, names what was made, and says why.
"""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Header
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from bursar.actions import Then
from bursar.api._answers import InvalidParameter, json_answer
from bursar.api._describe import REPLAYED
from bursar.api._door import Manager
from bursar.gateway import encode
from bursar.kernel.errors import BursarError, Conflict
from bursar.kernel.secrets import hash_secret
from bursar.storage import Database, Repeat, RepeatName, Scope, Snapshot, Tx, find_repeat, keep_repeat

NAME_CHARACTERS_MAX = 255

_NAME = re.compile(rf"[\x21-\x7e]{{1,{NAME_CHARACTERS_MAX}}}")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A name of your own for this request, of 1 to 255 printable ASCII characters without spaces; a UUID is a good one. "
        "Sent again within a day with the same body, it answers as it did the first time (with `Idempotent-Replayed: true`) and does "
        "nothing; with another body it is refused with 409. Secrets are told the first time only.",
    ),
]

Made = TypeVar("Made")


class MalformedName(InvalidParameter):
    """An Idempotency-Key that is empty, too long, or has characters that it may not have."""


class NameUsed(Conflict):
    """The same Idempotency-Key came with another body."""


class Overtaken(Conflict):
    """Another request of this name was faster; undoes the transaction that it is raised in, and is told only where the other's answer
    cannot be."""


@dataclass(frozen=True)
class Secret:
    """A place in an answer for what is told once: the first answer has `value` there, a repeat has null."""

    value: str


@dataclass(frozen=True)
class Asked:
    """One request that creates something; `name` is its `Idempotency-Key`."""

    request: Request
    database: Database
    manager: Manager
    name: str | None
    body: BaseModel | None = None

    @property
    def repeat_name(self) -> RepeatName | None:
        """Raises `MalformedName`."""
        if self.name is None:
            return None
        if not _NAME.fullmatch(self.name):
            raise MalformedName(
                f"Idempotency-Key: 1 to {NAME_CHARACTERS_MAX} printable ASCII characters without spaces.",
                remedy="Send a fresh UUID for each thing you create.",
            )
        return RepeatName(self.manager.owner, str(self.manager.actor.key), hash_secret(self.name))

    @property
    def hash(self) -> str:
        """Of everything that says what is asked for: bodies that mean the same are the same."""
        url = self.request.url
        body = {} if self.body is None else self.body.model_dump(mode="json", exclude_unset=True)
        text = json.dumps([self.request.method, url.path, url.query, body], sort_keys=True)
        return hash_secret(text)


async def once(
    asked: Asked,
    do: Callable[[Then[Made]], Awaitable[object]],
    compose: Callable[[Snapshot, Made], Awaitable[dict[str, Any]]],
    *,
    status: int = 201,
    after: Callable[[], Awaitable[dict[str, Any]]] | None = None,
) -> Response:
    """`do` calls the action and hands on its `then`; `compose` writes the answer from what was made, in the action's transaction.
    `after` adds what is known when that is committed; it is not kept, and told the first time only.

    Raises `MalformedName`, `NameUsed`, and what the action raises.
    """
    name = asked.repeat_name
    answer: dict[str, Any] = {}
    if name is not None and (found := await _find(asked.database, name)) is not None:
        return _again(found, asked)

    async def keep(tx: Tx, made: Made) -> None:
        answer.update(await compose(tx, made))
        if name is not None and not await keep_repeat(tx, Repeat(name, asked.hash, status, _without_secrets(answer))):
            raise Overtaken("This request was sent twice at once.", remedy="Send it again.")

    try:
        await do(keep)
    except BursarError:
        if name is None or (found := await _find(asked.database, name)) is None:
            raise
        return _again(found, asked)
    if after is not None:
        answer |= await after()
    return json_answer(
        {field: value.value if isinstance(value, Secret) else value for field, value in answer.items()}, status
    )


async def _find(database: Database, name: RepeatName) -> Repeat | None:
    async with database.snapshot(Scope(name.owner)) as snapshot:
        return await find_repeat(snapshot, name)


def _again(found: Repeat, asked: Asked) -> Response:
    if found.body_hash != asked.hash:
        raise NameUsed(
            "This Idempotency-Key was used for another request.",
            remedy="Send a fresh one for each thing you create; the earlier request was done.",
        )
    return Response(found.answer, found.status, {REPLAYED: "true"}, media_type="application/json")


def _without_secrets(answer: dict[str, Any]) -> str:
    kept = {field: None if isinstance(value, Secret) else value for field, value in answer.items()}
    if kept != answer:
        kept["note"] = "The secret was shown once, in the first answer. Who did not get it rotates or deletes the key."
    return encode(kept).decode()
