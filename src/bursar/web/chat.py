"""Trying any model in the current context: streamed by the gateway, billed to the context's owner, kept in the browser's tab."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from starlette.responses import JSONResponse, Response

from bursar import reports
from bursar.access import Permission
from bursar.kernel.errors import InvalidField, PaymentRequired
from bursar.kernel.ids import GenerationId, is_id
from bursar.reports import FeedRow, Person
from bursar.web._context import Visit
from bursar.web._feed import finish_of
from bursar.web._gateway import GatewayAnswer, complete
from bursar.web._models import Offer, model_url, offers_of, price_in_words
from bursar.web._pages import render
from bursar.web._render import compact, usd_cost, usd_exact

TEMPERATURE_MAX = 2
TOKENS_DIGITS_MAX = 7
_TEMPERATURE = re.compile(r"[0-9](\.[0-9]{1,4})?", re.ASCII)


@dataclass(frozen=True)
class Turn:
    """One question that was sent as a form, and what came of it."""

    question: str
    text: str = ""
    receipt: Mapping[str, Any] | None = None
    refusal: str | None = None
    needs_credits: bool = False


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def stream(visit: Visit) -> Response:
    return GatewayAnswer(visit)


async def receipt(visit: Visit) -> Response:
    """What one answer was and cost, once it is charged; nothing (204) until then, and for what is none of this owner's."""
    generation = visit.path("generation")
    found = await _find_receipt(visit, generation) if is_id(generation, "gen") else None
    return Response(status_code=204) if found is None else JSONResponse(found)


async def ask(visit: Visit) -> Response:
    """One whole answer, for browsers without scripts: each question stands alone."""
    question = visit.form.get("message", "").strip()
    try:
        body = {"model": visit.form.get("model", ""), "messages": _messages(visit, question), **_options(visit)}
    except InvalidField as wrong:
        return await _page(visit, wrong.status, errors={wrong.field: wrong.sentence})
    status, answer = await complete(visit, body)
    if "error" in answer:
        return await _page(visit, status, turn=_refused(status, question, answer["error"]))
    text = answer["choices"][0]["message"].get("content") or ""
    return await _page(visit, turn=Turn(question, text, await _find_receipt(visit, answer["id"])))


def _refused(status: int, question: str, error: Mapping[str, Any]) -> Turn:
    """Whom to ask for credits the page says better than the gateway, which does not know who reads it."""
    text, needs_credits = str(error["message"]), status == PaymentRequired.status
    if needs_credits:
        text = text.removesuffix(error["metadata"].get("remedy_hint", "")).strip()
    return Turn(question, refusal=text, needs_credits=needs_credits)


def _messages(visit: Visit, question: str) -> list[dict[str, str]]:
    """Raises `InvalidField`."""
    if not question:
        raise InvalidField("message", "Write a message first.")
    system = visit.form.get("system", "").strip()
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": question}]


def _options(visit: Visit) -> dict[str, Any]:
    """The fields that were filled in. Raises `InvalidField`."""
    options: dict[str, Any] = {}
    tokens, temperature = visit.form.get("max_tokens", "").strip(), visit.form.get("temperature", "").strip()
    if tokens:
        if not (tokens.isascii() and tokens.isdigit() and len(tokens) <= TOKENS_DIGITS_MAX and int(tokens)):
            raise InvalidField("max_tokens", "A whole number, like 1000.")
        options["max_tokens"] = int(tokens)
    if temperature:
        if not _TEMPERATURE.fullmatch(temperature) or Decimal(temperature) > TEMPERATURE_MAX:
            raise InvalidField("temperature", f"A number from 0 to {TEMPERATURE_MAX}, like 0.7.")
        options["temperature"] = Decimal(temperature)
    return options


async def _find_receipt(visit: Visit, generation: str) -> dict[str, Any] | None:
    await visit.site.parts.gateway.caught_up()
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        row = await reports.feed_row(snapshot, visit.owner, GenerationId(generation))
    return None if row is None else _receipt(visit, row)


def _receipt(visit: Visit, row: FeedRow) -> dict[str, Any]:
    return {
        "model": row.model,
        "provider": row.provider,
        "tokens_in": row.prompt_tokens,
        "tokens_out": row.completion_tokens,
        "tokens_per_second": row.tokens_per_second,
        "finish": finish_of(row),
        "cost_nanos": row.cost,
        "cost": usd_cost(row.cost),
        "cost_exact": usd_exact(row.cost),
        "url": f"{visit.base}/activity?at={row.id}#{row.id}",
    }


async def _page(
    visit: Visit, status: int = 200, *, turn: Turn | None = None, errors: Mapping[str, str] | None = None
) -> Response:
    offers = [offer for offer in offers_of(visit.site.parts.catalog()) if offer.chats]
    wanted = visit.form.get("model") or visit.query("model")
    return render(
        visit,
        "chat.html",
        status=status,
        models=[_choice(visit, offer) for offer in offers],
        model=_default(visit, offers, wanted),
        is_chosen=any(offer.model.id == wanted for offer in offers),
        memory=f"{visit.user.id}/{visit.owner}",
        admins=await _admins(visit),
        turn=turn,
        form={name: visit.form.get(name, "") for name in ("system", "max_tokens", "temperature")}
        | {"message": visit.form.get("message", "") if errors or (turn and turn.refusal) else ""},
        errors=errors or {},
    )


def _choice(visit: Visit, offer: Offer) -> dict[str, Any]:
    return {
        "id": offer.model.id,
        "name": offer.model.name,
        "price": price_in_words(offer.pricing),
        "context": compact(offer.model.context_length),
        "url": model_url(visit, offer.model),
    }


def _default(visit: Visit, offers: Sequence[Offer], wanted: str) -> str | None:
    """The one that was asked for, the installation's example, or the first; None where there is none."""
    ids = [offer.model.id for offer in offers]
    for candidate in (wanted, visit.site.parts.example_model()):
        if candidate in ids:
            return candidate
    return ids[0] if ids else None


async def _admins(visit: Visit) -> Sequence[Person]:
    """Whom somebody who cannot buy credits asks for them."""
    organization = visit.here.organization
    if organization is None or visit.may(Permission.BUY_CREDITS):
        return ()
    async with visit.site.parts.database.snapshot(visit.scope) as snapshot:
        return await reports.admins_of(snapshot, organization)
