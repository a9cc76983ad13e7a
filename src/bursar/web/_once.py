"""A form that must not be done twice: its one-time id is kept in the transaction of what it does, as an `Idempotency-Key` of the API is
(`api/_once.py`). A form that failed keeps nothing, and may be sent again."""

from http import HTTPStatus

from bursar import storage
from bursar.actions import Then
from bursar.kernel.errors import Conflict
from bursar.kernel.secrets import hash_secret
from bursar.storage import Repeat, RepeatName, Tx
from bursar.web._context import Visit


class SentBefore(Conflict):
    """The same form, reloaded or clicked twice."""


async def was_sent(visit: Visit) -> bool:
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        return await storage.find_repeat(snapshot, _name(visit)) is not None


def keep_form(visit: Visit) -> Then[object]:
    """For an action's `then`. Of two that are sent at once, the second undoes what it did and raises `SentBefore`."""

    async def keep(tx: Tx, _made: object) -> None:
        if not await storage.keep_repeat(tx, Repeat(_name(visit), "", HTTPStatus.OK, "")):
            raise SentBefore("This form was sent before.")

    return keep


def _name(visit: Visit) -> RepeatName:
    return RepeatName(visit.owner, visit.user.id, hash_secret(visit.form.get("form_id", "")))
