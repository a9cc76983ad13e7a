"""Every page, and who may enter it."""

from bursar.access import Permission
from bursar.web import (
    activity,
    audit,
    chat,
    generation,
    invitations,
    keys,
    members,
    metrics,
    models,
    operator,
    overview,
    preferences,
    reset,
    sandbox,
    second_factor,
    sessions,
    sign_in,
    sign_up,
    step_up,
    verify,
)
from bursar.web import credits as credits_page
from bursar.web._door import Entry, Handler, PageRoute


def _in_context(
    method: str,
    path: str,
    handler: Handler,
    who: Permission,
    page: str,
    *,
    is_call: bool = False,
    step_up: bool = False,
) -> list[PageRoute]:
    """The same page of the personal account and of every organization."""
    return [
        PageRoute(method, base + path, handler, who, page, is_call, step_up) for base in ("/personal", "/orgs/{slug}")
    ]


def _protected(method: str, path: str, handler: Handler) -> PageRoute:
    """What a person changes about their own sign-in."""
    return PageRoute(method, path, handler, Entry.SIGNED_IN, "preferences", step_up=True)


ROUTES: tuple[PageRoute, ...] = (
    PageRoute("GET", "/", sign_in.land, Entry.PUBLIC),
    PageRoute("GET", "/sign-in", sign_in.show, Entry.PUBLIC),
    PageRoute("POST", "/sign-in", sign_in.send, Entry.PUBLIC),
    PageRoute("GET", "/sign-in/code", sign_in.show_code, Entry.PUBLIC),
    PageRoute("POST", "/sign-in/code", sign_in.send_code, Entry.PUBLIC),
    PageRoute("POST", "/sign-out", sign_in.leave, Entry.SIGNED_IN),
    PageRoute("GET", "/link", sign_in.show_link, Entry.PUBLIC),
    PageRoute("POST", "/link", sign_in.follow_link, Entry.PUBLIC),
    PageRoute("GET", "/sign-up", sign_up.show, Entry.PUBLIC),
    PageRoute("POST", "/sign-up", sign_up.send, Entry.PUBLIC),
    PageRoute("GET", "/check-mail", sign_up.check_mail, Entry.PUBLIC),
    PageRoute("GET", "/become-operator", sign_up.show_operator, Entry.PUBLIC),
    PageRoute("POST", "/become-operator", sign_up.send_operator, Entry.PUBLIC),
    PageRoute("GET", "/verify", verify.show, Entry.PUBLIC),
    PageRoute("POST", "/verify", verify.confirm, Entry.PUBLIC),
    PageRoute("POST", "/verify/new-password", verify.choose_instead, Entry.PUBLIC),
    PageRoute("POST", "/verify/resend", verify.resend, Entry.SIGNED_IN),
    PageRoute("GET", "/forgot-password", reset.show, Entry.PUBLIC),
    PageRoute("POST", "/forgot-password", reset.send, Entry.PUBLIC),
    PageRoute("GET", "/set-password", verify.show_password, Entry.PUBLIC),
    PageRoute("POST", "/set-password", verify.set_password, Entry.PUBLIC),
    PageRoute("GET", "/confirm", step_up.show, Entry.SIGNED_IN),
    PageRoute("POST", "/confirm", step_up.send, Entry.SIGNED_IN),
    PageRoute("POST", "/confirm/mail", step_up.send_mail, Entry.SIGNED_IN),
    PageRoute("GET", "/confirm/sent", step_up.show_sent, Entry.SIGNED_IN),
    PageRoute("GET", "/confirm/link", step_up.show_link, Entry.SIGNED_IN),
    PageRoute("POST", "/confirm/link", step_up.follow_link, Entry.SIGNED_IN),
    PageRoute("POST", "/theme", preferences.set_theme, Entry.PUBLIC),
    PageRoute("GET", "/credits", credits_page.forward, Entry.SIGNED_IN),
    PageRoute("GET", "/personal", overview.forward, Entry.SIGNED_IN),
    PageRoute("GET", "/orgs/{slug}", overview.forward, Entry.SIGNED_IN),
    *_in_context("GET", "/overview", overview.show, Permission.SEE_OVERVIEW, "overview"),
    *_in_context("GET", "/chat", chat.show, Permission.CHAT, "chat"),
    *_in_context("POST", "/chat", chat.ask, Permission.CHAT, "chat"),
    *_in_context("POST", "/chat/completions", chat.stream, Permission.CHAT, "chat", is_call=True),
    *_in_context("GET", "/chat/answers/{generation}", chat.receipt, Permission.CHAT, "chat", is_call=True),
    *_in_context("GET", "/models", models.show, Permission.SEE_MODELS, "models"),
    *_in_context("GET", "/models/{author}/{model}", models.show_one, Permission.SEE_MODELS, "models"),
    *_in_context("GET", "/activity", activity.show, Permission.SEE_ACTIVITY, "activity"),
    *_in_context("GET", "/activity.csv", activity.export, Permission.SEE_ACTIVITY, "activity"),
    *_in_context("GET", "/activity/{generation}", generation.show, Permission.SEE_ACTIVITY, "activity"),
    *_in_context("GET", "/keys", keys.show, Permission.MANAGE_OWN_KEYS, "keys"),
    *_in_context("POST", "/keys", keys.create, Permission.CREATE_KEYS, "keys"),
    *_in_context("POST", "/keys/{key}/disable", keys.disable, Permission.MANAGE_OWN_KEYS, "keys"),
    *_in_context("POST", "/keys/{key}/enable", keys.enable, Permission.MANAGE_OWN_KEYS, "keys"),
    *_in_context("GET", "/keys/{key}/delete", keys.ask_delete, Permission.MANAGE_OWN_KEYS, "keys"),
    *_in_context("POST", "/keys/{key}/delete", keys.delete, Permission.MANAGE_OWN_KEYS, "keys"),
    *_in_context("GET", "/audit", audit.show, Permission.SEE_AUDIT, "audit"),
    *_in_context("GET", "/audit.csv", audit.export, Permission.SEE_AUDIT, "audit"),
    *_in_context("GET", "/credits", credits_page.show, Permission.SEE_BALANCE, "credits"),
    *_in_context("POST", "/credits/purchases", credits_page.buy, Permission.BUY_CREDITS, "credits"),
    PageRoute("GET", "/orgs/{slug}/members", members.show, Permission.SEE_MEMBERS, "members"),
    PageRoute("POST", "/orgs/{slug}/members/invitations", members.invite, Permission.MANAGE_MEMBERS, "members"),
    PageRoute(
        "POST",
        "/orgs/{slug}/members/invitations/{invitation}/resend",
        members.resend,
        Permission.MANAGE_MEMBERS,
        "members",
    ),
    PageRoute(
        "POST",
        "/orgs/{slug}/members/invitations/{invitation}/revoke",
        members.revoke,
        Permission.MANAGE_MEMBERS,
        "members",
    ),
    PageRoute(
        "GET", "/orgs/{slug}/members/{user}/role", members.show_role, Permission.MANAGE_MEMBERS, "members", step_up=True
    ),
    PageRoute(
        "POST",
        "/orgs/{slug}/members/{user}/role",
        members.change_role,
        Permission.MANAGE_MEMBERS,
        "members",
        step_up=True,
    ),
    PageRoute(
        "GET",
        "/orgs/{slug}/members/{user}/remove",
        members.ask_remove,
        Permission.MANAGE_MEMBERS,
        "members",
        step_up=True,
    ),
    PageRoute(
        "POST", "/orgs/{slug}/members/{user}/remove", members.remove, Permission.MANAGE_MEMBERS, "members", step_up=True
    ),
    PageRoute("GET", "/orgs/{slug}/leave", members.ask_leave, Permission.LEAVE, "members"),
    PageRoute("POST", "/orgs/{slug}/leave", members.leave, Permission.LEAVE, "members"),
    PageRoute("GET", "/invitations/accept", invitations.show, Entry.PUBLIC),
    PageRoute("POST", "/invitations/accept", invitations.accept, Entry.PUBLIC),
    PageRoute("POST", "/invitations/decline", invitations.decline, Entry.PUBLIC),
    PageRoute(
        "POST", "/settings/invitations/{invitation}/accept", invitations.accept_waiting, Entry.SIGNED_IN, "preferences"
    ),
    PageRoute(
        "POST",
        "/settings/invitations/{invitation}/decline",
        invitations.decline_waiting,
        Entry.SIGNED_IN,
        "preferences",
    ),
    PageRoute("GET", "/sandbox/checkout/{purchase}", sandbox.show, Entry.SIGNED_IN),
    PageRoute("POST", "/sandbox/checkout/{purchase}", sandbox.decide, Entry.SIGNED_IN),
    PageRoute("GET", "/settings/preferences", preferences.show, Entry.SIGNED_IN, "preferences"),
    PageRoute("POST", "/settings/preferences", preferences.save, Entry.SIGNED_IN, "preferences"),
    PageRoute("GET", "/settings/preferences/organizations", preferences.show_new, Entry.SIGNED_IN, "preferences"),
    PageRoute("GET", "/settings/preferences/organizations/new", preferences.show_new, Entry.SIGNED_IN, "preferences"),
    PageRoute("POST", "/settings/preferences/organizations", preferences.create, Entry.SIGNED_IN, "preferences"),
    PageRoute("POST", "/settings/sessions/{session}/end", sessions.end, Entry.SIGNED_IN, "preferences"),
    PageRoute("POST", "/settings/sessions/end-others", sessions.end_others, Entry.SIGNED_IN, "preferences"),
    _protected("GET", "/settings/second-factor", second_factor.show),
    _protected("POST", "/settings/second-factor/on", second_factor.turn_on),
    _protected("POST", "/settings/second-factor/codes", second_factor.renew_codes),
    _protected("GET", "/settings/second-factor/off", second_factor.ask_off),
    _protected("POST", "/settings/second-factor/off", second_factor.turn_off),
    PageRoute("GET", "/operator/mail", operator.show_mail, Entry.OPERATOR, "operator"),
    PageRoute("GET", "/operator/books", operator.show_books, Entry.OPERATOR, "books"),
    PageRoute("GET", "/operator/books.json", operator.verify_books, Entry.OPERATOR, "books", is_call=True),
    PageRoute("GET", "/operator/audit", audit.show_installation, Entry.OPERATOR, "installation"),
    PageRoute("GET", "/operator/audit.csv", audit.export_installation, Entry.OPERATOR, "installation"),
    PageRoute("GET", "/metrics", metrics.show, Entry.MONITOR, is_call=True),
)
