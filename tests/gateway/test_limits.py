"""Limits of keys, members and organizations: kept whatever runs at once, on several workers, over windows and crashes."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bursar import activity, ledger
from bursar.catalog import Catalog
from bursar.gateway import Available, Caller, ConcurrencyLimits, Funds, Hold, Intent, Leases, Progress
from bursar.kernel.clock import FixedClock
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, UserId
from bursar.kernel.money import Nanos, to_credits
from bursar.kernel.secrets import hash_secret
from bursar.keys import KeyChecker, find_by_hash
from bursar.ledger import Limit, LimitUse, Period
from bursar.storage import SYSTEM, Database, Scope
from tests.conftest import make_cast
from tests.gateway.test_journal_funds import Worker
from tests.gateway.world import PRIME, Answer, ScriptedUpstream, World, endpoint, provider, usage, whole

pytestmark = pytest.mark.anyio

BODY = b'{"model":"acme/prime","max_tokens":100,"messages":[{"role":"user","content":"Hi"}]}'
ANSWER = whole("Hi", usage=usage(97, 100))
COST = 97 * 7 + 100 * 13
"""What is held for it as well."""
ALONE = Catalog([provider("alpha")], [PRIME], [endpoint(PRIME, provider("alpha"))])
FREE = Catalog([provider("alpha")], [PRIME], [endpoint(PRIME, provider("alpha"), 0, 0)])
TUESDAY = datetime(2026, 11, 24, 23, 59, 58, tzinfo=UTC)


class Several:
    """Workers behind one gateway: each request is the next one's."""

    def __init__(self, funds: list[Funds]) -> None:
        self._all = funds
        self._next = itertools.cycle(funds)
        self._of: dict[GenerationId, Funds] = {}

    async def hold(self, intent: Intent) -> Hold:
        funds = self._of[intent.generation] = next(self._next)
        return await funds.hold(intent)

    async def extend(self, hold: Hold, extra: Nanos) -> bool:
        return await self._of[hold.generation].extend(hold, extra)

    def progress(self, hold: Hold, so_far: Progress) -> None:
        self._of[hold.generation].progress(hold, so_far)

    async def settle(self, hold: Hold, generation: activity.Generation) -> Nanos:
        return await self._of[hold.generation].settle(hold, generation)

    async def void(self, hold: Hold, generation: activity.Generation) -> None:
        await self._of[hold.generation].void(hold, generation)

    def available(self, hold: Hold) -> Available:
        return self._of[hold.generation].available(hold)

    async def caught_up(self) -> None:
        for funds in self._all:
            await funds.caught_up()


@pytest.fixture(autouse=True)
async def nobody_outlives_the_database(database: Database) -> AsyncIterator[None]:
    yield
    while Worker.alive:
        await Worker.alive[-1].die()


