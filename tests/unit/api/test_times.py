"""Times are told as metav1.Time, whichever were told before them."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from kubecore.api import meta

BASE = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.lists(st.integers(-3_000_000, 3_000_000), max_size=20))
def test_each_time_is_told_as_its_own_second(microseconds: list[int]) -> None:
    for one in microseconds:
        when = BASE + timedelta(microseconds=one)
        assert meta.format_time(when) == when.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_times_of_other_zones_are_told_in_utc() -> None:
    assert meta.format_time(datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-01T00:00:00Z"


def test_the_first_and_the_last_second_there_are_can_be_told() -> None:
    assert meta.format_time(datetime.max.replace(tzinfo=UTC)) == "9999-12-31T23:59:59Z"
    assert meta.format_time(datetime.min.replace(tzinfo=UTC)) == "0001-01-01T00:00:00Z"
