"""Who may do what. Pure: actions, reports and gateway all ask the same table."""

from bursar.access._context import Actor, ActorKind, Context
from bursar.access._decide import Allow, Decision, Deny, PermissionDenied, may, require
from bursar.access._permissions import Permission, Role

__all__ = [
    "Actor",
    "ActorKind",
    "Allow",
    "Context",
    "Decision",
    "Deny",
    "Permission",
    "PermissionDenied",
    "Role",
    "may",
    "require",
]
