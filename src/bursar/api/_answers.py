"""Our records as OpenRouter's clients read them: every key that a strict client requires is always there."""

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from starlette.responses import Response

from bursar import actions
from bursar.gateway import encode, limit_scope
from bursar.kernel.errors import InvalidInput
from bursar.kernel.ids import OwnerId, is_personal
from bursar.kernel.money import ZERO, credits_text, price_text, to_credits
from bursar.keys import Key, KeyKind
from bursar.ledger import LimitUse, Period
from bursar.reports import CreditTotals, KeyUsage, Receipt
from bursar.storage import Database

_NAMESPACE = UUID("6f0f5f0a-3c0e-5b0c-9a4e-b0c5a5b0c5a5")
_ZERO = Decimal(0)


class InvalidParameter(InvalidInput):
    """A query parameter that does not fit the description."""


class NothingToUpdate(InvalidParameter):
    """A PATCH without a field that can be changed."""


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


async def acknowledged(database: Database) -> dict[str, Any]:
    """Whether every worker honours what was just taken away; waits for a moment."""
    heard = await actions.ask_who_heard(database)
    return {"acknowledged": heard.everywhere, "acknowledged_by": heard.by, "workers": heard.of}


def workspace_of(owner: OwnerId) -> str:
    """Workspaces exist on the wire only: a stable UUID per owner."""
    return str(uuid5(_NAMESPACE, owner))


def _limit_and_usage(found: Key, usage: KeyUsage | None, use: LimitUse | None) -> dict[str, Any]:
    """`use`: of the key's limit in its present window; what remains is of that window, never of the key's life."""
    usage = usage or KeyUsage(ZERO, ZERO, ZERO, ZERO)
    return {
        "label": found.label,
        "limit": None if use is None else to_credits(use.limit.amount),
        "limit_remaining": None if use is None else to_credits(use.remaining),
        "limit_reset": None if use is None else _reset(use.limit.period),
        "include_byok_in_limit": found.include_byok_in_limit,
        "usage": to_credits(usage.total),
        "usage_daily": to_credits(usage.daily),
        "usage_weekly": to_credits(usage.weekly),
        "usage_monthly": to_credits(usage.monthly),
        "byok_usage": _ZERO,
        "byok_usage_daily": _ZERO,
        "byok_usage_weekly": _ZERO,
        "byok_usage_monthly": _ZERO,
        "creator_user_id": found.creator,
        "workspace_id": workspace_of(found.owner),
        "expires_at": None if found.expires_at is None else time_text(found.expires_at),
    }


def managed_key(found: Key, usage: KeyUsage | None, use: LimitUse | None) -> dict[str, Any]:
    """A key as a management key sees it."""
    return {
        **_limit_and_usage(found, usage, use),
        "hash": found.hash,
        "name": found.name,
        "disabled": found.disabled_at is not None,
        "created_at": time_text(found.created_at),
        "updated_at": None if found.updated_at is None else time_text(found.updated_at),
        "last_used_at": None if found.last_used_at is None else time_text(found.last_used_at),
        "external_user": None,
        "rotated_at": None if found.rotated_at is None else time_text(found.rotated_at),
        "previous_hash": found.previous_hash,
        "previous_label": found.previous_label,
        "previous_until": None if found.previous_until is None else time_text(found.previous_until),
    }


_SCOPES = {"key": "key_limit", "member": "member", "organization": "workspace"}
"""In OpenRouter's words."""


def budget(use: LimitUse) -> dict[str, Any]:
    """A limit in its present window. `remaining_usd` of 0 or less: nothing that costs is served."""
    return {
        "scope": _SCOPES[limit_scope(use.limit)],
        "budget_id": None,
        "guardrail_id": None,
        "include_byok": False,
        "limit_usd": to_credits(use.limit.amount),
        "spend_usd": to_credits(use.used),
        "remaining_usd": to_credits(use.limit.amount - use.used),
        "reset_interval": _reset(use.limit.period),
        "resets_at": None if use.resets_at is None else time_text(use.resets_at),
    }


def _reset(period: Period) -> str | None:
    return None if period is Period.TOTAL else period.value


def time_text(moment: datetime) -> str:
    """ISO 8601 in UTC, with Z."""
    return moment.isoformat().replace("+00:00", "Z")


