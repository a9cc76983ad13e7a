"""People: users, sessions, verified e-mail, passwords, one-time links. (Passkeys, single sign-on: later issues; a session is
opened by whoever proved who signs in, so they add a proof and change nothing here.)"""

from bursar.identity._links import LINK_LIFETIME, NOBODY, LinkPurpose, OneTimeLink, mint_link, peek_link, spend_link
from bursar.identity._passwords import Passwords
from bursar.identity._rules import normalize_email, require_email, require_name, require_password
from bursar.identity._sessions import (
    SESSION_LIFETIME,
    Session,
    end_session,
    end_sessions_of,
    find_session,
    open_session,
)
from bursar.identity._users import (
    User,
    add_user,
    find_by_email,
    find_password_hash,
    find_user,
    get_by_email,
    get_user,
    has_operator,
    list_users,
    mark_verified,
    rename,
    set_password,
    users_by_id,
)

__all__ = [
    "LINK_LIFETIME",
    "NOBODY",
    "SESSION_LIFETIME",
    "LinkPurpose",
    "OneTimeLink",
    "Passwords",
    "Session",
    "User",
    "add_user",
    "end_session",
    "end_sessions_of",
    "find_by_email",
    "find_password_hash",
    "find_session",
    "find_user",
    "get_by_email",
    "get_user",
    "has_operator",
    "list_users",
    "mark_verified",
    "mint_link",
    "normalize_email",
    "open_session",
    "peek_link",
    "rename",
    "require_email",
    "require_name",
    "require_password",
    "set_password",
    "spend_link",
    "users_by_id",
]
