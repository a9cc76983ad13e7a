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
from bursar.catalog._public import public_endpoint, public_endpoints, public_model, public_pricing, public_provider
from bursar.catalog._search import (
    MODALITIES,
    OUTPUT_MODALITIES,
    UNMEASURED,
    Listed,
    ModelQuery,
    ModelSort,
    Speed,
    has_price,
    list_models,
)
from bursar.catalog._toml import PROTOCOLS

__all__ = [
    "DEMO_PROVIDER",
    "KNOWN_PROVIDERS",
    "MODALITIES",
    "OLLAMA_VARIABLE",
    "OUTPUT_MODALITIES",
    "PROTOCOLS",
    "QUANTIZATIONS",
    "UNMEASURED",
    "Catalog",
    "CatalogError",
    "ChargeLine",
    "Endpoint",
    "KnownProvider",
    "Listed",
    "Model",
    "ModelQuery",
    "ModelSort",
    "Operation",
    "Pricing",
    "Provider",
    "Speed",
    "Usage",
    "charge",
    "cheapest_first",
    "dearest_input",
    "dearest_output",
    "demo_endpoints",
    "endpoint_id",
    "explain",
    "has_price",
    "list_models",
    "load",
    "local_base_url",
    "nominal_price",
    "public_endpoint",
    "public_endpoints",
    "public_model",
    "public_pricing",
    "public_provider",
]
