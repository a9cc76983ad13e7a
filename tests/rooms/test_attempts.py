"""Back-off without lock-out: who fails waits longer and longer up to a bound; whoever waited is let try again."""

import asyncio
from datetime import timedelta

import pytest

from bursar import identity
from bursar.identity import AttemptKind, Subject, client_subject
from bursar.kernel.clock import FixedClock
from bursar.kernel.errors import TooMany
from bursar.storage import SYSTEM, Database
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio

ANA = Subject(AttemptKind.SIGN_IN, "ana@example.com")
RULE = AttemptKind.SIGN_IN.value


async def attempt(database: Database, *subjects: Subject) -> int:
    """Seconds to wait, 0 where the attempt was taken."""
    try:
        async with database.begin(SYSTEM) as tx:
            await identity.begin_attempt(tx, subjects)
    except TooMany as refusal:
        return refusal.retry_after_seconds
    return 0


async def clear(database: Database, *subjects: Subject) -> None:
    async with database.begin(SYSTEM) as tx:
        await identity.clear_attempts(tx, subjects)


async def test_the_wait_doubles_up_to_the_bound_and_never_locks_out(fixed_database: Database, fixed_clock: FixedClock):
    waits = []
    for _ in range(RULE.free + 12):
        wait = await attempt(fixed_database, ANA)
        waits.append(wait)
        if wait:
            fixed_clock.advance(timedelta(seconds=wait))
            assert await attempt(fixed_database, ANA) == 0
    assert waits[: RULE.free] == [0] * RULE.free
    longest = int(RULE.wait_max.total_seconds())
    assert waits[RULE.free : RULE.free + 8] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert max(waits) <= longest
    assert waits[-1] > longest / 2  # a little was forgotten while it waited


async def test_an_attempt_that_is_refused_counts_for_nothing(fixed_database: Database, fixed_clock: FixedClock):
    for _ in range(RULE.free):
        await attempt(fixed_database, ANA)
    assert [await attempt(fixed_database, ANA) for _ in range(20)] == [1] * 20
    fixed_clock.advance(timedelta(seconds=1))
    assert await attempt(fixed_database, ANA) == 0


async def test_what_fitted_clears_and_what_is_old_is_forgotten_one_by_one(
    fixed_database: Database, fixed_clock: FixedClock
):
    for _ in range(RULE.free):
        await attempt(fixed_database, ANA)
    await clear(fixed_database, ANA)
    assert [await attempt(fixed_database, ANA) for _ in range(RULE.free + 1)] == [0] * RULE.free + [1]
    fixed_clock.advance(RULE.forget_each * 2)
    assert [await attempt(fixed_database, ANA) for _ in range(3)] == [0, 0, 1]


async def test_a_hundred_at_once_are_a_hundred(database: Database):
    results = await asyncio.gather(*(attempt(database, ANA) for _ in range(40)))
    assert results.count(0) == RULE.free


async def test_one_of_several_that_waits_keeps_all_and_counts_none(fixed_database: Database):
    client = client_subject("192.0.2.7")
    for _ in range(RULE.free):
        await attempt(fixed_database, ANA)
    for _ in range(10):
        assert await attempt(fixed_database, ANA, client) > 0
    free = AttemptKind.CLIENT.value.free
    assert [await attempt(fixed_database, client) for _ in range(free + 1)] == [0] * free + [1]


async def test_a_right_password_takes_nothing_from_what_others_of_the_office_failed(fixed_database: Database):
    office = client_subject("192.0.2.7")
    for _ in range(AttemptKind.CLIENT.value.free):
        await attempt(fixed_database, office)
    await clear(fixed_database, office)
    assert [await attempt(fixed_database, office) for _ in range(2)] == [0, 1]


def test_a_client_of_ipv6_is_its_network():
    assert client_subject("2001:db8:1:2::1") == client_subject("2001:db8:1:2:ffff::9")
    assert client_subject("2001:db8:1:2::1") != client_subject("2001:db8:1:3::1")
    assert client_subject("192.0.2.1") != client_subject("192.0.2.2")
    assert client_subject("::ffff:192.0.2.1") != client_subject("::ffff:192.0.2.2")
    assert client_subject("fe80::1%eth0").what == "fe80::/64"
    assert client_subject("a socket").what == "a socket"


async def test_what_was_tried_is_kept_as_a_hash_and_not_for_long(fixed_database: Database, fixed_clock: FixedClock):
    await attempt(fixed_database, ANA, client_subject("192.0.2.7"))
    stored = await everything_stored(fixed_database)
    assert ANA.hash in stored
    assert "ana@example.com" not in stored
    assert "192.0.2.7" not in stored
    fixed_clock.advance(timedelta(days=1))
    async with fixed_database.begin(SYSTEM) as tx:
        assert await identity.forget_old_attempts(tx) == 2


def test_no_two_kinds_are_one():
    assert len({kind.value.name for kind in AttemptKind}) == len(AttemptKind.__members__)
