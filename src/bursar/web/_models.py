"""What chat and the catalogue's pages both say of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bursar.catalog import Catalog, Endpoint, Model, Pricing
from bursar.web._context import Visit
from bursar.web._render import usd_per_million, usd_price


@dataclass(frozen=True)
class Offer:
    """A model somebody serves at a price, and who does, cheapest first."""

    model: Model
    endpoints: Sequence[Endpoint]
    pricing: Pricing
    """The cheapest endpoint's."""

    @property
    def chats(self) -> bool:
        return self.model.operation == "chat"


def offers_of(catalog: Catalog) -> list[Offer]:
    """Every model with a price, by id."""
    found = []
    for model in catalog.models():
        endpoints = [endpoint for endpoint in catalog.offers_for(model.id) if endpoint.pricing is not None]
        if endpoints and endpoints[0].pricing is not None:
            found.append(Offer(model, endpoints, endpoints[0].pricing))
    return found


def price_in_words(pricing: Pricing) -> str:
    """In short, beside a name: "$0.15 in · $0.60 out", "$0.01 per request", "Free"."""
    if pricing.is_free:
        return "Free"
    parts = []
    if pricing.prompt or pricing.completion:
        parts.append(f"{usd_per_million(pricing.prompt)} in")
        parts.append(f"{usd_per_million(pricing.completion)} out")
    if pricing.request:
        parts.append(f"{usd_price(pricing.request)} per request")
    if pricing.image and not parts:
        parts.append(f"{usd_price(pricing.image)} per image")
    return " · ".join(parts)


def chat_url(visit: Visit, model: Model) -> str:
    return f"{visit.base}/chat?model={model.id}"


def model_url(visit: Visit, model: Model) -> str:
    return f"{visit.base}/models/{model.id}"


def prices_by_class(pricing: Pricing) -> list[dict[str, Any]]:
    """Every class with a price of its own; input and output always. `unit`: of what it is the price."""
    per_token = [
        ("Input", pricing.prompt),
        ("Output", pricing.completion),
        ("Cache read", pricing.input_cache_read),
        ("Cache write", pricing.input_cache_write),
        ("Cache write, 1 hour", pricing.input_cache_write_1h),
        ("Reasoning", pricing.internal_reasoning),
        ("Audio input", pricing.audio),
        ("Image input", pricing.image_token),
        ("Audio output", pricing.audio_output),
        ("Image output", pricing.image_output),
    ]
    per_piece = [("Request", pricing.request), ("Image", pricing.image)]
    prices = [
        {"label": label, "text": usd_per_million(price), "unit": "per million tokens"}
        for label, price in per_token
        if price is not None
    ]
    return prices + [
        {"label": label, "text": usd_price(price), "unit": f"per {label.lower()}"}
        for label, price in per_piece
        if price
    ]
