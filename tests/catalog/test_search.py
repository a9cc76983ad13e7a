"""Lists of models: what each filter keeps, and how they are sorted."""

from decimal import Decimal
from typing import Any

import pytest

from bursar.catalog import (
    UNMEASURED,
    Catalog,
    Endpoint,
    Model,
    ModelQuery,
    ModelSort,
    Pricing,
    Provider,
    Speed,
    list_models,
)
from bursar.kernel.money import parse_price

NOW = 1_795_000_000
DAY = 86_400


def provider(slug: str, **more: Any) -> Provider:
    return Provider(slug=slug, name=slug.title(), protocol="openai", **more)


ACME, OTHER = provider("acme", retention_days=0), provider("other")


def endpoint(model: Model, at: Provider, price: tuple[str, str] | None, **more: Any) -> Endpoint:
    pricing = None if price is None else Pricing(*map(parse_price, price))
    return Endpoint(f"{model.id}@{at.slug}", model, at, "up", pricing, model.context_length, **more)


SMALL = Model("acme/small", "Small One", created=NOW - 10 * DAY, context_length=8_000)
LARGE = Model(
    "acme/large",
    "Large One",
    created=NOW - 100 * DAY,
    context_length=200_000,
    input_modalities=("text", "image"),
    supported_parameters=("tools", "reasoning"),
)
OLD = Model("zeta/old", "Old", context_length=100)
VECTORS = Model("zeta/vectors", "Vectors", output_modalities=("embeddings",))
UNPRICED = Model("zeta/unpriced", "Unpriced")
CATALOG = Catalog(
    [ACME, OTHER],
    [SMALL, LARGE, OLD, VECTORS, UNPRICED],
    [
        endpoint(SMALL, ACME, ("0.000001", "0.000002")),
        endpoint(LARGE, OTHER, ("0.000003", "0.000015")),
        endpoint(LARGE, ACME, ("0.000004", "0.000015")),
        endpoint(OLD, OTHER, ("0", "0")),
        endpoint(VECTORS, OTHER, ("0.00000002", "0")),
        endpoint(UNPRICED, OTHER, None),
    ],
)


def found(may_use: Any = lambda _endpoint: True, speeds: dict[str, Speed] | None = None, **query: Any) -> list[str]:
    speed = (speeds or {}).get
    listed = list_models(
        CATALOG, ModelQuery(**query), NOW, may_use=may_use, speed=lambda name: speed(name) or UNMEASURED
    )
    return [each.model.id.partition("/")[2] for each in listed]


def test_without_a_filter_every_model_with_a_price_is_listed_by_id():
    assert found() == ["large", "small", "old", "vectors"]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ({"text": "LARGE"}, ["large"]),
        ({"text": " one "}, ["large", "small"]),
        ({"text": "acme/"}, ["large", "small"]),
        ({"text": "nothing"}, []),
        ({"supported_parameters": ("tools",)}, ["large", "small", "old", "vectors"]),
        ({"supported_parameters": ("tools", "reasoning")}, ["large"]),
        ({"input_modalities": ("text", "image")}, ["large"]),
        ({"output_modalities": ("embeddings",)}, ["vectors"]),
        ({"output_modalities": ("embeddings", "text")}, ["large", "small", "old", "vectors"]),
        ({"authors": ("ZETA",)}, ["old", "vectors"]),
        ({"providers": ("acme",)}, ["large", "small"]),
        ({"providers": ("Other",)}, ["large", "old", "vectors"]),
        ({"context_min": 8_000}, ["large", "small", "vectors"]),
        ({"context_min": 8_001}, ["large", "vectors"]),
        ({"prompt_price_max": Decimal(1)}, ["small", "old", "vectors"]),
        ({"prompt_price_max": Decimal("0.999999999999")}, ["old", "vectors"]),
        ({"prompt_price_min": Decimal(1)}, ["large", "small"]),
        ({"prompt_price_min": Decimal(3), "prompt_price_max": Decimal(3)}, ["large"]),
        ({"completion_price_min": Decimal("2.5")}, ["large"]),
        ({"completion_price_max": Decimal(0)}, ["old", "vectors"]),
        ({"age_days_min": 10}, ["large", "small"]),
        ({"age_days_min": 11}, ["large"]),
        ({"age_days_max": 10}, ["small"]),
        ({"zdr": True}, ["large", "small"]),
        ({"zdr": True, "context_min": 100_000}, ["large"]),
        ({"prompt_price_max": Decimal("1e400000")}, ["large", "small", "old", "vectors"]),
    ],
)
def test_a_filter_keeps_what_fits_and_nothing_else(query: dict[str, Any], kept: list[str]):
    assert found(**query) == kept


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("pricing-low-to-high", ["old", "vectors", "small", "large"]),
        ("pricing-high-to-low", ["large", "small", "vectors", "old"]),
        ("context-high-to-low", ["large", "vectors", "small", "old"]),
        ("newest", ["small", "large", "old", "vectors"]),
        ("latency-low-to-high", ["old", "large", "small", "vectors"]),
        ("throughput-high-to-low", ["large", "old", "small", "vectors"]),
    ],
)
def test_a_sort_puts_what_it_knows_nothing_of_last(sort: ModelSort, order: list[str]):
    speeds = {
        "acme/large@acme": Speed(latency=900, throughput=10),
        "acme/large@other": Speed(latency=300, throughput=90),
        "zeta/old@other": Speed(latency=100, throughput=50),
    }
    assert found(sort=sort, speeds=speeds) == order


def test_only_what_may_be_used_is_listed_and_priced():
    assert found(may_use=lambda each: each.provider is ACME) == ["large", "small"]
    [large] = list_models(
        CATALOG, ModelQuery(text="large"), NOW, may_use=lambda each: each.provider is ACME, speed=lambda _: UNMEASURED
    )
    assert [each.provider for each in large.endpoints] == [ACME]
    assert large.pricing.prompt == parse_price("0.000004")
    assert found(may_use=lambda _: False) == []
