"""A little history: requests that were held, charged and recorded, at the moment the fixed clock shows."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from bursar import actions, activity, keys, ledger
from bursar.access import Actor
from bursar.activity import Generation, GenerationStatus
from bursar.kernel.clock import FixedClock
from bursar.kernel.ids import OwnerId, UserId, new_generation_id
from bursar.kernel.money import Nanos
from bursar.keys import Key, KeyChecker, KeyKind
from bursar.ledger import OpenHold
from bursar.storage import SYSTEM, Database, Scope, Snapshot, Tx
from tests.conftest import Cast, make_cast

NOW = datetime(2026, 11, 24, 13, 30, tzinfo=UTC)


@dataclass
class History:
    """Acme of the cast (who have 10 credits since `began`), a key of each of its people, and what was served."""

    database: Database
    clock: FixedClock
    cast: Cast
    admins_key: Key
    members_key: Key
    served: list[Generation] = field(default_factory=list)

    @property
    def owner(self) -> OwnerId:
        return self.cast.owner

    async def serve(
        self, at: datetime, cost: int, key: Key | None = None, tx: Tx | None = None, **other: Any
    ) -> Generation:
        """One request at that moment, by the admin's key unless told otherwise, in a transaction of its own unless given one."""
        self.clock.set(at)
        key = key or self.admins_key
        generation = Generation(
            owner_id=key.owner,
            id=new_generation_id(at),
            created_at=at,
            key_id=key.id,
            user_id=key.creator,
            status=GenerationStatus.OK,
            requested_model="demo/echo-1",
            model="demo/echo-1",
            provider="demo",
            prompt_tokens=10,
            completion_tokens=20,
            duration_ms=1000,
            first_token_ms=200,
            cost_nanos=Nanos(cost),
        )
        generation = replace(generation, **other)
        hold = OpenHold(key.owner, generation.id, Nanos(cost), "node", "v1", key.id, key.creator, generation.model, at)
        async with AsyncExitStack() as stack:
            writes = tx or await stack.enter_async_context(self.database.begin(Scope(key.owner)))
            await ledger.open_hold(writes, hold)
            assert await ledger.settle_hold(writes, hold.owner, hold.generation, Nanos(cost)) == cost
            assert await activity.record(writes, generation)
        self.served.append(generation)
        return generation

    async def grant(self, at: datetime, amount: int, owner: OwnerId | None = None) -> None:
        self.clock.set(at)
        await actions.grant_credits(
            self.database, Actor.operator(), owner=owner or self.owner, amount=Nanos(amount), reason="more"
        )

    async def see(self, report: Callable[[Snapshot], Awaitable[Any]], owner: OwnerId | None = None) -> Any:
        async with self.database.snapshot(Scope(owner or self.owner)) as snapshot:
            return await report(snapshot)

    def cost(self, since: datetime | None = None, until: datetime | None = None, **wanted: Any) -> int:
        """What the rows say, added up here: reports must agree with it."""
        return sum(
            one.cost_nanos
            for one in self.served
            if one.owner_id == self.owner
            and (since is None or one.created_at >= since)
            and (until is None or one.created_at < until)
            and all(getattr(one, name) == value for name, value in wanted.items())
        )


@pytest.fixture
def began() -> datetime:
    """When Acme was founded; a test module may say another time."""
    return datetime(2026, 9, 1, 9, tzinfo=UTC)


@pytest.fixture
async def history(fixed_database: Database, fixed_clock: FixedClock, checker: KeyChecker, began: datetime) -> History:
    fixed_clock.set(began)
    cast = await make_cast(fixed_database)
    made = []
    for user, name in ((cast.admin.id, "Ana's app"), (cast.member.id, "Tomas's app")):
        made.append(await make_key(fixed_database, checker, cast.owner, user, name))
    fixed_clock.set(NOW)
    return History(fixed_database, fixed_clock, cast, *made)


async def make_key(database: Database, checker: KeyChecker, owner: OwnerId, user: UserId, name: str) -> Key:
    async with database.begin(SYSTEM) as tx:
        return (await keys.create(tx, checker, owner=owner, creator=user, name=name, kind=KeyKind.INFERENCE))[0]
