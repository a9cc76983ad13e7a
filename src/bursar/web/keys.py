"""API keys: members see and manage their own, admins all."""

from typing import Any

from starlette.responses import Response

from bursar import actions, reports
from bursar import keys as keys_room
from bursar.access import Permission
from bursar.actions import Allowing
from bursar.kernel import money, secrets
from bursar.kernel.errors import BursarError, InvalidField
from bursar.kernel.ids import KeyId, is_id
from bursar.kernel.money import Nanos
from bursar.keys import Key, KeyKind, NoSuchKey
from bursar.ledger import LimitUse, Period
from bursar.reports import KeyRow
from bursar.web._context import Visit
from bursar.web._pages import redirect, render

FORM_CHARACTERS_MAX = 100


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def create(visit: Visit) -> Response:
    """The answer shows the secret, once; it is not stored, so there is nothing to redirect to.

    Reloading the answer posts the form again. Its one-time id was spent, so that no second key is made.
    """
    parts, spent = visit.site.parts, visit.site.key_forms
    form = f"{visit.user.id}:{visit.owner}:{visit.form.get('form_id', '')[:FORM_CHARACTERS_MAX]}"
    if not spent.spend(form):
        return redirect(
            visit, f"{visit.base}/keys", "That key was created already. Its secret is shown once only.", "info"
        )
    try:
        key, secret = await actions.create_key(
            parts.database,
            parts.checker,
            visit.actor,
            owner=visit.owner,
            creator=visit.user.id,
            name=visit.form.get("name", ""),
            kind=_kind(visit.form.get("kind", "")),
            limit=_limit(visit.form.get("limit", ""), visit.form.get("limit_reset", "")),
        )
    except InvalidField as wrong:
        spent.give_back(form)
        return await _page(visit, wrong.status, {wrong.field: wrong.sentence})
    except BursarError:
        spent.give_back(form)
        raise
    return await _page(visit, created={"name": key.name, "secret": secret, "kind": key.kind.value})


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
        text="Whatever uses it stops working at once; requests that run already finish. Its past activity "
        "stays. This cannot be undone.",
        action=f"{visit.base}/keys/{key.id}/delete",
        fields=[],
        verb="Delete key",
        cancel_url=f"{visit.base}/keys",
        danger=True,
    )


async def delete(visit: Visit) -> Response:
    key = await actions.delete_key(visit.site.parts.database, visit.actor, owner=visit.owner, key=_key_id(visit))
    return redirect(visit, f"{visit.base}/keys", f"The key {key.name} is deleted.")


async def _set_disabled(visit: Visit, *, disabled: bool) -> Response:
    key = await actions.set_key_disabled(
        visit.site.parts.database, visit.actor, owner=visit.owner, key=_key_id(visit), disabled=disabled
    )
    said = "is disabled: requests with it are refused" if disabled else "works again"
    return redirect(visit, f"{visit.base}/keys", f"The key {key.name} {said}.")


async def _one_of_mine(visit: Visit) -> Key:
    """The key of the URL, for somebody who may delete it. Raises `NoSuchKey`."""
    wanted = _key_id(visit)
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        key = await keys_room.find_key(snapshot, visit.owner, wanted)
    if key is None or not _may_change(visit, key):
        raise _no_such_key()
    return key


def _may_change(visit: Visit, key: Key) -> bool:
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


def _limit(amount: str, period: str) -> Allowing | None:
    """An empty amount is no limit."""
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


async def _page(
    visit: Visit,
    status: int = 200,
    errors: dict[str, str] | None = None,
    created: dict[str, str] | None = None,
) -> Response:
    sees_all = visit.may(Permission.MANAGE_ALL_KEYS)
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        rows = await reports.key_list(snapshot, visit.owner, creator=None if sees_all else visit.user.id)
    kept = visit.form if errors else {}
    return render(
        visit,
        "keys.html",
        status=status,
        keys=[_row(visit, row) for row in rows],
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
        },
        periods=_PERIODS,
        form_id=secrets.mint_token(),
        errors=errors or {},
    )


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


def _row(visit: Visit, row: KeyRow) -> dict[str, Any]:
    key = row.key
    return {
        "id": key.id,
        "name": key.name,
        "label": key.label,
        "kind": key.kind.value,
        "creator": row.creator_name,
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "spend_month_nanos": row.spent_this_month,
        "limit": None if row.use is None else _use(row.use),
        "disabled": key.disabled_at is not None,
        "can_change": _may_change(visit, key),
    }
