"""A charge is exact: the sum of its lines, rounded up once, and no token is charged twice."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.catalog import (
    COMPLETION_EXTRAS,
    PROMPT_EXTRAS,
    ChargeClass,
    Pricing,
    Usage,
    charge,
    dearest_input,
    dearest_output,
    explain,
    saved_by_caching,
)
from bursar.kernel.money import Attos, parse_price

prices = st.integers(0, 10**16).map(Attos)
maybe_prices = st.none() | prices
counts = st.integers(0, 2_000_000)
pricings = st.builds(
    Pricing,
    prompt=prices,
    completion=prices,
    request=prices,
    image=prices,
    input_cache_read=maybe_prices,
    input_cache_write=maybe_prices,
    internal_reasoning=maybe_prices,
    input_cache_write_1h=maybe_prices,
    audio=maybe_prices,
    image_token=maybe_prices,
    audio_output=maybe_prices,
    image_output=maybe_prices,
)
usages = st.builds(Usage, counts, counts, counts, counts, counts, st.integers(0, 3), st.integers(0, 20), *[counts] * 5)
INPUTS = ("prompt", "input_cache_read", "input_cache_write", "input_cache_write_1h", "audio", "image_token")
OUTPUTS = ("completion", "internal_reasoning", "audio_output", "image_output")


def exact_dollars(pricing: Pricing, usage: Usage) -> Fraction:
    """The same sum written down independently, with fractions of a dollar."""

    def dollars(attos: int) -> Fraction:
        return Fraction(attos, 10**18)

    def either(price: Attos | None, other: Attos) -> Fraction:
        return dollars(other if price is None else price)

    cached = min(usage.cached_tokens, usage.prompt_tokens)
    written = min(usage.cache_write_tokens, usage.prompt_tokens - cached)
    hour = min(usage.cache_write_1h_tokens, written)
    heard = min(usage.audio_tokens, usage.prompt_tokens - cached - written)
    seen = min(usage.image_tokens, usage.prompt_tokens - cached - written - heard)
    thought = min(usage.reasoning_tokens, usage.completion_tokens)
    said = min(usage.audio_output_tokens, usage.completion_tokens - thought)
    drawn = min(usage.image_output_tokens, usage.completion_tokens - thought - said)
    write = pricing.prompt if pricing.input_cache_write is None else pricing.input_cache_write
    return (
        (usage.prompt_tokens - cached - written - heard - seen) * dollars(pricing.prompt)
        + cached * either(pricing.input_cache_read, pricing.prompt)
        + (written - hour) * dollars(write)
        + hour * either(pricing.input_cache_write_1h, write)
        + heard * either(pricing.audio, pricing.prompt)
        + seen * either(pricing.image_token, pricing.prompt)
        + (usage.completion_tokens - thought - said - drawn) * dollars(pricing.completion)
        + thought * either(pricing.internal_reasoning, pricing.completion)
        + said * either(pricing.audio_output, pricing.completion)
        + drawn * either(pricing.image_output, pricing.completion)
        + usage.requests * dollars(pricing.request)
        + usage.images * dollars(pricing.image)
    )


@given(pricings, usages)
def test_a_charge_is_the_exact_sum_rounded_up_once(pricing: Pricing, usage: Usage) -> None:
    exact = exact_dollars(pricing, usage) * 10**9
    charged = charge(pricing, usage)
    assert 0 <= charged - exact < 1


@given(pricings, usages)
def test_the_lines_of_a_receipt_add_up_to_the_charge(pricing: Pricing, usage: Usage) -> None:
    lines = explain(pricing, usage)
    attos = sum(line.count * line.price for line in lines)
    assert charge(pricing, usage) == -(-attos // 10**9)
    assert all(line.count > 0 for line in lines)


@given(pricings, usages)
def test_no_token_is_charged_twice(pricing: Pricing, usage: Usage) -> None:
    lines = {line.kind: line.count for line in explain(pricing, usage)}
    inputs = sum(lines.get(kind, 0) for kind in INPUTS)
    outputs = sum(lines.get(kind, 0) for kind in OUTPUTS)
    assert inputs == usage.prompt_tokens
    assert outputs == usage.completion_tokens


@given(pricings, usages)
def test_no_token_costs_more_than_the_dearest_of_its_side(pricing: Pricing, usage: Usage) -> None:
    ceiling = (
        usage.prompt_tokens * dearest_input(pricing, PROMPT_EXTRAS)
        + usage.completion_tokens * dearest_output(pricing, COMPLETION_EXTRAS)
        + usage.requests * pricing.request
        + usage.images * pricing.image
    )
    assert charge(pricing, usage) <= -(-ceiling // 10**9)


@pytest.mark.parametrize(
    "name",
    [
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "requests",
        "images",
        "cache_write_1h_tokens",
        "audio_tokens",
        "image_tokens",
        "audio_output_tokens",
        "image_output_tokens",
    ],
)
def test_a_negative_count_is_refused(name: str) -> None:
    pricing = Pricing(Attos(1), Attos(1))
    with pytest.raises(ValueError, match="negative"):
        charge(pricing, Usage(**{name: -1}))
    with pytest.raises(ValueError, match="negative"):
        explain(pricing, Usage(**{name: -1}))


def test_a_missing_cache_or_reasoning_price_is_the_price_of_the_whole() -> None:
    pricing = Pricing(parse_price("0.000000007"), parse_price("0.000000013"))
    plain = charge(pricing, Usage(100, 50))
    assert plain == 100 * 7 + 50 * 13
    assert charge(pricing, Usage(100, 50, cached_tokens=60, cache_write_tokens=20, reasoning_tokens=50)) == plain


def test_a_fraction_of_a_nano_is_rounded_up_once_and_not_per_line() -> None:
    pricing = Pricing(parse_price("0.0000000001"), parse_price("0.0000000001"), request=parse_price("0.0000000001"))
    assert charge(pricing, Usage(1, 1)) == 1


def test_a_pricing_is_free_only_when_every_class_is() -> None:
    free = Pricing(Attos(0), Attos(0))
    assert free.is_free
    assert not Pricing(Attos(0), Attos(0), request=Attos(1)).is_free
    assert not Pricing(Attos(0), Attos(0), image=Attos(1)).is_free
    assert not Pricing(Attos(0), Attos(0), internal_reasoning=Attos(1)).is_free
    assert not Pricing(Attos(0), Attos(0), input_cache_write=Attos(1)).is_free
    assert not Pricing(Attos(0), Attos(0), input_cache_write_1h=Attos(1)).is_free
    assert not Pricing(Attos(0), Attos(0), audio=Attos(1)).is_free
    assert not Pricing(Attos(0), Attos(0), image_output=Attos(1)).is_free


@given(pricings, usages)
def test_what_caching_saved_is_what_the_request_would_have_cost_more_without(pricing: Pricing, usage: Usage) -> None:
    plain = Usage(
        usage.prompt_tokens, usage.completion_tokens, 0, 0, usage.reasoning_tokens, usage.requests, usage.images,
        0, usage.audio_tokens, usage.image_tokens, usage.audio_output_tokens, usage.image_output_tokens,
    )  # fmt: skip
    assert saved_by_caching(pricing, usage) == charge(pricing, plain) - charge(pricing, usage)


def test_writing_to_a_cache_saves_less_than_nothing() -> None:
    pricing = Pricing(Attos(4 * 10**9), Attos(0), input_cache_read=Attos(10**9), input_cache_write=Attos(5 * 10**9))
    assert saved_by_caching(pricing, Usage(100, cached_tokens=100)) == 300
    assert saved_by_caching(pricing, Usage(100, cache_write_tokens=100)) == -100


@pytest.mark.parametrize(
    ("kind", "whole"),
    [("input_cache_write_1h", "input_cache_write"), ("audio", "prompt"), ("image_token", "prompt"), ("audio_output", "completion"),
     ("image_output", "completion")],
)  # fmt: skip
def test_a_price_that_is_that_of_its_whole_changes_no_version_and_another_does(
    kind: ChargeClass, whole: ChargeClass
) -> None:
    plain = Pricing(Attos(7), Attos(13), input_cache_write=Attos(9))
    assert (
        Pricing(Attos(7), Attos(13), input_cache_write=Attos(9), **{kind: plain.price_of(whole)}).version
        == plain.version
    )
    assert Pricing(Attos(7), Attos(13), input_cache_write=Attos(9), **{kind: Attos(8)}).version != plain.version


@given(pricings, pricings)
def test_equal_prices_have_equal_versions_and_others_have_others(one: Pricing, other: Pricing) -> None:
    again = Pricing(
        one.prompt,
        one.completion,
        one.request,
        one.image,
        one.input_cache_read,
        one.input_cache_write,
        one.internal_reasoning,
        one.input_cache_write_1h,
        one.audio,
        one.image_token,
        one.audio_output,
        one.image_output,
    )
    assert one.version == again.version
    if one.version == other.version:
        everything = Usage(50, 40, 10, 20, 10, 1, 1, 10, 10, 5, 10, 5)
        assert explain(one, everything) == explain(other, everything)


def test_a_version_is_the_same_on_every_node() -> None:
    assert Pricing(Attos(7_000_000_000), Attos(13_000_000_000)).version == "price-307cf5eac53afc0e"
