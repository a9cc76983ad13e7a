"""A month of plausible activity for the demo: written through the same ledger and activity as real requests, once.

The past is told by a clock that is set to it; amounts, times and ids follow from one seed, so that two demos look alike.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bursar import activity, keys, ledger
from bursar.activity import Generation, GenerationStatus, UsageSource
from bursar.app import Installation, make_database
from bursar.catalog import Catalog, Endpoint, Pricing, Usage, charge
from bursar.identity import User
from bursar.kernel.clock import FixedClock
from bursar.kernel.ids import KeyId, OwnerId, UserId, new_generation_id
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.keys import KeyKind
from bursar.ledger import Account, Transfer, TransferKind
from bursar.organizations import Organization
from bursar.storage import SYSTEM, Database, recall, remember

DAYS = 30
REQUESTS_A_DAY = 60
BATCH = 100
MONTH_CREDITS = Nanos(50 * NANOS_PER_CREDIT)

_MARK = "demo_history"
_KEYS = (("production-api", "admin"), ("support-bot", "member"), ("ci-evals", "admin"), ("tomas-laptop", "member"))
_SHARES = {"demo/echo-1": 5, "demo/scholar-1": 3, "demo/flat-1": 1, "demo/free-1": 2}


@dataclass(frozen=True)
class _Key:
    id: KeyId
    user: UserId


async def write_history(
    installation: Installation, organization: Organization, cast: dict[str, User], catalog: Catalog
) -> None:
    """Does nothing the second time."""
    real = installation.database
    async with real.begin(SYSTEM) as tx:
        if await recall(tx, _MARK) is not None:
            return
    now = installation.clock.now()
    clock = FixedClock(now - timedelta(days=DAYS))
    past = make_database(installation.settings, installation.data_dir, installation.secret, clock)
    try:
        await _write(installation, past, clock, OwnerId(organization.id), cast, catalog, now)
    finally:
        await past.close()
    async with real.begin(SYSTEM) as tx:
        await remember(tx, _MARK, now.isoformat())


async def _write(
    installation: Installation,
    past: Database,
    clock: FixedClock,
    owner: OwnerId,
    cast: dict[str, User],
    catalog: Catalog,
    now: datetime,
) -> None:
    dice = random.Random(20_260_101)  # noqa: S311 - plausible, not secret
    async with past.begin(SYSTEM) as tx:
        bought = Transfer(
            owner,
            "grant-history",
            TransferKind.GRANT,
            Account.GRANTS,
            Account.CREDITS,
            MONTH_CREDITS,
            reason="First month",
        )
        await ledger.post(tx, [bought])
        made = []
        for name, role in _KEYS:
            key, _ = await keys.create(
                tx, installation.checker, owner=owner, creator=cast[role].id, name=name, kind=KeyKind.INFERENCE
            )
            made.append(_Key(key.id, cast[role].id))
    endpoints = {name: catalog.offers_for(name)[0] for name in _SHARES if catalog.offers_for(name)}
    moments = _moments(dice, now)
    told = [
        _request(dice, owner, moment, dice.choices(made, weights=[5, 3, 2, 2])[0], _choice(dice, endpoints))
        for moment in moments
    ]
    for start in range(0, len(told), BATCH):
        batch = told[start : start + BATCH]
        clock.set(batch[-1].created_at)
        async with past.begin(SYSTEM) as tx:
            await ledger.post(tx, _charges(owner, batch))
            await activity.record_all(tx, batch)
            for used in made:
                await keys.touch(tx, owner, used.id, tx.now)


def _charges(owner: OwnerId, batch: Sequence[Generation]) -> list[Transfer]:
    """One hold for the whole batch, and each request's charge from it."""
    charges = [
        Transfer(
            owner,
            f"charge-{each.id}",
            TransferKind.CHARGE,
            Account.HELD,
            Account.SPENT,
            each.cost_nanos,
            reference=each.id,
        )
        for each in batch
        if each.cost_nanos
    ]
    total = Nanos(sum(charge.amount for charge in charges))
    hold = Transfer(owner, f"hold-{batch[0].id}", TransferKind.HOLD, Account.CREDITS, Account.HELD, total)
    return [hold, *charges] if charges else []


def _moments(dice: random.Random, now: datetime) -> Sequence[datetime]:
    """Busy weekdays and mornings, quiet weekends and nights, a little more every week."""
    moments = []
    for day in range(DAYS + 1):
        start = (now - timedelta(days=DAYS - day)).replace(hour=0, minute=0, second=0, microsecond=0)
        weekend = start.weekday() >= 5
        count = int(REQUESTS_A_DAY * (0.3 if weekend else 1) * (0.6 + 0.6 * day / DAYS) * dice.uniform(0.8, 1.2))
        moments += [start + timedelta(hours=min(23.9, max(0.1, dice.gauss(13, 3.5)))) for _ in range(count)]
    return sorted(moment for moment in moments if moment < now - timedelta(minutes=1))


def _choice(dice: random.Random, endpoints: dict[str, Endpoint]) -> Endpoint:
    return endpoints[dice.choices(list(endpoints), weights=[_SHARES[name] for name in endpoints])[0]]


def _request(dice: random.Random, owner: OwnerId, moment: datetime, key: _Key, endpoint: Endpoint) -> Generation:
    pricing = endpoint.pricing
    assert isinstance(pricing, Pricing)
    usage = Usage(
        prompt_tokens=int(dice.lognormvariate(7.4, 0.8)), completion_tokens=int(dice.lognormvariate(5.9, 0.7))
    )
    failed = dice.random() < 0.015
    first_token_ms = int(dice.lognormvariate(5.8, 0.4))
    return Generation(
        owner_id=owner,
        id=new_generation_id(moment),
        created_at=moment,
        key_id=key.id,
        user_id=key.user,
        status=GenerationStatus.FAILED if failed else GenerationStatus.OK,
        requested_model=endpoint.model.id,
        model=endpoint.model.id,
        provider=endpoint.provider.slug,
        endpoint_id=endpoint.id,
        streamed=dice.random() < 0.6,
        error_status=502 if failed else None,
        finish_reason="error" if failed else dice.choices(["stop", "tool_calls", "length"], weights=[80, 15, 5])[0],
        prompt_tokens=0 if failed else usage.prompt_tokens,
        completion_tokens=0 if failed else usage.completion_tokens,
        cost_nanos=Nanos(0) if failed else charge(pricing, usage),
        usage_source=UsageSource.NONE if failed else UsageSource.REPORTED,
        price_version=pricing.version,
        first_token_ms=None if failed else first_token_ms,
        duration_ms=first_token_ms + usage.completion_tokens * 1000 // dice.randint(40, 140),
    )
