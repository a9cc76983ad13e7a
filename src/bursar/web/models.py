"""The catalogue: which models there are, at which prices, from whom, and what those do with prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from bursar.catalog import Endpoint, Model, Provider, nominal_price
from bursar.gateway import Condition
from bursar.kernel.errors import NotFound
from bursar.web._context import Visit
from bursar.web._models import Offer, chat_url, model_url, offers_of, price_in_words, prices_by_class
from bursar.web._pages import is_fragment, render
from bursar.web._render import compact, usd_per_million

PAGE_MODELS = 50
SEARCH_CHARACTERS_MAX = 100
CONTEXTS = (("32000", "32K"), ("128000", "128K"), ("200000", "200K"), ("1000000", "1M"))
"""What the context length can be filtered by: tokens at least, and how that is written."""
SORTS: dict[str, tuple[str, Callable[[Offer], Any]]] = {
    "name": ("By name", lambda offer: offer.model.name.casefold()),
    "price": ("Cheapest first", lambda offer: nominal_price(offer.pricing)),
    "context": ("Longest context", lambda offer: -offer.model.context_length),
    "newest": ("Newest first", lambda offer: -offer.model.created),
}
MODALITIES = {
    "reads-image": "Reads images",
    "reads-file": "Reads files",
    "reads-audio": "Hears audio",
    "reads-video": "Watches video",
    "makes-text": "Writes text",
    "makes-image": "Makes images",
    "makes-embeddings": "Makes embeddings",
}


class NoSuchModel(NotFound):
    """The catalogue has no model of this id."""


@dataclass(frozen=True)
class Wanted:
    """The filters as the URL says them; what makes no sense there is as if it were not."""

    search: str
    modality: str
    provider: str
    context: str
    is_free: bool
    sort: str

    @classmethod
    def read(cls, visit: Visit) -> "Wanted":
        modality, context, sort = visit.query("modality"), visit.query("context"), visit.query("sort")
        return cls(
            visit.query("q").strip()[:SEARCH_CHARACTERS_MAX],
            modality if modality in MODALITIES else "",
            visit.query("provider")[:SEARCH_CHARACTERS_MAX],
            context if context in dict(CONTEXTS) else "",
            visit.query("free") == "1",
            sort if sort in SORTS else "name",
        )

    def matches(self, offer: Offer) -> bool:
        model = offer.model
        text = f"{model.id} {model.name} {model.description}".casefold()
        return (
            all(word in text for word in self.search.casefold().split())
            and (not self.modality or self.modality in abilities(model))
            and (not self.provider or any(each.provider.slug == self.provider for each in offer.endpoints))
            and (not self.context or model.context_length >= int(self.context))
            and (not self.is_free or offer.pricing.is_free)
        )

    def query(self, **more: str) -> str:
        values = {
            "q": self.search,
            "modality": self.modality,
            "provider": self.provider,
            "context": self.context,
            "free": "1" if self.is_free else "",
            "sort": self.sort if self.sort != "name" else "",
        }
        return urlencode({name: value for name, value in (values | more).items() if value})


def abilities(model: Model) -> set[str]:
    """The keys of `MODALITIES` that hold for it, and others that nobody filters by."""
    return {f"reads-{kind}" for kind in model.input_modalities} | {f"makes-{kind}" for kind in model.output_modalities}


async def show(visit: Visit) -> Response:
    wanted = Wanted.read(visit)
    offers = offers_of(visit.site.parts.catalog())
    found = sorted((offer for offer in offers if wanted.matches(offer)), key=SORTS[wanted.sort][1])
    last = max(1, -(-len(found) // PAGE_MODELS))
    page = min(_number(visit.query("page")), last)
    shown = found[(page - 1) * PAGE_MODELS : page * PAGE_MODELS]
    there = set().union(*(abilities(offer.model) for offer in offers)) if offers else set()
    response = render(
        visit,
        "_models.html" if is_fragment(visit.request) else "models.html",
        wanted=wanted,
        any_models=bool(offers),
        modalities=[(key, label) for key, label in MODALITIES.items() if key in there],
        providers=_providers(offers),
        contexts=CONTEXTS,
        sorts=[(key, label) for key, (label, _) in SORTS.items()],
        models=[_row(visit, offer) for offer in shown],
        count=len(found),
        pager=_pager(visit, wanted, page, last),
    )
    response.headers["Vary"] = "HX-Request, HX-Request-Type, Cookie"
    return response


async def show_one(visit: Visit) -> Response:
    """Raises `NoSuchModel`."""
    catalog = visit.site.parts.catalog()
    name = f"{visit.path('author')}/{visit.path('model')}"
    model = catalog.find_model(name)
    if model is None:
        close = catalog.close_matches(name)
        raise NoSuchModel(
            f"There is no model {name[:120]} here.",
            remedy=f"Did you mean {' or '.join(close)}?" if close else "Go back to the list of models.",
        )
    look = visit.site.parts.health()
    offer = next((offer for offer in offers_of(catalog) if offer.model.id == model.id), None)
    return render(
        visit,
        "model.html",
        model=model,
        offer=None if offer is None else {"prices": prices_by_class(offer.pricing), "chats": offer.chats},
        abilities=[label for key, label in MODALITIES.items() if key in abilities(model)],
        created=datetime.fromtimestamp(model.created, UTC) if model.created else None,
        chat_url=chat_url(visit, model),
        endpoints=[_endpoint(endpoint, look(endpoint.id)) for endpoint in catalog.offers_for(model.id)],
        api_base=visit.site.parts.api_base,
    )


def _row(visit: Visit, offer: Offer) -> dict[str, Any]:
    model, pricing = offer.model, offer.pricing
    names = list(dict.fromkeys(endpoint.provider.name for endpoint in offer.endpoints))
    return {
        "id": model.id,
        "name": model.name,
        "url": model_url(visit, model),
        "chat_url": chat_url(visit, model) if offer.chats else None,
        "context": compact(model.context_length),
        "context_exact": f"{model.context_length:,} tokens",
        "input": "Free" if pricing.is_free else usd_per_million(pricing.prompt),
        "output": "Free" if pricing.is_free else usd_per_million(pricing.completion),
        "extra": price_in_words(pricing) if pricing.request or pricing.image else None,
        "providers": names,
        "abilities": [label for key, label in MODALITIES.items() if key in abilities(model) and key != "makes-text"],
    }


def _endpoint(endpoint: Endpoint, condition: Condition) -> dict[str, Any]:
    kind, text = _health(condition)
    latency, throughput = condition.latency_micros, condition.throughput_millis
    return {
        "provider": endpoint.provider.name,
        "slug": endpoint.provider.slug,
        "is_local": endpoint.provider.is_local,
        "prices": None if endpoint.pricing is None else prices_by_class(endpoint.pricing),
        "quantization": endpoint.quantization,
        "context": compact(endpoint.context_length),
        "most": None if endpoint.max_completion_tokens is None else compact(endpoint.max_completion_tokens),
        "policy": _policy(endpoint.provider),
        "health_kind": kind,
        "health": text,
        "latency": None if latency is None else f"{latency // 1000:,} ms",
        "throughput": None if throughput is None else f"{throughput // 1000:,} tok/s",
    }


def _policy(provider: Provider) -> dict[str, str]:
    days = provider.retention_days
    keeps = {None: "Unknown", 0: "Not at all"}.get(days, f"{days} {'day' if days == 1 else 'days'}")
    return {
        "training": "May train on prompts" if provider.training else "Does not train on prompts",
        "retention": keeps,
        "zdr": "Yes" if days == 0 else "No",
    }


def _health(condition: Condition) -> tuple[str, str]:
    """The kind of dot, and what this process knows of the endpoint."""
    if condition.needs_person:
        return "bad", "Needs the operator"
    if condition.is_open:
        return "bad", f"Resting, tried again in {condition.retry_after_seconds} s"
    if condition.has_outage:
        return "warn", "Failing often"
    if condition.latency_micros is None and condition.throughput_millis is None:
        return "", "Not used lately"
    return "good", "Answers"


def _providers(offers: Sequence[Offer]) -> list[tuple[str, str]]:
    there = {endpoint.provider.slug: endpoint.provider.name for offer in offers for endpoint in offer.endpoints}
    return sorted(there.items(), key=lambda each: each[1].casefold())


def _number(text: str) -> int:
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) <= 6 else 1


def _pager(visit: Visit, wanted: Wanted, page: int, last: int) -> dict[str, Any]:
    def url(number: int) -> str:
        query = wanted.query(page=str(number) if number > 1 else "")
        return f"{visit.base}/models{'?' + query if query else ''}"

    return {
        "text": f"Page {page} of {last}" if last > 1 else "",
        "newer_url": url(page - 1) if page > 1 else None,
        "older_url": url(page + 1) if page < last else None,
    }
