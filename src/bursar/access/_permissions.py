"""The Role × Permission table. Deny by default: what is not listed is refused."""

from enum import StrEnum


class Role(StrEnum):
    ADMIN = "admin"
    """Everything in the organization."""
    MEMBER = "member"
    """Limited: own keys, everyone's activity, no billing."""
    PERSONAL = "personal"
    """The person alone, in their own context."""

    @property
    def with_article(self) -> str:
        """In a sentence about a member: `"an admin"`."""
        return "an admin" if self is Role.ADMIN else "a member"


class Permission(StrEnum):
    """Each value completes the sentence "Only an admin can …"."""

    SEE_OVERVIEW = "see the overview"
    SEE_ACTIVITY = "see the activity"
    SEE_MODELS = "see the models"
    CHAT = "chat with models"
    SEE_BALANCE = "see the balance"
    SEE_BILLING = "see billing details"
    MOVE_CREDITS = "ask to move personal credits"
    BUY_CREDITS = "buy credits"
    CREATE_KEYS = "create API keys"
    MANAGE_OWN_KEYS = "manage the keys one created"
    MANAGE_ALL_KEYS = "manage the keys of others"
    MANAGE_MANAGEMENT_KEYS = "create and manage management keys"
    SET_BUDGETS = "set budgets"
    SEE_MEMBERS = "see the members"
    MANAGE_MEMBERS = "invite, promote and remove members"
    LEAVE = "leave the organization"
    SEE_ORGANIZATION = "see the organization's settings"
    MANAGE_ORGANIZATION = "change or delete the organization"
    SEE_AUDIT = "see the audit log"


_EVERYONE = frozenset(
    {
        Permission.SEE_OVERVIEW,
        Permission.SEE_ACTIVITY,
        Permission.SEE_MODELS,
        Permission.CHAT,
        Permission.SEE_BALANCE,
        Permission.CREATE_KEYS,
        Permission.MANAGE_OWN_KEYS,
        Permission.SEE_MEMBERS,
        Permission.LEAVE,
    }
)

_OF_ORGANIZATIONS = frozenset(
    {
        Permission.SEE_MEMBERS,
        Permission.MANAGE_MEMBERS,
        Permission.LEAVE,
        Permission.SEE_ORGANIZATION,
        Permission.MANAGE_ORGANIZATION,
    }
)
"""What nobody does in a personal account."""

_OF_PEOPLE = frozenset({Permission.MOVE_CREDITS})
"""What nobody does in an organization."""

TABLE: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission) - _OF_PEOPLE,
    Role.PERSONAL: frozenset(Permission) - _OF_ORGANIZATIONS,
    Role.MEMBER: _EVERYONE,
}
