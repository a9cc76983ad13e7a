"""How endpoints are remembered: windows, the circuit, speeds, the budget of second tries, warm sessions. The clock stands still."""

import random
from datetime import timedelta

import pytest

from bursar.gateway import EndpointHealth, StickySessions
from bursar.gateway import _health as health_module
from bursar.gateway._health import (
    BUDGET_FLOOR,
    BUDGET_PERCENT,
    BUDGET_SECONDS,
    FAILURES_TO_OPEN,
    OUTAGE_FAILURES_MIN,
    OUTAGE_SECONDS,
    PAUSE_SECONDS_FIRST,
    PAUSE_SECONDS_MAX,
    PROBE_SECONDS_MAX,
)
from bursar.gateway._order import HEALTHY, Condition
from bursar.gateway._performance import Window
from bursar.gateway._sticky import SESSION_SECONDS
from bursar.kernel.clock import FixedClock


class Longest(random.Random):
    """Draws what makes pauses as long as they get, almost."""

    def random(self) -> float:
        return 1.0


@pytest.fixture
def health(fixed_clock: FixedClock) -> EndpointHealth:
    return EndpointHealth(fixed_clock, Longest())


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def condition(health: EndpointHealth, endpoint: str = "a") -> Condition:
    return health.look()(endpoint)


def open_circuit(health: EndpointHealth, endpoint: str = "a", **more: object) -> None:
    for _ in range(FAILURES_TO_OPEN):
        health.failed(endpoint, **more)  # type: ignore[arg-type]


def test_an_endpoint_that_was_never_heard_of_is_healthy(health: EndpointHealth):
    assert condition(health) is HEALTHY
    assert health.claim("a")
    assert len(health) == 0


def test_a_window_forgets_what_is_older_than_it_and_nothing_younger():
    window = Window(30, 10)
    window.add(0.0, 1, 0)
    window.add(14.9, 0, 2)
    window.pass_to(26.9)
    assert (window.first, window.second) == (1, 2)
    window.pass_to(30.0)
    assert (window.first, window.second) == (0, 2)
    window.pass_to(45.0)
    assert (window.first, window.second) == (0, 0)
    window.add(10_000.0, 3, 4)
    window.pass_to(10_000.0)
    assert (window.first, window.second) == (3, 4)
    window.add(9_000.0, 1, 1)
    assert (window.first, window.second) == (4, 5), "a time that goes back loses nothing"


def test_a_few_failures_are_no_outage_and_half_of_many_are(health: EndpointHealth):
    for _ in range(OUTAGE_FAILURES_MIN - 1):
        health.failed("a")
    assert not condition(health).has_outage
    health.failed("a")
    assert condition(health).has_outage
    health.succeeded("a", None)
    health.succeeded("a", None)
    health.succeeded("a", None)
    assert condition(health).has_outage, "three of six"
    health.succeeded("a", None)
    assert not condition(health).has_outage, "three of seven"


def test_an_outage_is_over_when_its_window_has_passed(health: EndpointHealth, fixed_clock: FixedClock):
    for _ in range(OUTAGE_FAILURES_MIN):
        health.failed("a")
    fixed_clock.advance(seconds(OUTAGE_SECONDS - 4))
    assert condition(health).has_outage
    fixed_clock.advance(seconds(4))
    assert not condition(health).has_outage


def test_endpoints_do_not_share_their_failures(health: EndpointHealth):
    open_circuit(health, "a")
    assert condition(health, "a").is_open
    assert condition(health, "b") is HEALTHY


def test_the_circuit_opens_after_a_named_number_of_failures_in_a_row(health: EndpointHealth):
    for _ in range(FAILURES_TO_OPEN - 1):
        health.failed("a")
    health.succeeded("a", None)
    for _ in range(FAILURES_TO_OPEN - 1):
        health.failed("a")
    assert not condition(health).is_open
    assert health.claim("a")
    health.failed("a")
    assert condition(health).is_open
    assert condition(health).retry_after_seconds == PAUSE_SECONDS_FIRST
    assert not health.claim("a")


def test_after_the_pause_one_request_tries_it_and_the_others_wait(health: EndpointHealth, fixed_clock: FixedClock):
    open_circuit(health)
    fixed_clock.advance(seconds(PAUSE_SECONDS_FIRST))
    assert not condition(health).is_open
    assert health.claim("a")
    assert condition(health).is_open, "to everybody else"
    assert not health.claim("a")
    health.succeeded("a", 0.1)
    assert not condition(health).is_open
    assert health.claim("a")
    assert health.claim("a")


def test_each_failed_try_doubles_the_pause_up_to_its_maximum_and_a_success_starts_over(
    health: EndpointHealth, fixed_clock: FixedClock
):
    open_circuit(health)
    pauses = []
    for _ in range(7):
        pauses.append(condition(health).retry_after_seconds)
        fixed_clock.advance(seconds(pauses[-1]))
        assert health.claim("a")
        health.failed("a")
    assert pauses == [2, 4, 8, 16, 30, 30, 30]
    assert max(pauses) == PAUSE_SECONDS_MAX
    fixed_clock.advance(seconds(PAUSE_SECONDS_MAX))
    health.succeeded("a", None)
    open_circuit(health)
    assert condition(health).retry_after_seconds == PAUSE_SECONDS_FIRST


