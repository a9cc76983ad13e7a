"""Who comes with a management key, and as whom: with the present role of whoever created it."""

from dataclasses import dataclass
from typing import Any

from fastapi import Depends
from starlette.requests import Request

from bursar import actions
from bursar.access import Actor, ActorKind, Permission
from bursar.actions import NoSuchOwner
from bursar.api._describe import Authorization
from bursar.gateway import Admission
from bursar.kernel.errors import Forbidden
from bursar.kernel.ids import OwnerId, UserId
from bursar.storage import Database, Scope


class CreatorLeft(Forbidden):
    """Whoever created the management key does not belong to its owner any more."""


@dataclass(frozen=True)
class Manager:
    """`owner` is the key's, `user` who created it; the two and the client's address stand in the audit log."""

    owner: OwnerId
    user: UserId
    actor: Actor


def managed_by(database: Database, admission: Admission) -> Any:
    """The default of a route's parameter of type `Manager`.

    Raises what `Admission.admit_management` raises; `PermissionDenied`, naming the admins, when the creator is no admin any more, and
    `CreatorLeft`. An action asks again in its own transaction.
    """

    async def enter(request: Request, authorization: Authorization = None) -> Manager:
        caller = await admission.admit_management(authorization)
        address = request.client.host if request.client else None
        actor = Actor(ActorKind.KEY, user=caller.user, key=caller.key, address=address)
        async with database.snapshot(Scope(caller.owner)) as snapshot:
            try:
                await actions.enter(snapshot, actor, caller.owner, Permission.MANAGE_MANAGEMENT_KEYS)
            except NoSuchOwner:
                raise CreatorLeft(
                    "Whoever created this management key is no longer a member of its organization.",
                    remedy="An admin creates a new one.",
                ) from None
        return Manager(caller.owner, caller.user, actor)

    return Depends(enter)
