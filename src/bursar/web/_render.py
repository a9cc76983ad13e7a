"""The templates' environment: how amounts, times, icons and asset addresses are written.

Nothing here reads the clock or the environment: whoever renders passes ``now``.
"""

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from bursar.kernel import money

__all__ = [
    "STATIC_DIR",
    "TEMPLATES_DIR",
    "ago",
    "compact",
    "environment",
    "exact",
    "initials",
    "static_url",
    "usd",
    "usd_cost",
    "usd_exact",
    "usd_per_million",
    "usd_price",
]

TEMPLATES_DIR = Path(__file__).with_name("templates")
STATIC_DIR = Path(__file__).with_name("static")

NANOS_PER_CENT = money.NANOS_PER_CREDIT // 100
NANOS_FINE = money.NANOS_PER_CREDIT // 10**5
TOKENS_COMPARED = 1_000_000
DECIMALS_FINE = 5
"""Decimals of an amount below a cent, and of what one request costs."""


def environment() -> jinja2.Environment:
    """A new environment over this package's templates.

    Undefined variables raise, so that a page never quietly lacks something; everything is escaped.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters.update(
        ago=ago,
        clock=clock,
        compact=compact,
        exact=exact,
        initials=initials,
        iso=iso,
        usd=usd,
        usd_cost=usd_cost,
        usd_exact=usd_exact,
    )
    made.globals.update(static_url=static_url, icon=icon)
    return made


def usd(nanos: int) -> str:
    """To the cent: "$1,284.60". Below a cent with up to five decimals: "$0.00159"; smaller still, to the last nano.

    Cut, never rounded up, as `money.format_credits` does: a balance never shows more than there is.

    >>> usd(1_284_609_000_000), usd(1_594_321), usd(-25_000_000_000), usd(7)
    ('$1,284.60', '$0.00159', '−$25.00', '$0.000000007')
    """
    if nanos == 0 or abs(nanos) >= NANOS_PER_CENT:
        return money.format_credits(nanos).replace("-", "−")
    fine = _cut(nanos, DECIMALS_FINE).rstrip("0")
    return usd_exact(nanos) if fine.endswith(".") else fine


def usd_cost(nanos: int) -> str:
    """What one request costs: always five decimals, so that a column of them lines up. Zero is "$0.00".

    >>> usd_cost(10_730_000), usd_cost(1_200_000_000), usd_cost(0)
    ('$0.01073', '$1.20000', '$0.00')
    """
    if nanos == 0:
        return usd(0)
    return usd_exact(nanos) if abs(nanos) < NANOS_FINE else _cut(nanos, DECIMALS_FINE)


def usd_exact(nanos: int) -> str:
    """To the last nano, at least to the cent.

    >>> usd_exact(1_284_600_000_000), usd_exact(1_594_321)
    ('$1,284.60', '$0.001594321')
    """
    return money.format_trimmed(nanos).replace("-", "−")


def usd_price(attos: int) -> str:
    """A price, exactly, at least to the cent.

    >>> usd_price(10**16), usd_price(37_500_000_000), usd_price(0)
    ('$0.01', '$0.0000000375', '$0.00')
    """
    whole, _, decimals = money.price_text(attos).partition(".")
    return f"${int(whole):,}.{decimals.ljust(2, '0')}"


def usd_per_million(attos: int) -> str:
    """A price per token as people compare them: per million tokens, exactly.

    >>> usd_per_million(150_000_000_000), usd_per_million(3_000_000_000_000), usd_per_million(37_500_000_000)
    ('$0.15', '$3.00', '$0.0375')
    """
    return usd_price(attos * TOKENS_COMPARED)


def _cut(nanos: int, decimals: int) -> str:
    whole, _, all_decimals = money.format_exact(nanos).replace("-", "−").partition(".")
    return f"{whole}.{all_decimals[:decimals]}"


def compact(number: int) -> str:
    """A count in three digits: "940", "26.9M". The decimals are cut, not rounded, so 999,999 is not "1000K".

    >>> compact(940), compact(5_418), compact(26_910_000), compact(999_999)
    ('940', '5.4K', '26.9M', '999K')
    """
    size = abs(number)
    sign = "−" if number < 0 else ""
    for unit, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if size >= unit:
            whole, tenth = size // unit, size * 10 // unit % 10
            return f"{sign}{whole}{letter}" if whole >= 100 or not tenth else f"{sign}{whole}.{tenth}{letter}"
    return f"{sign}{size}"


def ago(moment: datetime, now: datetime) -> str:
    """How long before ``now`` (both aware): "just now", "5 min ago", "3 h ago", "4 days ago", then the date.

    A moment after ``now`` reads "in 5 min", "in 3 h", "in 4 days": to the nearest minute, so that what was just promised for an hour
    does not read "in 59 min".

    >>> from datetime import timedelta
    >>> now = datetime(2026, 1, 2, tzinfo=UTC)
    >>> [ago(now + timedelta(seconds=later), now) for later in (20, 3595, 6 * 86_400 - 5)]
    ['in a moment', 'in 1 h', 'in 6 days']
    """
    seconds = int((now - moment).total_seconds())
    size = seconds if seconds >= 0 else 30 - seconds
    if size < 60:
        return "just now" if seconds >= 0 else "in a moment"
    if size < 3_600:
        text = f"{size // 60} min"
    elif size < 86_400:
        text = f"{size // 3_600} h"
    elif size < 7 * 86_400:
        days = size // 86_400
        text = "1 day" if days == 1 else f"{days} days"
    else:
        moment = moment.astimezone(UTC)
        date = f"{moment:%b} {moment.day}"
        return date if moment.year == now.astimezone(UTC).year else f"{date}, {moment.year}"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def exact(moment: datetime) -> str:
    """To the second: "2026-11-23 20:42:30 UTC"."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(moment: datetime) -> str:
    """In short, for a list of one year's moments: "Nov 23, 20:42:30" (UTC)."""
    moment = moment.astimezone(UTC)
    return f"{moment:%b} {moment.day}, {moment:%H:%M:%S}"


def iso(moment: datetime) -> str:
    """For the ``datetime`` attribute: "2026-11-23T20:42:30Z"."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def initials(name: str) -> str:
    """Two letters at most, of the first and the last word: "Acme Robotics" is "AR".

    >>> initials("Ana Ruiz"), initials("acme"), initials("  ")
    ('AR', 'A', '?')
    """
    words = name.split()
    if not words:
        return "?"
    return (words[0][0] + (words[-1][0] if len(words) > 1 else "")).upper()


@cache
def static_url(path: str) -> str:
    """The address of a file under ``static/`` with a part of its SHA-256, so that browsers may keep it for good.

    Read once per process. Raises FileNotFoundError when there is no such file.
    """
    digest = hashlib.sha256((STATIC_DIR / path).read_bytes()).hexdigest()
    return f"/static/{path}?v={digest[:12]}"


def icon(name: str, classes: str = "") -> Markup:
    """An icon of ``static/vendor/icons.svg``, hidden from screen readers: the text beside it says what it means."""
    return Markup('<svg class="{}" aria-hidden="true"><use href="{}#{}"/></svg>').format(
        escape(f"icon {classes}".strip()), static_url("vendor/icons.svg"), name
    )