def test_a_pause_is_shortened_by_a_random_part_of_up_to_a_half(fixed_clock: FixedClock):
    seen = set()
    for seed in range(50):
        health = EndpointHealth(fixed_clock, random.Random(seed))
        for _ in range(FAILURES_TO_OPEN):
            health.failed("a")
        [record] = health._records.values()
        assert record.open_until is not None
        pause = record.open_until - fixed_clock.monotonic()
        assert PAUSE_SECONDS_FIRST / 2 <= pause <= PAUSE_SECONDS_FIRST
        seen.add(round(pause, 3))
    assert len(seen) > 25


def test_failures_that_come_in_while_it_is_open_do_not_make_the_pause_longer(
    health: EndpointHealth, fixed_clock: FixedClock
):
    open_circuit(health)
    fixed_clock.advance(seconds(1))
    open_circuit(health)
    assert condition(health).retry_after_seconds == 1
    assert [record.opened for record in health._records.values()] == [1]


def test_a_provider_that_asks_for_a_longer_pause_gets_it_within_the_maximum(health: EndpointHealth):
    open_circuit(health, retry_after_seconds=11)
    assert condition(health).retry_after_seconds == 11
    open_circuit(health, "b", retry_after_seconds=3600)
    assert condition(health, "b").retry_after_seconds == PAUSE_SECONDS_MAX


def test_a_try_without_an_outcome_lets_the_next_one_try(health: EndpointHealth, fixed_clock: FixedClock):
    open_circuit(health)
    fixed_clock.advance(seconds(PAUSE_SECONDS_FIRST))
    assert health.claim("a")
    health.released("a")
    assert health.claim("a"), "the client left"
    fixed_clock.advance(seconds(PROBE_SECONDS_MAX))
    assert health.claim("a"), "nobody heard of it again"


def test_what_needs_a_person_is_told_apart_and_forgotten_with_the_next_success(health: EndpointHealth):
    open_circuit(health, needs_person=True)
    assert condition(health).needs_person
    health.succeeded("a", None)
    assert not condition(health).needs_person


def test_released_calls_count_neither_way(health: EndpointHealth):
    for _ in range(100):
        health.released("a")
    assert condition(health) is HEALTHY
    for _ in range(OUTAGE_FAILURES_MIN):
        health.failed("a")
        health.released("a")
    assert condition(health).has_outage


def test_speeds_are_whole_numbers_that_follow_what_is_measured(health: EndpointHealth):
    health.succeeded("a", 0.5)
    assert condition(health).latency_micros == 500_000
    health.succeeded("a", 1.3)
    assert condition(health).latency_micros == 600_000, "an eighth of the way"
    health.measured("a", 100, 2.0)
    assert condition(health).throughput_millis == 50_000
    health.measured("a", 0, 2.0)
    health.measured("a", 10, 0.0)
    assert condition(health).throughput_millis == 50_000
    for _ in range(200):
        health.measured("a", 10, 1.0)
        health.succeeded("a", 0.01)
    found = condition(health)
    assert found.throughput_millis is not None
    assert found.latency_micros is not None
    assert abs(found.throughput_millis - 10_000) < 10
    assert abs(found.latency_micros - 10_000) < 10
    assert isinstance(found.latency_micros, int)


def test_the_least_recently_heard_of_endpoints_are_forgotten(health: EndpointHealth, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health_module, "ENDPOINTS_MAX", 3)
    open_circuit(health, "a")
    for name in ("b", "c"):
        health.succeeded(name, 0.1)
    health.failed("a")
    health.succeeded("d", 0.1)
    assert len(health) == 3
    assert condition(health, "b") is HEALTHY
    assert condition(health, "a").is_open


def test_second_tries_are_a_share_of_the_requests_above_a_floor(health: EndpointHealth, fixed_clock: FixedClock):
    tries = sum(health.may_try_again() for _ in range(10 * BUDGET_FLOOR))
    assert tries == BUDGET_FLOOR
    for _ in range(20 * BUDGET_FLOOR):
        health.asked()
    tries += sum(health.may_try_again() for _ in range(10 * BUDGET_FLOOR))
    assert tries == 20 * BUDGET_FLOOR * BUDGET_PERCENT // 100
    assert not health.may_try_again()
    fixed_clock.advance(seconds(BUDGET_SECONDS))
    assert health.may_try_again()


def test_a_session_is_remembered_by_owner_and_model_and_forgotten_after_a_while(fixed_clock: FixedClock):
    sessions = StickySessions(fixed_clock)
    sessions.served("org_1/s", "acme/prime", "alpha")
    assert sessions.find("org_1/s", "acme/prime") == "alpha"
    assert sessions.find("org_2/s", "acme/prime") is None
    assert sessions.find("org_1/s", "acme/second") is None
    fixed_clock.advance(seconds(SESSION_SECONDS))
    assert sessions.find("org_1/s", "acme/prime") == "alpha"
    fixed_clock.advance(seconds(1))
    assert sessions.find("org_1/s", "acme/prime") is None


def test_sessions_are_bounded_and_the_oldest_goes_first(fixed_clock: FixedClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bursar.gateway._sticky.SESSIONS_MAX", 2)
    sessions = StickySessions(fixed_clock)
    for name in ("one", "two"):
        sessions.served(name, "m", name)
    sessions.served("one", "m", "again")
    sessions.served("three", "m", "three")
    assert len(sessions) == 2
    assert (sessions.find("one", "m"), sessions.find("two", "m")) == ("again", None)
