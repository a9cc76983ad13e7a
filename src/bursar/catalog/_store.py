from collections.abc import Iterable

import msgspec
from sqlalchemy import select

from bursar.catalog import tables
from bursar.catalog._pricing import CHARGE_CLASSES, Pricing
from bursar.kernel.money import parse_price, price_text
from bursar.storage import Snapshot, Tx

_versions = tables.price_versions


async def store_prices(tx: Tx, pricings: Iterable[Pricing]) -> None:
    """Adds those that are not there yet. Whoever charges by a price has stored it before."""
    now = tx.now
    rows = [
        {"version": version, "prices": _written(pricing), "stored_at": now}
        for version, pricing in sorted({each.version: each for each in pricings}.items())
    ]
    if rows:
        await tx.execute_each(tx.insert(_versions).on_conflict_do_nothing(index_elements=["version"]), rows)


async def find_prices(snapshot: Snapshot, version: str) -> Pricing | None:
    """The prices that this version stands for, whatever the catalogue says today; None where they were never stored.

    Raises `ValueError` where what is stored does not make the version any more: somebody changed it.
    """
    row = await snapshot.first(select(_versions.c.prices).where(_versions.c.version == version))
    if row is None:
        return None
    prices = msgspec.json.decode(row.prices, type=dict[str, str])
    pricing = Pricing(**{kind: parse_price(price) for kind, price in prices.items()})
    if pricing.version != version:
        raise ValueError(f"the prices stored as {version} are not what they were")
    return pricing


def _written(pricing: Pricing) -> str:
    return msgspec.json.encode({kind: price_text(pricing.price_of(kind)) for kind in CHARGE_CLASSES}).decode()
