"""Ages read as Kubernetes prints them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kubecore.apiserver.tables.ages import human_duration, since


@pytest.mark.parametrize(
    ("elapsed", "shown"),
    [
        (timedelta(seconds=-5), "<invalid>"),
        (timedelta(seconds=-0.5), "0s"),
        (timedelta(seconds=0), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(seconds=120), "2m"),
        (timedelta(minutes=5, seconds=30), "5m30s"),
        (timedelta(minutes=10, seconds=30), "10m"),
        (timedelta(minutes=179), "179m"),
        (timedelta(hours=3), "3h"),
        (timedelta(hours=3, minutes=12), "3h12m"),
        (timedelta(hours=8, minutes=12), "8h"),
        (timedelta(hours=47), "47h"),
        (timedelta(hours=48), "2d"),
        (timedelta(days=5, hours=3), "5d3h"),
        (timedelta(days=8, hours=3), "8d"),
        (timedelta(days=729), "729d"),
        (timedelta(days=730), "2y"),
        (timedelta(days=740), "2y10d"),
        (timedelta(days=365 * 9), "9y"),
    ],
)
def test_a_duration_shows_two_units_while_they_tell_something(elapsed: timedelta, shown: str) -> None:
    assert human_duration(elapsed) == shown


def test_an_absent_time_is_unknown() -> None:
    assert since(None, datetime(2026, 1, 1, tzinfo=UTC)) == "<unknown>"


def test_times_with_and_without_fractions_are_read() -> None:
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert since("2026-01-01T00:00:00Z", now) == "60s"
    assert since("2026-01-01T00:00:00.250000Z", now) == "59s"
