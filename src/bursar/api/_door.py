"""Who comes with a management key, and as whom."""

from dataclasses import dataclass
from typing import Any

from fastapi import Depends
from starlette.requests import Request

from bursar.access import Actor, ActorKind
from bursar.api._describe import Authorization
from bursar.gateway import Admission
from bursar.kernel.ids import OwnerId, UserId


@dataclass(frozen=True)
class Manager:
    """`owner` is the key's, `user` who created it; the two and the client's address stand in the audit log."""

    owner: OwnerId
    user: UserId
    actor: Actor


def managed_by(admission: Admission) -> Any:
    """The default of a route's parameter of type `Manager`; raises what `Admission.admit_management` raises. An action asks for the
    creator's role once more in its own transaction."""

    async def enter(request: Request, authorization: Authorization = None) -> Manager:
        caller = await admission.admit_management(authorization)
        address = request.client.host if request.client else None
        actor = Actor(ActorKind.KEY, user=caller.user, key=caller.key, address=address)
        return Manager(caller.owner, caller.user, actor)

    return Depends(enter)
