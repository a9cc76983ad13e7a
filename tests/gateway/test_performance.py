"""What lists tell of an endpoint: uptimes over three spans, percentiles of half an hour. The clock stands still."""

from datetime import timedelta
from random import Random

import pytest

from bursar.gateway import EndpointHealth, Percentiles
from bursar.gateway._performance import SAMPLES_MAX, SAMPLES_SECONDS, UNHEARD_OF, Samples
from bursar.kernel.clock import FixedClock


@pytest.fixture
def health(fixed_clock: FixedClock) -> EndpointHealth:
    return EndpointHealth(fixed_clock, Random(1))


def test_of_an_endpoint_that_was_never_heard_of_nothing_is_told_and_nothing_kept(health: EndpointHealth):
    assert health.performance("a") is UNHEARD_OF
    assert len(health) == 0


def test_outcomes_count_in_each_span_until_they_are_too_old_for_it(health: EndpointHealth, fixed_clock: FixedClock):
    health.succeeded("a", None)
    health.succeeded("a", None)
    health.failed("a")
    assert health.performance("a").uptimes == ((2, 1),) * 3
    fixed_clock.advance(timedelta(minutes=6))
    health.succeeded("a", None)
    assert health.performance("a").uptimes == ((1, 0), (3, 1), (3, 1))
    fixed_clock.advance(timedelta(minutes=26))
    assert health.performance("a").uptimes == ((0, 0), (1, 0), (3, 1))
    fixed_clock.advance(timedelta(hours=24))
    assert health.performance("a").uptimes == ((0, 0),) * 3


def test_speeds_are_told_as_percentiles_by_nearest_rank(health: EndpointHealth):
    for millis in range(1, 101):
        health.succeeded("a", millis / 1000)
        health.measured("a", tokens=millis, seconds=1)
    seen = health.performance("a")
    assert seen.latency_micros == Percentiles(50_000, 75_000, 90_000, 99_000)
    assert seen.throughput_millis == Percentiles(50_000, 75_000, 90_000, 99_000)
    health.succeeded("b", None)
    assert health.performance("b").latency_micros is None


def test_one_measurement_is_every_percentile():
    samples = Samples()
    samples.add(0, 7)
    assert samples.percentiles(0) == Percentiles(7, 7, 7, 7)


def test_what_is_older_than_half_an_hour_is_not_told():
    samples = Samples()
    samples.add(0, 1)
    samples.add(60, 9)
    assert samples.percentiles(SAMPLES_SECONDS) == Percentiles(9, 9, 9, 9)
    assert samples.percentiles(SAMPLES_SECONDS + 60) is None


def test_only_the_latest_measurements_are_kept():
    samples = Samples()
    for value in range(3 * SAMPLES_MAX + 1):
        samples.add(0, value)
    assert len(samples._values) == SAMPLES_MAX
    assert sorted(samples._values) == list(range(2 * SAMPLES_MAX + 1, 3 * SAMPLES_MAX + 1))
