"""Providers, models, endpoints and their prices: what can be offered. Loaded once, immutable, replaced by a reload."""

from bursar.catalog._catalog import (
    QUANTIZATIONS,
    Catalog,
    Endpoint,
    Model,
    Operation,
    Provider,
    cheapest_first,
    endpoint_id,
    nominal_price,
)
from bursar.catalog._demo import DEMO_PROVIDER, demo_endpoints
from bursar.catalog._errors import CatalogError
from bursar.catalog._known import KNOWN_PROVIDERS, OLLAMA_VARIABLE, KnownProvider, local_base_url
from bursar.catalog._load import load
from bursar.catalog._pricing import ChargeLine, Pricing, Usage, charge, dearest_input, dearest_output, explain
from bursar.catalog._public import public_model, public_pricing
from bursar.catalog._toml import PROTOCOLS

__all__ = [
    "DEMO_PROVIDER",
    "KNOWN_PROVIDERS",
    "OLLAMA_VARIABLE",
    "PROTOCOLS",
    "QUANTIZATIONS",
    "Catalog",
    "CatalogError",
    "ChargeLine",
    "Endpoint",
    "KnownProvider",
    "Model",
    "Operation",
    "Pricing",
    "Provider",
    "Usage",
    "charge",
    "cheapest_first",
    "dearest_input",
    "dearest_output",
    "demo_endpoints",
    "endpoint_id",
    "explain",
    "load",
    "local_base_url",
    "nominal_price",
    "public_model",
    "public_pricing",
]
