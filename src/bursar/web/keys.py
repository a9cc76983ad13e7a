"""API keys: members see and manage their own, admins all, and management keys beside them."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from starlette.responses import Response

from bursar import actions, reports
from bursar import keys as keys_room
from bursar.access import Permission
from bursar.actions import Allowing, KeyChanges
from bursar.kernel import money, secrets
from bursar.kernel.errors import InvalidField
from bursar.kernel.ids import KeyId, is_id
from bursar.kernel.money import Nanos
from bursar.keys import Key, KeyKind, NoSuchKey
from bursar.ledger import LimitUse, Period
from bursar.reports import KeyRow
from bursar.web import step_up
from bursar.web._context import Visit
from bursar.web._once import SentBefore, keep_form, was_sent
from bursar.web._pages import redirect, render
from bursar.web._render import usd_exact
from bursar.web._told import ask_servers


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def create(visit: Visit) -> Response:
    """The answer shows the secret, once; it is not stored, so there is nothing to redirect to.

    Reloading the answer posts the form again. Its one-time id is kept beside the key, so that no second one is made.
    """
    if visit.form.get("kind") == KeyKind.MANAGEMENT and (asked := await _step_up(visit)) is not None:
        return asked
    if await was_sent(visit):
        return _created_already(visit)
    parts = visit.site.parts
    try:
        kind = _kind(visit.form.get("kind", ""))
        key, secret = await actions.create_key(
            parts.database,
            parts.checker,
            visit.actor,
            owner=visit.owner,
            creator=visit.user.id,
            name=visit.form.get("name", ""),
            kind=kind,
            limit=_limit(visit) if kind is KeyKind.INFERENCE else None,
            expires_at=_expiry(visit),
            then=keep_form(visit),
        )
    except InvalidField as wrong:
        return await _page(visit, wrong.status, {wrong.field: wrong.sentence})
    except SentBefore:
        return _created_already(visit)
    return await _page(visit, created=_created(key, secret))


async def show_one(visit: Visit) -> Response:
    return await _one_page(visit)


async def change(visit: Visit) -> Response:
    """Its name and its limit."""
    try:
        wanted = _limit(visit)
        changes = KeyChanges(
            name=visit.form.get("name", ""),
            limit=None if wanted is None else wanted.amount,
            period=None if wanted is None else wanted.period,
        )
        if (await _one_of_mine(visit)).kind is KeyKind.MANAGEMENT:
            changes = KeyChanges(name=visit.form.get("name", ""))
        key = await actions.update_key(
            visit.site.parts.database, visit.actor, owner=visit.owner, key=_key_id(visit), changes=changes
        )
    except InvalidField as wrong:
        return await _one_page(visit, wrong.status, {wrong.field: wrong.sentence})
    return redirect(visit, f"{visit.base}/keys/{key.id}", f"The key {key.name} is saved.")


async def ask_rotate(visit: Visit) -> Response:
    key = await _one_of_mine(visit)
    return render(
        visit,
        "key_rotate.html",
        key={"id": key.id, "name": key.name, "label": key.label},
        in_grace=_grace(visit, key),
        choices=_GRACES,
        grace=GRACE_DEFAULT,
        expired=key.is_expired(visit.now),
        form_id=secrets.mint_token(),
    )


async def rotate(visit: Visit) -> Response:
    """The answer shows the new secret, once, as that of `create` does."""
    back = f"{visit.base}/keys/{_key_id(visit)}"
    grace = visit.form.get("grace", "")
    if grace not in _GRACES:
        return redirect(visit, f"{back}/rotate", "Choose how long the old secret still works.", "error")
    if (await _one_of_mine(visit)).kind is KeyKind.MANAGEMENT and (asked := await _step_up(visit)) is not None:
        return asked
    if await was_sent(visit):
        return _rotated_already(visit, back)
    parts = visit.site.parts
    try:
        key, secret = await actions.rotate_key(
            parts.database,
            parts.checker,
            visit.actor,
            owner=visit.owner,
            key=_key_id(visit),
            grace=timedelta(seconds=int(grace)),
            then=keep_form(visit),
        )
    except SentBefore:
        return _rotated_already(visit, back)
    created = _created(key, secret) | {"rotated": True, "old_until": _grace(visit, key)}
    if not key.is_in_grace(visit.now):
        created["acknowledged"], _ = await ask_servers(visit)
    return await _one_page(visit, created=created)


async def ask_end_grace(visit: Visit) -> Response:
    key = await _one_of_mine(visit)
    return render(
        visit,
        "confirm.html",
        title=f"End the old secret of {key.name} now?",
        text=f"Whatever still sends {key.previous_label or 'the old secret'} is refused at once, and streams that run on it are cut. "
        f"The present secret, {key.label}, works on. This cannot be undone.",
        action=f"{visit.base}/keys/{key.id}/end-grace",
        fields=[],
        verb="End the old secret",
        cancel_url=f"{visit.base}/keys/{key.id}",
        danger=True,
    )


async def end_grace(visit: Visit) -> Response:
    key = await actions.end_grace(visit.site.parts.database, visit.actor, owner=visit.owner, key=_key_id(visit))
    return await _told(visit, f"{visit.base}/keys/{key.id}", f"The old secret of {key.name} is refused from now on.")


async def disable(visit: Visit) -> Response:
    return await _set_disabled(visit, disabled=True)


async def enable(visit: Visit) -> Response:
    return await _set_disabled(visit, disabled=False)


async def ask_delete(visit: Visit) -> Response:
    """For browsers without scripts; the others open a dialog that says the same."""
    key = await _one_of_mine(visit)
    return render(
        visit,
        "confirm.html",
        title=f"Delete the key {key.name}?",
        text="Whatever uses it stops working at once, and streams that run on it are cut. Its past activity stays. "
        "This cannot be undone.",
        action=f"{visit.base}/keys/{key.id}/delete",
        fields=[],
        verb="Delete key",
        cancel_url=f"{visit.base}/keys",
        danger=True,
    )


async def delete(visit: Visit) -> Response:
    key = await actions.delete_key(visit.site.parts.database, visit.actor, owner=visit.owner, key=_key_id(visit))
    return await _told(visit, f"{visit.base}/keys", f"The key {key.name} is deleted.")


async def _set_disabled(visit: Visit, *, disabled: bool) -> Response:
    key = await actions.set_key_disabled(
        visit.site.parts.database, visit.actor, owner=visit.owner, key=_key_id(visit), disabled=disabled
    )
    back = f"{visit.base}/keys/{key.id}" if visit.form.get("back") == "key" else f"{visit.base}/keys"
    if disabled:
        return await _told(visit, back, f"The key {key.name} is disabled: requests with it are refused.")
    return redirect(visit, back, f"The key {key.name} works again.")


async def _told(visit: Visit, url: str, message: str) -> Response:
    """After something was taken away: also whether every server knows it."""
    said, everywhere = await ask_servers(visit)
    return redirect(visit, url, f"{message} {said}".strip(), "success" if everywhere else "info")


async def _step_up(visit: Visit) -> Response | None:
    """Before the secret of a management key is made, which can do what its admin can: the page that asks who it is, where that is to
    be proved first. Who may not make one is not asked."""
    return await step_up.ask(visit) if visit.may(Permission.MANAGE_MANAGEMENT_KEYS) else None


def _created_already(visit: Visit) -> Response:
    told = "That key was created already. Its secret is shown once only."
    return redirect(visit, f"{visit.base}/keys", told, "info")


def _rotated_already(visit: Visit, back: str) -> Response:
    return redirect(visit, back, "That key was rotated already. Its new secret is shown once only.", "info")


def _created(key: Key, secret: str) -> dict[str, Any]:
    return {"name": key.name, "secret": secret, "kind": key.kind.value, "rotated": False}


async def _one_of_mine(visit: Visit) -> Key:
    """The key of the URL, for somebody who may delete it. Raises `NoSuchKey`."""
    wanted = _key_id(visit)
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        key = await keys_room.find_key(snapshot, visit.owner, wanted)
    if key is None or not _may_change(visit, key):
        raise _no_such_key()
    return key


def _may_change(visit: Visit, key: Key) -> bool:
    if key.kind is KeyKind.MANAGEMENT and not visit.may(Permission.MANAGE_MANAGEMENT_KEYS):
        return False
    return key.creator == visit.user.id or visit.may(Permission.MANAGE_ALL_KEYS)


def _key_id(visit: Visit) -> KeyId:
    key = visit.path("key")
    if not is_id(key, "key"):
        raise _no_such_key()
    return KeyId(key)


def _no_such_key() -> NoSuchKey:
    return NoSuchKey("There is no such key here.", remedy="Go back to the list of keys.")


def _kind(text: str) -> KeyKind:
    if text not in set(KeyKind):
        raise InvalidField("kind", "Choose one of the two kinds.")
    return KeyKind(text)


def _limit(visit: Visit) -> Allowing | None:
    """An empty amount is no limit."""
    amount, period = visit.form.get("limit", ""), visit.form.get("limit_reset", "")
    amount = amount.strip().removeprefix("$").replace(",", "")
    if not amount:
        return None
    try:
        nanos = money.parse_credits(amount)
    except ValueError:
        nanos = Nanos(-1)
    if nanos < 0:
        raise InvalidField("limit", "Write an amount of credits like 25 or 0.50, or nothing for no limit.")
    if period not in set(Period):
        raise InvalidField("limit_reset", "Choose how often the limit begins anew.")
    return Allowing(nanos, Period(period))


def _expiry(visit: Visit) -> datetime | None:
    """By the days to live, or at the end of a day, which is the last on which it works."""
    wanted = visit.form.get("expires", "")
    if wanted in ("", "never"):
        return None
    if wanted == "date":
        try:
            last = date.fromisoformat(visit.form.get("expires_on", ""))
            return datetime.combine(last + timedelta(days=1), time(), UTC)
        except (ValueError, OverflowError):
            raise InvalidField("expires_on", "Choose the last day on which it works.") from None
    if wanted not in _EXPIRIES:
        raise InvalidField("expires", "Choose one of these.")
    return (visit.now + timedelta(days=int(wanted))).replace(microsecond=0)


async def _page(
    visit: Visit, status: int = 200, errors: dict[str, str] | None = None, created: dict[str, Any] | None = None
) -> Response:
    sees_all = visit.may(Permission.MANAGE_ALL_KEYS)
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        rows = await reports.key_list(snapshot, visit.owner, creator=None if sees_all else visit.user.id)
    kept = visit.form if errors else {}
    listed = [_row(visit, row) for row in rows]
    return render(
        visit,
        "keys.html",
        status=status,
        keys=[row for row in listed if row["kind"] == KeyKind.INFERENCE.value],
        management=[row for row in listed if row["kind"] == KeyKind.MANAGEMENT.value],
        can_manage=visit.may(Permission.MANAGE_MANAGEMENT_KEYS),
        show_creators=sees_all and visit.here.organization is not None,
        created=created,
        api_base=visit.site.parts.api_base,
        model=visit.site.parts.example_model(),
        form={
            "name": kept.get("name", ""),
            "kind": kept.get("kind", KeyKind.INFERENCE.value),
            "limit": kept.get("limit", ""),
            "limit_reset": kept.get("limit_reset", Period.MONTHLY.value),
            "expires": kept.get("expires", "never"),
            "expires_on": kept.get("expires_on", ""),
        },
        periods=_PERIODS,
        expiries=_EXPIRIES,
        today=visit.now.date().isoformat(),
        form_id=secrets.mint_token(),
        errors=_beside(errors or {}),
    )


def _beside(errors: dict[str, str]) -> dict[str, str]:
    """A date in the past is wrong in the field in which dates are chosen."""
    return {("expires_on" if field == "expires_at" else field): said for field, said in errors.items()}


async def _one_page(
    visit: Visit, status: int = 200, errors: dict[str, str] | None = None, created: dict[str, Any] | None = None
) -> Response:
    key = await _one_of_mine(visit)
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        row = await reports.key_row(snapshot, key)
        usage = await reports.key_usage(snapshot, visit.owner, key.id)
    kept = visit.form if errors else {}
    limit = row.use.limit if row.use is not None else None
    amount = "" if limit is None else usd_exact(limit.amount).removeprefix("$").replace(",", "")
    return render(
        visit,
        "key.html",
        status=status,
        key=_row(visit, row),
        usage=usage,
        created=created,
        api_base=visit.site.parts.api_base,
        model=visit.site.parts.example_model(),
        form={
            "name": kept.get("name", key.name),
            "limit": kept.get("limit", amount),
            "limit_reset": kept.get("limit_reset", (Period.MONTHLY if limit is None else limit.period).value),
        },
        periods=_PERIODS,
        errors=errors or {},
    )


GRACE_DEFAULT = "86400"
_GRACES = {"0": "At once", "3600": "In 1 hour", GRACE_DEFAULT: "In 1 day", "604800": "In 7 days"}
"""By seconds: when the old secret ends."""

_EXPIRIES = {
    "never": "Never",
    "7": "In 7 days",
    "30": "In 30 days",
    "90": "In 90 days",
    "date": "After a day…",
}

_PERIODS = {
    Period.MONTHLY.value: "each month",
    Period.WEEKLY.value: "each week, from Monday",
    Period.DAILY.value: "each day",
    Period.TOTAL.value: "in all",
}


def _use(use: LimitUse) -> dict[str, Any]:
    limit = use.limit.amount
    return {
        "used_nanos": use.used,
        "limit_nanos": limit,
        "percent": min(100, use.used * 100 // limit) if limit else 100,
        "period": _PERIODS[use.limit.period.value],
    }


def _grace(visit: Visit, key: Key) -> datetime | None:
    """Until when the secret before the present one works, where it does."""
    return key.previous_until if key.is_in_grace(visit.now) else None


def _row(visit: Visit, row: KeyRow) -> dict[str, Any]:
    key = row.key
    return {
        "id": key.id,
        "name": key.name,
        "label": key.label,
        "kind": key.kind.value,
        "creator": row.creator_name,
        "created_at": key.created_at,
        "rotated_at": key.rotated_at,
        "last_used_at": key.last_used_at,
        "last_used_address": key.last_used_address,
        "spend_month_nanos": row.spent_this_month,
        "limit": None if row.use is None else _use(row.use),
        "disabled": key.disabled_at is not None,
        "expires_at": key.expires_at,
        "expired": key.is_expired(visit.now),
        "old_label": key.previous_label,
        "old_until": _grace(visit, key),
        "can_change": _may_change(visit, key),
    }