def key(found: Key, usage: KeyUsage, totals: CreditTotals, uses: Sequence[LimitUse]) -> dict[str, Any]:
    """A key as it sees itself. `uses`: every limit that binds it, the narrowest first."""
    is_management = found.kind is KeyKind.MANAGEMENT
    own = next((use for use in uses if use.limit.subject == found.id), None)
    least = min(uses, key=lambda use: use.limit.amount - use.used, default=None)
    return {
        **_limit_and_usage(found, usage, own),
        "is_free_tier": totals.total_credits == 0,
        "is_management_key": is_management,
        "is_provisioning_key": is_management,
        "organization_id": None if is_personal(found.owner) else found.owner,
        "allowed_data_regions": ["global"],
        "budgets": [budget(use) for use in uses],
        "effective_budget": None if least is None else budget(least),
        # -1: no such limit here; the keys are there because strict clients require them.
        "free_model_daily_requests": {"limit": -1, "used": 0, "remaining": -1},
        "rate_limit": {"interval": "10s", "note": "This field is deprecated and safe to ignore.", "requests": -1},
    }


def credits_(totals: CreditTotals) -> dict[str, Any]:
    return {"total_credits": to_credits(totals.total_credits), "total_usage": to_credits(totals.total_usage)}


def generation(receipt: Receipt) -> dict[str, Any]:
    found, saved = receipt.generation, receipt.saved_by_caching
    cost = to_credits(found.cost_nanos)
    first = found.first_token_ms
    tried = json.loads(found.attempts)
    served = next((attempt for attempt in reversed(tried) if attempt["endpoint_id"] == found.endpoint_id), None)
    return {
        "id": found.id,
        "created_at": found.created_at.isoformat().replace("+00:00", "Z"),
        "model": found.model,
        # The name that the answer told, which the activity keeps with the attempt; `provider` is the slug.
        "provider_name": found.provider if served is None else served["provider_name"],
        "usage": cost,
        "total_cost": cost,
        "is_byok": False,
        "origin": found.http_referer or "",
        "data_region": "global",
        "streamed": found.streamed,
        "cancelled": found.cancelled,
        "latency": found.duration_ms if first is None else first,
        "generation_time": found.duration_ms if first is None else found.duration_ms - first,
        "moderation_latency": None,
        "finish_reason": found.finish_reason,
        "native_finish_reason": found.native_finish_reason,
        "tokens_prompt": found.prompt_tokens,
        "tokens_completion": found.completion_tokens,
        "native_tokens_prompt": found.prompt_tokens,
        "native_tokens_completion": found.completion_tokens,
        "native_tokens_reasoning": found.reasoning_tokens,
        "native_tokens_cached": found.cached_tokens,
        "native_tokens_completion_images": found.image_output_tokens,
        "num_media_prompt": found.images + found.sounds,
        "num_media_completion": found.media_made,
        "num_input_audio_prompt": found.sounds,
        "num_search_results": None,
        "num_fetches": None,
        "cache_discount": None if saved is None else to_credits(saved),
        "upstream_inference_cost": None,
        "upstream_id": found.upstream_id,
        "app_id": None,
        "http_referer": found.http_referer,
        "user_agent": found.user_agent,
        "external_user": found.external_user,
        "api_type": found.api_type,
        "router": None,
        "preset_id": None,
        "service_tier": None,
        "web_search_engine": None,
        "provider_responses": [
            {
                "status": attempt["status"],
                "endpoint_id": attempt["endpoint_id"],
                # A string or nothing: OpenRouter's TypeScript client refuses null.
                **({"id": found.upstream_id} if attempt is served and found.upstream_id is not None else {}),
                "is_byok": False,
                "latency": attempt["latency_ms"],
                "model_permaslug": attempt["model"],
                "provider_name": attempt["provider_name"],
            }
            for attempt in tried
        ],
        "workspace_id": workspace_of(found.owner_id),
        "session_id": found.session_id,
    }


def receipt(found: Receipt) -> dict[str, Any]:
    """Amounts are exact decimals as text: they are finer than a nano until they are rounded up."""
    saved, lines = found.saved_by_caching, found.lines
    return {
        "id": found.generation.id,
        "model": found.generation.model,
        "usage_source": found.source.value,
        "price_version": found.generation.price_version,
        "lines": None
        if lines is None
        else [
            {"class": line.kind, "count": line.count, "price": price_text(line.price), "amount": price_text(line.attos)}
            for line in lines
        ],
        "subtotal": None if lines is None else price_text(found.subtotal_attos),
        "rounding": None if lines is None else price_text(found.rounding_attos),
        "not_charged": None if lines is None else credits_text(found.not_charged),
        "charged": credits_text(found.charged),
        "charged_nanos": found.charged,
        "cache_discount": None if saved is None else credits_text(saved),
    }
