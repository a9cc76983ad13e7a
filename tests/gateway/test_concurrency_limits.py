"""How many requests run at once, of a key, of an owner and in all: what is over is refused before anything is held."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bursar.gateway import ConcurrencyLimits
from bursar.settings import read_settings
from tests.gateway.world import Answer, chunk, usage, whole

pytestmark = pytest.mark.anyio

BODY = b'{"model":"acme/prime","messages":[{"role":"user","content":"Hi"}]}'
STREAM = BODY[:-1] + b',"stream":true}'


class Gate:
    """An upstream's step that waits until it is opened, and counts who waits."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0

    async def __call__(self) -> None:
        self.waiting += 1
        await self.opened.wait()

    async def holds(self, count: int) -> None:
        while self.waiting < count:
            await asyncio.sleep(0.001)


async def running(world: Any, gate: Gate, keys: list[str], body: bytes = BODY) -> list[asyncio.Task[Answer]]:
    tasks = [asyncio.ensure_future(world.post(body, key=key)) for key in keys]
    await gate.holds(len(tasks))
    return tasks


async def test_the_limits_are_generous_unless_told_otherwise(tmp_path):
    limits, settings = ConcurrencyLimits(), read_settings({}, data_dir=tmp_path)
    assert limits.per_key >= 256
    assert limits.per_owner >= 1000
    assert (limits.total, limits.per_owner, limits.per_key) == (
        settings.concurrency_total,
        settings.concurrency_per_owner,
        settings.concurrency_per_key,
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_over_its_limit_is_429_and_holds_nothing(scripted: Callable[..., Any], stream: bool):
    gate = Gate()
    steps = [gate, chunk("Hi"), chunk(finish="stop"), chunk(usage=usage(5, 1))]
    world = await scripted(steps if stream else [gate, whole("Hi", usage=usage(5, 1))])
    world.gateway.places.limits = ConcurrencyLimits(per_key=2)
    other = await world.make_key()
    body = STREAM if stream else BODY
    tasks = await running(world, gate, [world.key, world.key], body)
    held = await world.balance()
    refused = await world.post(body)
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.error["metadata"]["error_type"] == "rate_limit_exceeded"
    assert refused.error["metadata"]["scope"] == "api_key"
    assert "several keys" in refused.error["message"]
    assert await world.balance() == held
    tasks += [asyncio.ensure_future(world.post(body, key=other))]
    await gate.holds(3)
    gate.opened.set()
    assert [each.status for each in await asyncio.gather(*tasks)] == [200] * 3
    assert (await world.post(body)).status == 200
    assert len(await world.generations()) == 4


async def test_an_owner_over_its_limit_is_429_whichever_key_is_used_and_another_owner_is_served(
    scripted: Callable[..., Any],
):
    gate = Gate()
    world = await scripted([gate, whole("Hi", usage=usage(5, 1))])
    world.gateway.places.limits = ConcurrencyLimits(per_owner=2)
    other = await world.make_key()
    _, foreign = await world.make_pool(10**9)
    tasks = await running(world, gate, [world.key, other])
    refused = await world.post(BODY, key=other)
    assert (refused.status, refused.error["metadata"]["scope"]) == (429, "account")
    tasks.append(asyncio.ensure_future(world.post(BODY, key=foreign)))
    await gate.holds(3)
    gate.opened.set()
    assert [each.status for each in await asyncio.gather(*tasks)] == [200] * 3


async def test_a_full_house_is_503_at_once_even_for_a_made_up_key_and_is_open_again_afterwards(
    scripted: Callable[..., Any],
):
    gate = Gate()
    world = await scripted([gate, whole("Hi", usage=usage(5, 1))])
    world.gateway.places.limits = ConcurrencyLimits(total=3)
    tasks = await running(world, gate, [world.key] * 3)
    before = world.admission.lookups
    for key in (world.key, "sk-bursar-v1-nonsense"):
        refused = await world.post(BODY, key=key)
        assert refused.status == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert world.admission.lookups == before
    gate.opened.set()
    await asyncio.gather(*tasks)
    assert (await world.post(BODY)).status == 200
    assert world.gateway.places.taken == 0


async def test_places_are_given_back_by_whatever_ends_a_request(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi", usage=usage(5, 1))])
    for body in (b"{", b"{}", BODY.replace(b"acme/prime", b"nobody/nothing"), BODY):
        await world.post(body)
    leaving = asyncio.ensure_future(world.post(STREAM))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await world.settled()
    assert world.gateway.places.taken == 0
    assert not world.gateway.places._of_keys
    assert not world.gateway.places._of_owners
