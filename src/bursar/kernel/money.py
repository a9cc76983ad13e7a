"""Money is an `int` of nano-dollars; a price is an `int` of atto-dollars per unit. Never a float.

1 credit = 1 USD = 10⁹ nanos = 10¹⁸ attos. Atto-dollars hold every published per-token price exactly (`"0.0000000375"` is
37.5 nanos); a charge is summed in attos and rounded **up once** to nanos.
"""

from decimal import Decimal, InvalidOperation
from typing import NewType

Nanos = NewType("Nanos", int)
"""An amount of money, 10⁻⁹ USD."""

Attos = NewType("Attos", int)
"""A price per unit (a token, a request, an image), 10⁻¹⁸ USD."""

NANOS_PER_CREDIT = 1_000_000_000
ATTOS_PER_NANO = 1_000_000_000
NANOS_MAX = 2**63 - 1
"""What a 64-bit column holds: 9.2 billion credits."""
AMOUNT_CHARACTERS_MAX = 100
"""Longer texts are no amounts."""

ZERO = Nanos(0)


def parse_credits(text: str) -> Nanos:
    """`"12.50"` → 12_500_000_000 nanos. Raises `ValueError` for anything that is not an exact, finite amount in range."""
    return Nanos(_scaled(text, 9, NANOS_MAX))


def parse_price(text: str) -> Attos:
    """`"0.000000007"` USD per unit → attos. Raises `ValueError` for a negative, inexact or absurd price."""
    price = _scaled(text, 18, 10**24)
    if price < 0:
        raise ValueError(f"a price cannot be negative: {text}")
    return Attos(price)


def to_credits(nanos: int) -> Decimal:
    """Nanos as an exact decimal of USD without trailing zeros; how JSON answers carry money."""
    return Decimal(credits_text(nanos))


def credits_text(nanos: int) -> str:
    """The same as a text, never with an exponent: `"0.000000007"`, `"12.5"`, `"0"`."""
    sign = "-" if nanos < 0 else ""
    whole, rest = divmod(abs(nanos), NANOS_PER_CREDIT)
    return f"{sign}{whole}.{rest:09d}".rstrip("0") if rest else f"{sign}{whole}"


def price_text(attos: int) -> str:
    """A price per unit as OpenRouter writes it: a plain decimal string of USD, `"0"` when free."""
    return format(_plain(Decimal(attos).scaleb(-18)), "f")


def format_credits(nanos: int) -> str:
    """`1_284_600_000_000` → `"$1,284.60"`, cut (never rounded up) to the cent: a balance never shows more than there is."""
    sign = "-" if nanos < 0 else ""
    cents = abs(nanos) // 10_000_000
    return f"{sign}${cents // 100:,}.{cents % 100:02d}"


def format_exact(nanos: int) -> str:
    """The same to the last nano: `"$0.000000007"`."""
    sign = "-" if nanos < 0 else ""
    whole, rest = divmod(abs(nanos), NANOS_PER_CREDIT)
    return f"{sign}${whole:,}.{rest:09d}"


def format_trimmed(nanos: int) -> str:
    """The same without zeros at its end, at least to the cent: `"$0.25"`, `"$0.001594321"`."""
    whole, _, decimals = format_exact(nanos).partition(".")
    return f"{whole}.{decimals[:2]}{decimals[2:].rstrip('0')}"


def charge(units: list[tuple[int, Attos]]) -> Nanos:
    """Σ count × price, rounded up once to a nano.

    `units` is a list of (count, price per unit in attos). Raises `ValueError` on a negative count and `OverflowError` when
    the sum does not fit a 64-bit column.
    """
    total = 0
    for count, price in units:
        if count < 0:
            raise ValueError(f"a count cannot be negative: {count}")
        total += count * price
    nanos = -(-total // ATTOS_PER_NANO)
    if nanos > NANOS_MAX:
        raise OverflowError(f"a charge of {nanos} nanos does not fit 64 bits")
    return Nanos(nanos)


def _plain(value: Decimal) -> Decimal:
    value = value.normalize()
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value


def _scaled(text: str, places: int, most: int) -> int:
    # By integers: arithmetic of `Decimal` would round what is longer than its context, and call an inexact amount exact.
    try:
        value = Decimal(text.strip()) if len(text) <= AMOUNT_CHARACTERS_MAX else Decimal("NaN")
    except InvalidOperation:
        raise ValueError(f"not an amount: {text[:40]!r}") from None
    if not value.is_finite():
        raise ValueError(f"not an amount: {text[:40]!r}")
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), "only NaN and infinity have none"
    whole, shift = int("".join(map(str, digits))), exponent + places
    if value.adjusted() + places > 40:
        raise ValueError(f"out of range: {text[:40]!r}")
    if shift < 0:
        whole, rest = divmod(whole, 10 ** min(-shift, 2 * AMOUNT_CHARACTERS_MAX))
        if rest:
            raise ValueError(f"finer than {places} decimal places: {text[:40]!r}")
    else:
        whole *= int(10**shift)
    if whole > most:
        raise ValueError(f"out of range: {text[:40]!r}")
    return -whole if sign else whole
