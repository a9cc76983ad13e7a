"""Who asks, and as whom."""

from dataclasses import dataclass
from enum import StrEnum

from bursar.access._permissions import Role
from bursar.kernel.ids import KeyId, OwnerId, UserId, is_personal


class ActorKind(StrEnum):
    USER = "user"
    """A person who is signed in."""
    KEY = "key"
    """An API key or management key; `user` is who created it."""
    OPERATOR = "operator"
    """The command line on the installation's own machine."""
    SYSTEM = "system"
    """Bursar itself: a job, or an event from a processor."""


@dataclass(frozen=True)
class Actor:
    """Who asks. `address` is the client's IP address as far as trusted proxies tell it."""

    kind: ActorKind
    user: UserId | None = None
    key: KeyId | None = None
    address: str | None = None

    @classmethod
    def person(cls, user: UserId, address: str | None = None) -> "Actor":
        return cls(ActorKind.USER, user=user, address=address)

    @classmethod
    def operator(cls) -> "Actor":
        return cls(ActorKind.OPERATOR)

    @classmethod
    def system(cls) -> "Actor":
        return cls(ActorKind.SYSTEM)


@dataclass(frozen=True)
class Context:
    """As whom: the owner whose credits, keys and activity are meant, and the role there."""

    owner: OwnerId
    role: Role

    @property
    def is_personal(self) -> bool:
        return is_personal(self.owner)
