"""Money: integers only, exact in, exact out, rounded up once."""

import time
from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel import money
from bursar.kernel.money import NANOS_MAX, Attos

SECONDS_MAX = 0.5
"""A refusal must not cost more than reading the text does."""

ABSURD = (
    *("NaN", "-NaN", "sNaN", "nan", "inf", "-inf", "Infinity"),
    *("1e99999999", "-1e99999999", "1e-99999999", "1e999999999999999999", "0e99999999", "1e41"),
    *("", " ", ".", "-", "+", "e5", "1e", "1.2.3", "1,5", "$5", "0x10", "1 2", "one", "١e", "1\x00"),
    *("9" * 5_000_000, "0." + "0" * 5_000_000 + "1", "1" + "0" * 5_000_000, "-" * 5_000_000, "1e" + "9" * 5_000_000),
)


@given(st.integers(-NANOS_MAX, NANOS_MAX))
def test_what_is_written_as_credits_reads_back_to_the_nano(nanos: int):
    assert money.parse_credits(format(money.to_credits(nanos), "f")) == nanos


@given(st.integers(-NANOS_MAX, NANOS_MAX))
def test_the_exact_format_reads_back_to_the_nano(nanos: int):
    assert money.parse_credits(money.format_exact(nanos).replace("$", "").replace(",", "")) == nanos


@given(st.integers(0, 10**24))
def test_a_price_reads_back_to_the_atto(attos: int):
    text = money.price_text(attos)
    assert money.parse_price(text) == attos
    assert "e" not in text.lower()
    assert Fraction(text) == Fraction(attos, 10**18)


@given(st.integers(0, 10**6), st.integers(0, 18), st.integers(0, 18))
def test_a_price_is_exactly_the_decimal_that_was_written(digits: int, places: int, zeros: int):
    text = f"{digits}E-{places}" if zeros % 2 else format(Decimal(digits).scaleb(-places), "f")
    assert Fraction(money.parse_price(text), 10**18) == Fraction(digits, 10**places)


@given(st.integers(0, 999), st.text("0123456789", min_size=1, max_size=60))
def test_an_amount_is_exact_or_refused_however_many_digits_it_has(whole: int, digits: str):
    text = f"{whole}.{digits}"
    if Fraction(text) * 10**9 % 1:
        with pytest.raises(ValueError, match="finer than 9"):
            money.parse_credits(text)
    else:
        assert money.parse_credits(text) == Fraction(text) * 10**9


@given(st.integers(10**9, 10**30), st.text("0123456789", min_size=1, max_size=30))
def test_a_long_amount_is_exact_or_a_value_error_and_nothing_else(whole: int, digits: str):
    text = f"{whole}.{digits}"
    value = Fraction(text) * 10**9
    try:
        assert money.parse_credits(text) == value
    except ValueError:
        assert value % 1 or value > NANOS_MAX


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**15).map(Attos)), max_size=8))
def test_a_charge_is_the_exact_sum_rounded_up_once(units: list[tuple[int, Attos]]):
    exact = sum((Fraction(count * price, 10**9) for count, price in units), Fraction(0))
    if ceil(exact) > NANOS_MAX:
        with pytest.raises(OverflowError):
            money.charge(units)
    else:
        assert money.charge(units) == ceil(exact)


def test_three_thirds_of_a_nano_are_one_nano_not_three():
    third = Attos(money.ATTOS_PER_NANO // 3)
    assert money.charge([(1, third)] * 3) == 1
    assert money.charge([(1, Attos(money.ATTOS_PER_NANO)), (1, Attos(1))]) == 2


def test_nothing_used_and_nothing_priced_cost_nothing():
    assert money.charge([]) == 0
    assert money.charge([(0, Attos(5)), (10**12, Attos(0))]) == 0


def test_a_negative_count_is_refused_even_beside_a_larger_positive_one():
    with pytest.raises(ValueError, match="negative"):
        money.charge([(1000, Attos(10**12)), (-1, Attos(10**12))])


def test_a_charge_that_does_not_fit_the_column_is_refused_not_wrapped():
    assert money.charge([(NANOS_MAX, Attos(10**9))]) == NANOS_MAX
    with pytest.raises(OverflowError):
        money.charge([(NANOS_MAX, Attos(10**9)), (1, Attos(1))])


@pytest.mark.parametrize("parse", [money.parse_credits, money.parse_price])
@pytest.mark.parametrize("text", ABSURD, ids=lambda text: repr(text[:24]))
def test_an_absurd_amount_is_refused_quickly_and_shortly(parse, text: str):
    started = time.monotonic()
    with pytest.raises(ValueError, match=r".") as refusal:
        parse(text)
    assert time.monotonic() - started < SECONDS_MAX
    assert len(str(refusal.value)) < 200


def test_a_negative_price_is_refused_and_a_free_one_is_zero():
    with pytest.raises(ValueError, match="negative"):
        money.parse_price("-0.000001")
    assert money.parse_price("0") == money.parse_price("-0") == money.parse_price("0.000") == 0


def test_an_amount_has_at_most_nine_places_and_a_price_eighteen():
    assert money.parse_credits("0.000000001") == 1
    assert money.parse_credits("1.5000000000000") == 1_500_000_000
    assert money.parse_price("0.000000000000000001") == 1
    with pytest.raises(ValueError, match="finer"):
        money.parse_credits("0.0000000001")
    with pytest.raises(ValueError, match="finer"):
        money.parse_price("0.0000000000000000001")


def test_the_largest_amount_is_what_the_column_holds():
    assert money.parse_credits("9223372036.854775807") == NANOS_MAX
    with pytest.raises(ValueError, match="out of range"):
        money.parse_credits("9223372036.854775808")


@given(st.integers(0, NANOS_MAX))
def test_a_balance_never_shows_more_than_there_is(nanos: int):
    shown = Fraction(money.format_credits(nanos).replace("$", "").replace(",", ""))
    assert 0 <= Fraction(nanos, 10**9) - shown < Fraction(1, 100)


def test_amounts_read_as_people_write_them():
    assert money.format_credits(1_284_600_000_000) == "$1,284.60"
    assert money.format_credits(9_999_999) == "$0.00"
    assert money.format_credits(-1_500_000_000) == "-$1.50"
    assert money.format_exact(7) == "$0.000000007"
    assert str(money.to_credits(10 * money.NANOS_PER_CREDIT)) == "10"
    assert money.price_text(0) == "0"
    assert money.price_text(37_500_000_000) == "0.0000000375"
