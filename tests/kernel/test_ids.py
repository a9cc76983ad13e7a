"""Ids: typed by their prefix, sortable by their time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel import ids

MAKERS = {
    "user": ids.new_user_id,
    "org": ids.new_organization_id,
    "key": ids.new_key_id,
    "gen": ids.new_generation_id,
    "pur": ids.new_purchase_id,
    "tr": ids.new_transfer_id,
    "evt": ids.new_event_id,
    "msg": ids.new_message_id,
}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
moments = st.integers(86_400, 253_402_128_000).flatmap(
    lambda second: st.integers(0, 999_999).map(
        lambda part: datetime.fromtimestamp(second, UTC).replace(microsecond=part)
    )
)


@pytest.mark.parametrize("prefix", MAKERS)
def test_an_id_has_the_shape_of_its_kind_and_of_no_other(prefix: str):
    made = MAKERS[prefix](NOON)
    assert ids.is_id(made, prefix)
    assert [other for other in MAKERS if ids.is_id(made, other)] == [prefix]
    assert len(made) <= 40


def test_only_a_generation_is_written_with_a_hyphen():
    assert ids.new_generation_id(NOON).startswith("gen-")
    assert all(MAKERS[prefix](NOON).startswith(f"{prefix}_") for prefix in MAKERS if prefix != "gen")


@given(moments, st.integers(1, 10**12))
def test_ids_made_a_millisecond_or_more_apart_sort_like_their_times(at: datetime, milliseconds: int):
    later = at + min(timedelta(milliseconds=milliseconds), datetime.max.replace(tzinfo=UTC) - at)
    assert ids.new_key_id(at) < ids.new_key_id(later)


@given(moments)
def test_the_floor_of_a_moment_is_below_every_id_of_it_and_above_those_before(at: datetime):
    floor = ids.generation_floor(at)
    assert ids.is_id(floor, "gen")
    assert all(floor <= ids.new_generation_id(at) for _ in range(5))
    assert ids.new_generation_id(at - timedelta(milliseconds=2)) < floor


def test_the_floor_of_midnight_cuts_between_two_days_exactly():
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    floor = ids.generation_floor(midnight)
    assert ids.new_generation_id(midnight - timedelta(microseconds=1)) < floor <= ids.new_generation_id(midnight)


def test_ten_thousand_ids_of_one_moment_are_all_different():
    assert len({ids.new_generation_id(NOON) for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    "text",
    [
        *("", "user", "user_", "user_123", "user-" + "0" * 26, "user_" + "0" * 25, "user_" + "0" * 27),
        *("user_" + "I" * 26, "user_" + "i" * 26, "USER_" + "0" * 26, "user_" + "0" * 25 + "\n", "user_" + "٠" * 26),
        *("xuser_" + "0" * 26, " user_" + "0" * 26, "user_" + "0" * 25 + "\x00"),
    ],
)
def test_what_is_not_quite_an_id_is_not_one(text: str):
    assert not ids.is_id(text, "user")


def test_a_person_is_a_personal_owner_and_an_organization_is_not():
    assert ids.is_personal(ids.OwnerId(ids.new_user_id(NOON)))
    assert not ids.is_personal(ids.OwnerId(ids.new_organization_id(NOON)))
    assert not ids.is_personal(ids.SYSTEM_OWNER)


def test_an_id_says_when_it_was_made():
    at = datetime(2026, 11, 24, 13, 30, 0, 123_000, tzinfo=UTC)
    assert [ids.made_at(made) for made in (ids.new_generation_id(at), ids.new_transfer_id(at))] == [at, at]
    with pytest.raises(ValueError, match="substring"):
        ids.made_at("gen-1")