@pytest.fixture(params=["journal", "database"])
def paying(request: pytest.FixtureRequest, scripted: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """`await paying(steps)` is a world of either durability."""

    async def make(steps: Any, catalog: Catalog = ALONE) -> World:
        world: World = await scripted(steps, catalog=catalog)
        world.gateway.places.limits = ConcurrencyLimits(per_key=1_000)
        if request.param == "journal":
            await Worker(world, tmp_path).start()
        return world

    return make


async def key_of(world: World, plaintext: str | None = None) -> KeyId:
    async with world.database.snapshot(SYSTEM) as snapshot:
        found = await find_by_hash(snapshot, hash_secret(plaintext or world.key))
    assert found is not None
    return found.id


async def limit(
    world: World, amount: int, period: Period = Period.DAILY, subject: str | None = None, owner: OwnerId | None = None
) -> str:
    """Sets it as an action does; the key of the world's unless told otherwise."""
    owner, subject = owner or world.cast.owner, subject or await key_of(world)
    async with world.database.begin(Scope(owner)) as tx:

        async def spent(since: datetime) -> int:
            key = KeyId(subject) if subject.startswith("key_") else None
            user = UserId(subject) if subject.startswith("user_") else None
            return await activity.spent(tx, owner, since, key=key, user=user)

        await ledger.set_limit(tx, Limit(owner, subject, Nanos(amount), period), spent=spent)
    return subject


async def use(world: World, subject: str, owner: OwnerId | None = None) -> LimitUse:
    await world.gateway.caught_up()
    owner = owner or world.cast.owner
    async with world.database.snapshot(SYSTEM) as snapshot:
        return (await ledger.limit_uses(snapshot, owner, [subject], world.database.clock.now()))[subject]


async def books(world: World) -> int:
    await world.settled()
    await world.gateway.caught_up()
    return await world.books_are_right()


async def spend_all(world: World, key: str | None = None, tries: int = 200) -> tuple[int, Answer]:
    """How many are served until one is refused, and the refusal."""
    for served in range(tries):
        answer = await world.post(BODY, key=key)
        if answer.status != 200:
            return served, answer
    raise AssertionError("nothing refused")


# What is refused, and how.


@pytest.mark.parametrize("period", list(Period))
async def test_a_key_whose_limit_is_spent_is_403_and_says_which_and_what_to_do(paying: Any, period: Period):
    world = await paying([ANSWER])
    key = await limit(world, 3 * COST, period)
    served, refused = await spend_all(world)
    assert served == 3
    assert refused.status == 403
    assert refused.error["message"].startswith(f"Key limit exceeded ({period} limit). Manage it under API keys")
    assert ("resets at" in refused.error["message"]) is (period is not Period.TOTAL)
    metadata = refused.error["metadata"]
    assert (metadata["limit_source"], metadata["scope"]) == ("openrouter_key_limit", "key")
    assert metadata["limit_usd"] == float(to_credits(3 * COST))
    assert (await use(world, key)).used == 3 * COST
    assert await books(world) == 3 * COST


async def test_what_is_left_is_less_than_the_request_could_cost_and_more_tokens_than_none_is_402(paying: Any):
    world = await paying([ANSWER])
    await limit(world, COST)
    refused = await world.post(BODY.replace(b"100", b"1000"))
    assert refused.status == 402
    assert "You requested up to 1000 tokens, but can only afford " in refused.error["message"]
    assert "What binds is the key daily limit of $0.00." in refused.error["message"]
    assert (await world.post(BODY)).status == 200


async def test_of_the_pool_and_the_limit_the_smaller_binds(paying: Any):
    world = await paying([ANSWER])
    owner, key = await world.make_pool(5 * COST)
    subject = await limit(world, 3 * COST, Period.TOTAL, await key_of(world, key), owner)
    answer = await world.post(BODY, key=key)
    assert answer.headers["x-bursar-bound-by"] == "key"
    assert (await spend_all(world, key))[1].status == 403
    await limit(world, 100 * COST, Period.TOTAL, subject, owner)
    answer = await world.post(BODY, key=key)
    assert (answer.status, answer.headers["x-bursar-bound-by"]) == (200, "credits")
    served, refused = await spend_all(world, key)
    assert (served, refused.status) == (1, 402)
    assert refused.error["metadata"]["limit_source"] == "openrouter_credits"
    await world.gateway.caught_up()
    assert (await world.balance(owner)).available == 0


async def test_a_member_has_one_budget_for_keys_and_chat_and_the_organization_one_for_all(paying: Any):
    world = await paying([ANSWER])
    member, admin = world.cast.member.id, world.cast.admin.id
    key = await world.make_key(creator=member)
    await limit(world, 2 * COST, Period.MONTHLY, member)
    assert (await world.post(BODY, key=key)).status == 200
    assert (await chat(world, member)).status == 200
    for refused in (await world.post(BODY, key=key), await chat(world, member)):
        assert refused.status == 403
        assert refused.error["message"].startswith("Member monthly budget of $0.00 exceeded. An admin")
        assert refused.error["metadata"]["scope"] == "member"
    assert (await chat(world, admin)).status == 200
    await world.gateway.caught_up()
    await limit(world, 4 * COST, Period.WEEKLY, world.cast.owner)
    assert (await world.post(BODY)).status == 200
    refused = await world.post(BODY)
    assert refused.status == 403
    assert refused.error["message"].startswith("Organization weekly budget of $0.00 exceeded.")
    assert await books(world) == 4 * COST


async def chat(world: World, user: UserId) -> Answer:
    """As a page asks, without a key."""
    admitted = world.gateway.serve
    caller = Caller(world.cast.owner, user)

    async def as_caller(scope: Any, receive: Any, send: Any) -> None:
        await admitted(scope, receive, send, caller)

    gateway, world.gateway = world.gateway, as_caller  # type: ignore[assignment]
    try:
        return await world.post(BODY)
    finally:
        world.gateway = gateway


async def test_what_costs_nothing_is_served_though_the_limit_is_spent(paying: Any):
    world = await paying([ANSWER], FREE)
    await limit(world, 0)
    assert (await world.post(BODY)).status == 200


async def test_a_limit_of_zero_is_not_no_limit(paying: Any):
    world = await paying([ANSWER])
    await limit(world, 0)
    assert (await world.post(BODY)).status == 403


async def test_what_costs_more_than_was_held_is_charged_as_far_as_the_limit_goes(paying: Any):
    world = await paying([whole("Hi", usage=usage(5_000, 100))])
    key = await limit(world, 2 * COST)
    assert (await world.post(BODY)).status == 200
    assert (await use(world, key)).used == 2 * COST
    assert await books(world) == 2 * COST


@pytest.mark.parametrize("alone", [True, False])
async def test_many_that_come_first_and_at_once_are_all_served_where_there_is_enough_and_nobody_is_asked_to_return_any(
    scripted: Callable[..., Any], tmp_path: Path, alone: bool
):
    world: World = await scripted([ANSWER], catalog=ALONE)
    worker = Worker(world, tmp_path, alone=alone, least=1, recall_seconds=30.0)
    await worker.start()
    await limit(world, 100 * COST)
    # What is leased first is for whoever came first: nobody knows yet how much there is.
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(world.post(BODY) for _ in range(60)))
    assert {answer.status for answer in answers} == {200}
    await worker.stop()
    assert await world.books_are_right() == 60 * COST


