"""Asking the table."""

from dataclasses import dataclass

from bursar.access._context import Context
from bursar.access._permissions import TABLE, Permission
from bursar.kernel.errors import Forbidden


@dataclass(frozen=True)
class Allow:
    pass


@dataclass(frozen=True)
class Deny:
    reason: str


Decision = Allow | Deny


class PermissionDenied(Forbidden):
    """The role does not allow it; the sentence says who could."""

    def __init__(self, permission: Permission) -> None:
        super().__init__(
            f"Only an admin can {permission.value}.",
            remedy="Ask an admin of the organization.",
            permission=permission.name,
        )
        self.permission = permission


def may(context: Context, permission: Permission) -> Decision:
    if permission in TABLE[context.role]:
        return Allow()
    return Deny(f"Only an admin can {permission.value}.")


def require(context: Context, permission: Permission) -> None:
    """Raises `PermissionDenied` unless the context's role allows it."""
    if isinstance(may(context, permission), Deny):
        raise PermissionDenied(permission)
