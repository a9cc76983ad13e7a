"""The catalogue as OpenRouter's clients read it."""

from collections.abc import Iterable
from typing import Any

from bursar.catalog._catalog import Endpoint, Model, cheapest_first
from bursar.catalog._pricing import Pricing
from bursar.kernel.money import price_text

NO_PRICE = "-1"
"""How OpenRouter writes a price that is not known beforehand; "0" would say free."""


def public_model(model: Model, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """`Model` of `GET /models` with every key OpenRouter's clients require; the prices are the cheapest endpoint's.

    Prices are strings of USD per unit. Of a model without any priced endpoint they are "-1".
    """
    offers = cheapest_first(endpoints)
    first = next((offer for offer in offers if offer.pricing is not None), None)
    limits: tuple[int, int | None] = (
        (model.context_length, model.max_completion_tokens)
        if first is None
        else (first.context_length, first.max_completion_tokens)
    )
    return {
        "id": model.id,
        "canonical_slug": model.id,
        "name": model.name,
        "created": model.created,
        "description": model.description,
        "context_length": model.context_length,
        "architecture": {
            "modality": f"{'+'.join(model.input_modalities)}->{'+'.join(model.output_modalities)}",
            "input_modalities": list(model.input_modalities),
            "output_modalities": list(model.output_modalities),
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": public_pricing(None if first is None else first.pricing),
        "top_provider": {
            "is_moderated": False,
            "context_length": limits[0],
            "max_completion_tokens": limits[1],
        },
        "per_request_limits": None,
        "supported_parameters": list(model.supported_parameters),
        "supported_voices": None,
        "default_parameters": None,
        "links": {"details": f"/api/v1/models/{model.id}/endpoints"},
    }


def public_pricing(pricing: Pricing | None) -> dict[str, str]:
    """Prices as strings of USD per unit; the optional classes only where the endpoint has a price of its own for them."""
    if pricing is None:
        return {"prompt": NO_PRICE, "completion": NO_PRICE}
    prices = {
        "prompt": pricing.prompt,
        "completion": pricing.completion,
        "request": pricing.request,
        "image": pricing.image,
        "input_cache_read": pricing.input_cache_read,
        "input_cache_write": pricing.input_cache_write,
        "internal_reasoning": pricing.internal_reasoning,
    }
    return {name: price_text(price) for name, price in prices.items() if price is not None}