# Changes.


async def test_a_limit_is_in_force_at_once_raised_and_lowered_and_removed(paying: Any):
    world = await paying([ANSWER])
    for _ in range(3):
        assert (await world.post(BODY)).status == 200
    await world.gateway.caught_up()
    key = await limit(world, 4 * COST)  # what was spent before it counts
    assert (await spend_all(world))[0] == 1
    await limit(world, 6 * COST)
    assert (await world.post(BODY)).status == 200
    await world.gateway.caught_up()
    await limit(world, COST)
    refused = await world.post(BODY)
    assert refused.status == 403
    assert (await use(world, key)).remaining == 0
    async with world.database.begin(SYSTEM) as tx:
        await ledger.remove_limit(tx, world.cast.owner, key)
    assert (await world.post(BODY)).status == 200
    assert await books(world) == 6 * COST


async def test_lowered_while_a_request_runs_what_it_does_not_need_is_not_spent_by_others(paying: Any):
    running, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        running.set()
        await go_on.wait()

    world = await paying([wait, whole("Hi", usage=usage(5, 2))])
    key = await limit(world, 10 * COST)
    first = asyncio.ensure_future(world.post(BODY.replace(b"100", b"1000")))  # holds enough for several of the next
    await running.wait()
    await limit(world, 0)
    go_on.set()
    assert (await first).status == 200
    assert (await world.post(BODY)).status in (402, 403)
    assert (await use(world, key)).used == 5 * 7 + 2 * 13
    await books(world)


# Many at once.


