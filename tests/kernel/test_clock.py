"""Clocks: UTC always; a fixed one moves only when told."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from bursar.kernel.clock import FixedClock, SystemClock


def test_the_system_clock_tells_utc_and_its_durations_never_go_back():
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()


def test_a_fixed_clock_stands_still_until_advanced():
    clock = FixedClock(datetime(2026, 11, 24, 15, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now() == clock.now() == datetime(2026, 11, 24, 13, tzinfo=UTC)
    clock.advance(timedelta(minutes=1.5))
    assert clock.now() == datetime(2026, 11, 24, 13, 1, 30, tzinfo=UTC)
    assert clock.monotonic() == 90


def test_setting_the_wall_clock_back_leaves_durations_alone():
    clock = FixedClock(datetime(2026, 11, 24, tzinfo=UTC))
    clock.set(datetime(2026, 11, 23, tzinfo=UTC))
    assert clock.now() == datetime(2026, 11, 23, tzinfo=UTC)
    assert clock.monotonic() == 0


def test_a_time_without_its_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        FixedClock(datetime(2026, 11, 24))  # noqa: DTZ001 - that is what is refused
