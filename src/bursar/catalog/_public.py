"""The catalogue as OpenRouter's clients read it."""

from collections.abc import Iterable
from typing import Any

from bursar.catalog._catalog import Endpoint, Model, Provider, cheapest_first
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
        "architecture": _architecture(model),
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


def public_endpoints(model: Model, endpoints: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """`GET /models/{author}/{slug}/endpoints`: the model, and what `public_endpoint` wrote of each who serves it."""
    return {
        "id": model.id,
        "name": model.name,
        "created": model.created,
        "description": model.description,
        "architecture": _architecture(model),
        "endpoints": list(endpoints),
    }


def public_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    """`PublicEndpoint` but for its five keys of performance, which only the gateway knows."""
    model, provider = endpoint.model, endpoint.provider
    takes_choice = "tool_choice" in model.supported_parameters
    return {
        "name": f"{provider.name} | {model.id}",
        "model_id": model.id,
        "model_name": model.name,
        "provider_name": provider.name,
        "tag": endpoint.tag,
        "context_length": endpoint.context_length,
        "max_completion_tokens": endpoint.max_completion_tokens,
        "max_prompt_tokens": None,
        "quantization": endpoint.quantization,
        "service_tier": None,
        "pricing": public_pricing(endpoint.pricing),
        "supported_parameters": list(model.supported_parameters),
        # Who has a price for what its cache served, and no marks in its protocol to ask for that, caches by itself.
        "supports_implicit_caching": (
            provider.protocol != "anthropic"
            and endpoint.pricing is not None
            and endpoint.pricing.input_cache_read is not None
        ),
        "supports_diarization": False,
        "supports_tool_choice": dict.fromkeys(("auto", "none", "required", "function"), takes_choice),
        "native_tools": {},
    }


def public_provider(provider: Provider) -> dict[str, Any]:
    """One of `GET /providers`. Where it has its papers and its machines is not in the catalogue."""
    return {
        "name": provider.name,
        "slug": provider.slug,
        "privacy_policy_url": None,
        "terms_of_service_url": None,
        "status_page_url": None,
        "headquarters": None,
        "datacenters": None,
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
        "input_cache_write_1h": pricing.input_cache_write_1h,
        "internal_reasoning": pricing.internal_reasoning,
        "audio": pricing.audio,
        "image_token": pricing.image_token,
        "audio_output": pricing.audio_output,
        "image_output": pricing.image_output,
    }
    return {name: price_text(price) for name, price in prices.items() if price is not None}


def _architecture(model: Model) -> dict[str, Any]:
    return {
        "modality": f"{'+'.join(model.input_modalities)}->{'+'.join(model.output_modalities)}",
        "input_modalities": list(model.input_modalities),
        "output_modalities": list(model.output_modalities),
        "tokenizer": "Other",
        "instruct_type": None,
    }