async def test_three_hundred_at_once_over_several_keys_never_exceed_a_limit_and_use_it_up(
    scripted: Callable[..., Any], tmp_path: Path
):
    world: World = await scripted([ANSWER], catalog=ALONE)
    world.gateway.places.limits = ConcurrencyLimits(per_key=1_000)
    workers = [Worker(world, tmp_path, name, alone=False, recall_seconds=5.0) for name in ("w1", "w2")]
    for worker in workers:
        await worker.start()
    world.gateway._funds = Several([worker.funds for worker in workers])
    plaintexts = [await world.make_key() for _ in range(3)]
    subjects = [await key_of(world, plaintext) for plaintext in plaintexts]
    for subject in subjects:
        await limit(world, 40 * COST + 100, Period.MONTHLY, subject)
    await limit(world, 100 * COST, Period.TOTAL, world.cast.owner)
    answers = await asyncio.gather(*(world.post(BODY, key=plaintexts[number % 3]) for number in range(300)))
    assert {answer.status for answer in answers} <= {200, 402, 403}
    served = sum(answer.status == 200 for answer in answers)
    assert served <= 100
    for plaintext in plaintexts * 3:
        if served < 100:  # once all is spent, each refusal only waits for what no worker has to give back
            served += (await spend_all(world, plaintext))[0]
    uses = [await use(world, subject) for subject in subjects]
    assert all(each.used <= each.limit.amount for each in uses)
    organization = await use(world, world.cast.owner)
    assert organization.used == served * COST == sum(each.used for each in uses)
    assert organization.limit.amount * 98 // 100 <= organization.used <= organization.limit.amount
    assert await books(world) == served * COST
    for worker in workers:
        await worker.stop()
    assert (await use(world, world.cast.owner)).leased == 0


async def test_many_at_once_without_a_journal_never_exceed_a_limit_and_use_it_up(scripted: Callable[..., Any]):
    world: World = await scripted([ANSWER], catalog=ALONE)
    world.gateway.places.limits = ConcurrencyLimits(per_key=1_000)
    key = await limit(world, 20 * COST)
    answers = await asyncio.gather(*(world.post(BODY) for _ in range(60)))
    assert {answer.status for answer in answers} <= {200, 402, 403}
    await spend_all(world)
    assert (await use(world, key)).used == 20 * COST
    assert await books(world) == 20 * COST


