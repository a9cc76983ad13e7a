"""A visit: one request, who makes it, and as whom. The context is in the URL; nothing ever changes it silently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from bursar.access import Actor, Allow, Permission, Role, may
from bursar.identity import Session, User
from bursar.kernel import secrets
from bursar.kernel.errors import InvalidInput, TooLarge
from bursar.kernel.ids import OrganizationId, OwnerId
from bursar.reports import ContextEntry, resolve_context
from bursar.storage import Scope
from bursar.web import _csrf, _session
from bursar.web._parts import Site
from bursar.web._render import initials, usd

FORM_BYTES_MAX = 64 * 1024
FORM_FIELDS_MAX = 50

_ROLE_LABELS = {Role.ADMIN: "Admin", Role.MEMBER: "Member", Role.PERSONAL: ""}
_PATHS = {
    "overview": "/overview",
    "chat": "/chat",
    "models": "/models",
    "activity": "/activity",
    "keys": "/keys",
    "credits": "/credits",
    "audit": "/audit",
    "members": "/members",
    "organization": "/settings",
}
_NEEDED = {
    "audit": Permission.SEE_AUDIT,
    "members": Permission.SEE_MEMBERS,
    "organization": Permission.SEE_ORGANIZATION,
}
"""Pages that a context may not have for somebody: the switcher leads to its overview then."""
CONSOLE = ("operator", "organizations", "users", "moves", "mail", "books", "installation")
"""The pages of the operator's console."""


@dataclass
class Visit:
    """`entry` is the context that the URL names; on pages without one, the last context. None for somebody signed out.

    `new_visit` is the cookie that a form shown to somebody signed out was bound to, when it has yet to be set. `new_session`
    is the token under which the session goes on, when that has yet to be set.
    """

    site: Site
    request: Request
    session: Session | None = None
    entries: Sequence[ContextEntry] = ()
    entry: ContextEntry | None = None
    page: str = ""
    form: Mapping[str, str] = field(default_factory=dict)
    new_visit: str | None = None
    new_session: str | None = None
    showed_flash: bool = False

    @property
    def now(self) -> datetime:
        return self.site.parts.clock.now()

    @property
    def user(self) -> User:
        return self.signed_in.user

    @property
    def signed_in(self) -> Session:
        assert self.session is not None, "the route lets in people who are not signed in"
        return self.session

    @property
    def here(self) -> ContextEntry:
        assert self.entry is not None, "the route lets in people who are not signed in"
        return self.entry

    @property
    def owner(self) -> OwnerId:
        return self.here.context.owner

    @property
    def organization(self) -> OrganizationId:
        """On pages that only organizations have."""
        assert self.here.organization is not None, "the route is of organizations"
        return self.here.organization

    @property
    def scope(self) -> Scope:
        return Scope(self.owner)

    @property
    def base(self) -> str:
        return base_of(self.here)

    @property
    def actor(self) -> Actor:
        return Actor.person(self.user.id, self.address)

    @property
    def address(self) -> str | None:
        """The client's address; the server in front applied the trusted proxies already."""
        return self.request.client.host if self.request.client else None

    @property
    def user_agent(self) -> str | None:
        return self.request.headers.get("user-agent")

    def may(self, permission: Permission) -> bool:
        return isinstance(may(self.here.context, permission), Allow)

    def query(self, name: str) -> str:
        return _tidy(self.request.query_params.get(name, ""))

    def path(self, name: str) -> str:
        return _tidy(str(self.request.path_params[name]))

    def enter(self, slug: str | None) -> None:
        """Takes the context that the URL names. Raises `NoSuchContext`."""
        self.entry = None
        self.entry = resolve_context(self.entries, slug)

    def enter_last(self) -> None:
        """Takes the last context, or the personal one where it is gone or there is none."""
        last = self.request.cookies.get(_session.CONTEXT, "")
        self.entry = next((entry for entry in self.entries if entry.slug == last), self.entries[0])

    def form_token(self) -> str:
        """For the forms of the page being made."""
        binding = self.binding
        if binding is None:
            binding = self.new_visit = self.new_visit or secrets.mint_token()
        return _csrf.make_token(self.site, binding)

    @property
    def binding(self) -> str | None:
        """What the tokens of this browser's forms are bound to: a session keeps its id when its token changes, so that what is typed in
        another tab is not lost."""
        if self.session is not None:
            return self.session.id
        return _session.read_token(self.request, _session.VISIT)


def base_of(entry: ContextEntry) -> str:
    return "/personal" if entry.slug is None else f"/orgs/{entry.slug}"


def navigation(visit: Visit) -> dict[str, Any]:
    """What base.html calls `nav`. The switcher keeps the page where every context has it."""
    here = visit.here
    path = _PATHS.get(visit.page, "/overview")
    return {
        "context": {
            "kind": "organization" if here.organization else "personal",
            "name": here.name,
            "slug": here.slug,
            "base": visit.base,
            "role": here.context.role.value,
            "balance": usd(here.balance.total),
            "can_buy": visit.may(Permission.BUY_CREDITS),
            "can_audit": visit.may(Permission.SEE_AUDIT),
            "can_manage": visit.may(Permission.SEE_ORGANIZATION),
        },
        "contexts": [
            {
                "name": entry.name,
                "kind_label": "Organization" if entry.organization else visit.user.name,
                "role_label": _ROLE_LABELS[entry.context.role],
                "balance": usd(entry.balance.total),
                "url": base_of(entry) + _path_in(entry, visit.page),
                "initials": initials(entry.name if entry.organization else visit.user.name),
                "current": entry is here,
            }
            for entry in visit.entries
        ],
        "page": visit.page,
        "here": visit.request.url.path if visit.request.method == "GET" else visit.base + path,
        "user": {
            "name": visit.user.name,
            "email": visit.user.email,
            "initials": initials(visit.user.name),
            "verified": visit.user.is_verified,
        },
        "is_operator": visit.user.is_operator,
        "console": CONSOLE,
        "sandbox": visit.site.parts.sandbox is not None,
    }


def _path_in(entry: ContextEntry, page: str) -> str:
    needed = _NEEDED.get(page)
    is_shut = needed is not None and not isinstance(may(entry.context, needed), Allow)
    return "/overview" if is_shut else _PATHS.get(page, "/overview")


def organizations_of(visit: Visit) -> list[dict[str, str]]:
    """For lists of one's organizations."""
    return [
        {
            "name": entry.name,
            "slug": entry.slug,
            "role_label": _ROLE_LABELS[entry.context.role],
            "initials": initials(entry.name),
            "url": f"{base_of(entry)}/overview",
            "leave_url": f"{base_of(entry)}/leave",
        }
        for entry in visit.entries
        if entry.slug is not None
    ]


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form, the last one of each name. Raises `TooLarge` and `InvalidInput`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise InvalidInput("That is not a form of this page.", remedy="Go back and try again.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise TooLarge("That is more than a form of this page holds.", remedy="Shorten what you typed.")
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX)
    except ValueError:
        raise InvalidInput("That form cannot be read.", remedy="Go back and try again.") from None
    return {name: _tidy(value) for name, value in pairs}


def _tidy(text: str) -> str:
    """Without NUL characters, which no database takes and nobody types."""
    return text.replace("\0", "")
