"""Who may enter each door, written down by hand: what the code declares is held against this, not this made from it.

A door without a line here fails the build, and so does a line without a door.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Who(Enum):
    PUBLIC = "anybody"
    SIGNED_IN = "whoever is signed in"
    EVERYONE = "everyone in the organization; in a personal account its person"
    ADMINS = "admins of the organization; in a personal account its person"
    ADMINS_OF_THING = "admins of the organization that the thing belongs to; its person where it is personal"
    OPERATOR = "the operator"
    MONITOR = "whoever has the metrics token, or is on this machine"
    ANY_KEY = "any key"
    MAYBE_KEY = "anybody, and any key"
    INFERENCE = "API keys"
    MANAGEMENT = "management keys"
    MANAGEMENT_OF_ORGANIZATION = "management keys of an organization"
    MANAGEMENT_OF_PERSON = "management keys of a personal account"


class Reach(Enum):
    """Of the things that a path names, which ones the person who entered gets."""

    ALL = "everyone's in the organization"
    MADE_OR_ADMIN = "what one made; admins everyone's"
    ITSELF = "the organization that one is in, no other"


@dataclass(frozen=True)
class Door:
    """`thing` is the parameter that names a thing: a part of the path, or of the query where `asked` is true.

    `kind` says what kind of thing it is, where the parameter's name does not.
    `sent` is the form or JSON that a well-meaning caller sends. `leads_out`: whoever gets in is sent to sign in afterwards.
    `offered`: false for what is described and refused.
    """

    who: Who
    thing: str | None = None
    reach: Reach = Reach.ALL
    asked: bool = False
    kind: str | None = None
    sent: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    leads_out: bool = False
    offered: bool = True


def _admins(thing: str | None = None, **sent: Any) -> Door:
    return Door(Who.ADMINS, thing, sent=sent)


def _everyone(thing: str | None = None, reach: Reach = Reach.ALL, **sent: Any) -> Door:
    return Door(Who.EVERYONE, thing, reach, sent=sent)


def _own_key(**sent: Any) -> Door:
    return _everyone("key", Reach.MADE_OR_ADMIN, **sent)


_CHAT = {"model": "demo/echo-1", "messages": [{"role": "user", "content": "Hello"}]}

IN_CONTEXT: Mapping[str, Door] = {
    "GET /overview": _everyone(),
    "GET /chat": _everyone(),
    "POST /chat": _everyone(),
    "POST /chat/completions": _everyone(),
    "GET /chat/answers/{generation}": _everyone("generation"),
    "GET /models": _everyone(),
    "GET /models/{author}/{model}": _everyone(),
    "GET /activity": _everyone(),
    "GET /activity.csv": _everyone(),
    "GET /activity/{generation}": _everyone("generation"),
    "GET /keys": _everyone(),
    "POST /keys": _everyone(name="new", kind="inference"),
    "GET /keys/{key}": _own_key(),
    "POST /keys/{key}": _own_key(name="renamed"),
    "GET /keys/{key}/rotate": _own_key(),
    "POST /keys/{key}/rotate": _own_key(grace="3600"),
    "GET /keys/{key}/end-grace": _own_key(),
    "POST /keys/{key}/end-grace": _own_key(),
    "POST /keys/{key}/disable": _own_key(),
    "POST /keys/{key}/enable": _own_key(),
    "GET /keys/{key}/delete": _own_key(),
    "POST /keys/{key}/delete": _own_key(),
    "GET /audit": _admins(),
    "GET /audit.csv": _admins(),
    "GET /credits": _everyone(),
    "POST /credits/purchases": _admins(amount="5"),
}
"""Below `/personal` and `/orgs/{slug}`."""

ONLY_PERSONAL: Mapping[str, Door] = {
    "POST /credits/moves": _everyone(amount="1"),
    "POST /credits/moves/{move}/withdraw": _everyone("move"),
}

ONLY_ORGANIZATION: Mapping[str, Door] = {
    "GET /members": _everyone(),
    "POST /members/invitations": _admins(addresses="new@example.com", role="member"),
    "POST /members/invitations/{invitation}/resend": _admins("invitation"),
    "POST /members/invitations/{invitation}/revoke": _admins("invitation"),
    "GET /members/{user}/role": _admins("user"),
    "POST /members/{user}/role": _admins("user", role="admin"),
    "GET /members/{user}/remove": _admins("user"),
    "POST /members/{user}/remove": _admins("user"),
    "GET /leave": _everyone(),
    "POST /leave": _everyone(),
    "GET /settings": _admins(),
    "POST /settings": _admins(name="Renamed", slug="renamed"),
    "GET /settings/delete": _admins(),
    "POST /settings/delete": _admins(confirmation="?"),
}

ELSEWHERE: Mapping[str, Door] = {
    **dict.fromkeys(
        [
            "GET /",
            "GET /sign-in",
            "POST /sign-in",
            "GET /link",
            "POST /link",
            "GET /sign-up",
            "POST /sign-up",
            "GET /check-mail",
            "GET /become-operator",
            "POST /become-operator",
            "GET /verify",
            "POST /verify",
            "POST /verify/new-password",
            "GET /forgot-password",
            "POST /forgot-password",
            "GET /set-password",
            "POST /set-password",
            "POST /theme",
            "GET /sign-in/code",
            "POST /sign-in/code",
            "GET /change-email",
            "POST /change-email",
            "GET /undo-email-change",
            "POST /undo-email-change",
            "GET /invitations/accept",
            "POST /invitations/accept",
            "POST /invitations/decline",
        ],
        Door(Who.PUBLIC),
    ),
    **dict.fromkeys(
        [
            "POST /verify/resend",
            "GET /confirm",
            "POST /confirm",
            "POST /confirm/mail",
            "GET /confirm/sent",
            "GET /confirm/link",
            "POST /confirm/link",
            "POST /settings/sessions/end-others",
            "GET /settings/email",
            "POST /settings/email",
            "GET /settings/password",
            "POST /settings/password",
            "GET /settings/second-factor",
            "POST /settings/second-factor/on",
            "POST /settings/second-factor/codes",
            "GET /settings/second-factor/off",
            "POST /settings/second-factor/off",
            "GET /settings/delete-account",
            "POST /settings/delete-account",
            "GET /credits",
            "GET /personal",
            "GET /settings/preferences",
            "POST /settings/preferences",
            "GET /settings/preferences/organizations",
            "GET /settings/preferences/organizations/new",
            "POST /settings/preferences/organizations",
        ],
        Door(Who.SIGNED_IN),
    ),
    "POST /sign-out": Door(Who.SIGNED_IN, leads_out=True),
    "GET /orgs/{slug}": Door(Who.SIGNED_IN),
    "GET /sandbox/checkout/{purchase}": Door(Who.ADMINS_OF_THING, "purchase"),
    "POST /sandbox/checkout/{purchase}": Door(Who.ADMINS_OF_THING, "purchase", sent={"decision": "pay"}),
    "POST /settings/sessions/{session}/end": Door(Who.SIGNED_IN, "session"),
    "POST /settings/invitations/{invitation}/accept": Door(Who.SIGNED_IN, "invitation", kind="waiting"),
    "POST /settings/invitations/{invitation}/decline": Door(Who.SIGNED_IN, "invitation", kind="waiting"),
    **dict.fromkeys(["GET /operator", "GET /operator/organizations", "GET /operator/users"], Door(Who.OPERATOR)),
    "GET /operator/organizations/{organization}/seats": Door(Who.OPERATOR, "organization"),
    "POST /operator/organizations/{organization}/seats": Door(Who.OPERATOR, "organization", sent={"seats": "12"}),
    "GET /operator/credit-moves": Door(Who.OPERATOR),
    "POST /operator/credit-moves/{move}": Door(Who.OPERATOR, "move", sent={"answer": "refuse", "note": "no"}),
    "GET /operator/audit": Door(Who.OPERATOR),
    "GET /operator/audit.csv": Door(Who.OPERATOR),
    "GET /operator/mail": Door(Who.OPERATOR),
    "GET /operator/books": Door(Who.OPERATOR),
    "GET /operator/books.json": Door(Who.OPERATOR),
    "GET /metrics": Door(Who.MONITOR),
}

API: Mapping[str, Door] = {
    **dict.fromkeys(
        [
            "POST /chat/completions",
            "POST /responses",
            "POST /messages",
            "POST /completions",
            "POST /embeddings",
        ],
        Door(Who.INFERENCE, sent=_CHAT),
    ),
    **dict.fromkeys(
        [
            "GET /models",
            "GET /models/count",
            "GET /embeddings/models",
            "GET /model/{author}/{slug}",
            "GET /models/{author}/{slug}",
            "GET /providers",
        ],
        Door(Who.PUBLIC),
    ),
    "POST /messages/count_tokens": Door(Who.INFERENCE, offered=False),
    "GET /models/user": Door(Who.ANY_KEY),
    "GET /models/{author}/{slug}/endpoints": Door(Who.MAYBE_KEY),
    "GET /endpoints/zdr": Door(Who.MAYBE_KEY),
    "GET /key": Door(Who.ANY_KEY),
    "GET /auth/key": Door(Who.ANY_KEY),
    "GET /credits": Door(Who.MANAGEMENT),
    "GET /generation": Door(Who.ANY_KEY, "id", asked=True, kind="generation"),
    "GET /generation/receipt": Door(Who.ANY_KEY, "id", asked=True, kind="generation"),
    "GET /organization/members": Door(Who.MANAGEMENT_OF_ORGANIZATION),
    "GET /organization/settings": Door(Who.MANAGEMENT_OF_ORGANIZATION),
    "PATCH /organization/settings": Door(
        Who.MANAGEMENT_OF_ORGANIZATION, sent={"is_filtered_model_catalog_enabled": False}
    ),
    "POST /organization/leave": Door(Who.MANAGEMENT_OF_ORGANIZATION),
    "GET /organizations": Door(Who.MANAGEMENT),
    "POST /organizations": Door(Who.MANAGEMENT_OF_PERSON, sent={"name": "New"}),
    "GET /organizations/{organization_id}": Door(Who.MANAGEMENT, "organization_id", Reach.ITSELF, kind="organization"),
    "PATCH /organizations/{organization_id}": Door(
        Who.MANAGEMENT_OF_ORGANIZATION, "organization_id", Reach.ITSELF, kind="organization", sent={"name": "Renamed"}
    ),
    "DELETE /organizations/{organization_id}": Door(
        Who.MANAGEMENT_OF_ORGANIZATION,
        "organization_id",
        Reach.ITSELF,
        kind="organization",
        query={"confirmation": "?"},
    ),
    "GET /memberships": Door(Who.MANAGEMENT_OF_ORGANIZATION),
    "PATCH /memberships/{user_id}": Door(
        Who.MANAGEMENT_OF_ORGANIZATION, "user_id", kind="user", sent={"role": "admin"}
    ),
    "DELETE /memberships/{user_id}": Door(Who.MANAGEMENT_OF_ORGANIZATION, "user_id", kind="user"),
    "GET /invitations": Door(Who.MANAGEMENT),
    "POST /invitations": Door(Who.MANAGEMENT_OF_ORGANIZATION, sent={"emails": ["new@example.com"]}),
    "POST /invitations/{invitation_id}/resend": Door(
        Who.MANAGEMENT_OF_ORGANIZATION, "invitation_id", kind="invitation"
    ),
    "DELETE /invitations/{invitation_id}": Door(Who.MANAGEMENT_OF_ORGANIZATION, "invitation_id", kind="invitation"),
    "POST /invitations/{invitation_id}/accept": Door(Who.MANAGEMENT_OF_PERSON, "invitation_id", kind="waiting"),
    "POST /invitations/{invitation_id}/decline": Door(Who.MANAGEMENT_OF_PERSON, "invitation_id", kind="waiting"),
    "GET /audit-events": Door(Who.MANAGEMENT),
    "GET /keys": Door(Who.MANAGEMENT),
    "POST /keys": Door(Who.MANAGEMENT, sent={"name": "new"}),
    "GET /keys/{hash}": Door(Who.MANAGEMENT, "hash"),
    "PATCH /keys/{hash}": Door(Who.MANAGEMENT, "hash", sent={"name": "other"}),
    "DELETE /keys/{hash}": Door(Who.MANAGEMENT, "hash"),
    "POST /keys/{hash}/rotate": Door(Who.MANAGEMENT, "hash", sent={"grace_seconds": 60}),
    "PATCH /organization/budget": Door(Who.MANAGEMENT_OF_ORGANIZATION, sent={"limit": 5}),
    "PATCH /organization/members/{user_id}/budget": Door(
        Who.MANAGEMENT_OF_ORGANIZATION, "user_id", kind="user", sent={"limit": 5}
    ),
}
"""Below `/api/v1`."""