async def test_a_key_without_a_limit_asks_the_database_no_more_than_before_there_were_limits(
    scripted: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    world: World = await scripted([ANSWER], catalog=ALONE)
    worker = Worker(world, tmp_path)
    await worker.start()
    assert (await world.post(BODY)).status == 200
    await worker.funds.caught_up()
    worker.leases._database = None  # type: ignore[assignment]
    purses = await worker.leases.take(world.cast.owner, 1, ("key_x", "user_x"), world.database.clock.now())
    assert len(purses) == 1
    worker.leases.resolve(purses, 1, 0)
    worker.leases._database = world.database
    assert worker.funds._taken == {}


# Windows and crashes.


@pytest.fixture
async def at_midnight(
    fixed_database: Database, fixed_clock: FixedClock, checker: KeyChecker, tmp_path: Path
) -> AsyncIterator[tuple[World, FixedClock]]:
    """Two seconds before the end of a Tuesday."""
    fixed_clock.set(TUESDAY)
    cast = await make_cast(fixed_database)
    world = World(
        fixed_database, cast, checker, upstream=ScriptedUpstream({"alpha": [ANSWER], "beta": []}), catalog=ALONE
    )
    world.key = await world.make_key()
    await Worker(world, tmp_path).start()
    yield world, fixed_clock
    await world.settled()
    while Worker.alive:
        await Worker.alive[-1].die()


@pytest.mark.parametrize(
    ("period", "spent_at", "still", "anew"),
    [
        (Period.DAILY, TUESDAY, None, TUESDAY + timedelta(seconds=2)),
        (Period.WEEKLY, TUESDAY, datetime(2026, 11, 29, 23, 59, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)),
        (Period.MONTHLY, TUESDAY, datetime(2026, 11, 30, 23, 59, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        (Period.TOTAL, TUESDAY, datetime(2027, 11, 30, tzinfo=UTC), None),
    ],
)
async def test_a_new_window_begins_with_the_whole_limit_and_the_old_one_goes_back(
    at_midnight: tuple[World, FixedClock],
    period: Period,
    spent_at: datetime,
    still: datetime | None,
    anew: datetime | None,
):
    world, clock = at_midnight
    clock.set(spent_at)
    key = await limit(world, 2 * COST + 100, period)
    assert (await spend_all(world))[0] == 2
    if still is not None:
        clock.set(still)
        assert (await world.post(BODY)).status in (402, 403)
    if anew is not None:
        clock.set(anew)
        assert (await use(world, key)).remaining == 2 * COST + 100
        assert (await spend_all(world))[0] == 2
    clock.advance(timedelta(minutes=2))
    await Worker.alive[0].funds.tend()
    await world.gateway.caught_up()
    async with world.database.snapshot(SYSTEM) as snapshot:
        assert (await ledger.verify(snapshot)).drift == 0
        found = await ledger.limit_uses(snapshot, world.cast.owner, [key], spent_at)
    assert found[key].leased == 0


async def test_a_request_that_ends_in_the_next_window_counts_where_it_began(at_midnight: tuple[World, FixedClock]):
    world, clock = at_midnight
    key = await limit(world, 2 * COST)

    async def until_tomorrow() -> None:
        clock.advance(timedelta(seconds=5))

    assert world.upstream is not None
    world.upstream.scripts = {"alpha": [until_tomorrow, ANSWER]}
    assert (await world.post(BODY)).status == 200
    await world.gateway.caught_up()
    async with world.database.snapshot(SYSTEM) as snapshot:
        began = (await ledger.limit_uses(snapshot, world.cast.owner, [key], TUESDAY))[key]
        ended = (await ledger.limit_uses(snapshot, world.cast.owner, [key], clock.now()))[key]
    assert (began.used, ended.used) == (COST, 0)


async def test_a_request_whose_lease_comes_after_midnight_counts_where_it_began(
    at_midnight: tuple[World, FixedClock], monkeypatch: pytest.MonkeyPatch
):
    world, clock = at_midnight
    key = await limit(world, 2 * COST)
    lease_more = Leases._lease_more

    async def until_tomorrow(leases: Leases, purse: Any) -> None:
        await lease_more(leases, purse)
        clock.set(TUESDAY + timedelta(seconds=5))

    monkeypatch.setattr(Leases, "_lease_more", until_tomorrow)
    assert (await world.post(BODY)).status == 200
    await world.gateway.caught_up()
    assert (await world.only_generation()).created_at == TUESDAY
    async with world.database.snapshot(SYSTEM) as snapshot:
        began = (await ledger.limit_uses(snapshot, world.cast.owner, [key], TUESDAY))[key]
        ended = (await ledger.limit_uses(snapshot, world.cast.owner, [key], clock.now()))[key]
    assert (began.used, ended.used) == (COST, 0)


async def test_killed_before_the_batch_a_limit_counts_once_and_gets_back_what_was_leased(
    scripted: Callable[..., Any], tmp_path: Path
):
    world: World = await scripted([ANSWER], catalog=ALONE)
    worker = Worker(world, tmp_path)
    await worker.start()
    key = await limit(world, 10 * COST)

    async def never(*_arguments: Any) -> None:
        await asyncio.Event().wait()

    worker.funds._apply_once = never  # type: ignore[method-assign]
    for _ in range(3):
        assert (await world.post(BODY)).status == 200
    found = await use(world, key)
    assert (found.used, found.leased > 0) == (0, True)
    await worker.die()
    for _ in range(2):
        again = Worker(world, tmp_path)
        await again.start()
        found = await use(world, key)
        assert (found.used, found.leased) == (3 * COST, 0)
        await again.die()
    again = Worker(world, tmp_path)
    await again.start()
    assert (await spend_all(world))[0] == 7
    assert await books(world) == 10 * COST
