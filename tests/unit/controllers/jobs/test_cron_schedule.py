"""When schedules are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kubecore.api.cron import BadSchedule
from kubecore.controllers.jobs.cron_schedule import parse


def due(schedule: str, after: str, count: int = 1, zone: str = "") -> list[str]:
    """The next times, in UTC, to the minute."""
    parsed, at, found = parse(schedule, zone), datetime.fromisoformat(after).replace(tzinfo=UTC), []
    for _ in range(count):
        following = parsed.next(at)
        assert following is not None
        at = following
        found.append(at.isoformat(sep=" ", timespec="minutes").removesuffix("+00:00"))
    return found


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("* * * * *", "2026-01-01 00:00", ["2026-01-01 00:01", "2026-01-01 00:02"]),
        ("* * * * *", "2026-01-01 00:00:59", ["2026-01-01 00:01"]),
        ("*/15 * * * *", "2026-01-01 00:50", ["2026-01-01 01:00", "2026-01-01 01:15"]),
        ("5/20 * * * *", "2026-01-01 00:00", ["2026-01-01 00:05", "2026-01-01 00:25", "2026-01-01 00:45"]),
        ("10-12,30 4 * * *", "2026-01-01 04:11", ["2026-01-01 04:12", "2026-01-01 04:30", "2026-01-02 04:10"]),
        ("0 9 * * mon-FRI", "2026-01-02 09:00", ["2026-01-05 09:00"]),
        ("0 0 1 jan,Jul ?", "2026-01-01 00:00", ["2026-07-01 00:00", "2027-01-01 00:00"]),
        ("0 0 29 2 *", "2026-01-01 00:00", ["2028-02-29 00:00"]),
        ("0 0 31 * *", "2026-01-31 00:00", ["2026-03-31 00:00", "2026-05-31 00:00"]),
        # both fields of the day: either will do, unless one is a star
        ("0 0 13 * 5", "2026-01-01 00:00", ["2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00"]),
        ("0 0 */2 * 5", "2026-01-01 00:00", ["2026-01-02 00:00", "2026-01-03 00:00"]),
        ("0 0 * * 0", "2026-01-01 00:00", ["2026-01-04 00:00"]),
        ("@hourly", "2026-01-01 00:00", ["2026-01-01 01:00"]),
        ("@daily", "2026-01-01 00:00", ["2026-01-02 00:00"]),
        ("@weekly", "2026-01-01 00:00", ["2026-01-04 00:00"]),
        ("@monthly", "2026-01-01 00:00", ["2026-02-01 00:00"]),
        ("@yearly", "2026-01-01 00:00", ["2027-01-01 00:00"]),
        ("@every 1h30m", "2026-01-01 00:10", ["2026-01-01 01:40", "2026-01-01 03:10"]),
        # what the API server lets pass is followed, too
        ("5,,20, * * * *", "2026-01-01 00:06", ["2026-01-01 00:20", "2026-01-01 01:05"]),
        ("+5 *-3 * * *", "2026-01-01 00:06", ["2026-01-01 01:05"]),
        ("TZ=Asia/Tokyo 0 0 * * *", "2026-01-01 00:00", ["2026-01-01 15:00"]),
    ],
)
def test_the_next_times(schedule: str, after: str, expected: list[str]) -> None:
    assert due(schedule, after, len(expected)) == expected


def test_a_zone_moves_with_summer_time() -> None:
    assert due("0 9 * * *", "2026-03-27 12:00", 3, "Europe/Berlin") == [
        "2026-03-28 08:00",
        "2026-03-29 07:00",
        "2026-03-30 07:00",
    ]


def test_an_hour_that_is_left_out_is_skipped() -> None:
    # on 29 March 2026 clocks in Berlin go from 02:00 to 03:00
    assert due("30 2 * * *", "2026-03-28 12:00", 1, "Europe/Berlin") == ["2026-03-30 00:30"]


def test_an_hour_that_comes_twice_counts_twice() -> None:
    # on 25 October 2026 clocks in Berlin go from 03:00 back to 02:00
    assert due("30 2 * * *", "2026-10-24 12:00", 3, "Europe/Berlin") == [
        "2026-10-25 00:30",
        "2026-10-25 01:30",
        "2026-10-26 01:30",
    ]


def test_a_day_without_midnight_begins_later() -> None:
    # Cairo goes from 00:00 to 01:00 on 24 April 2026
    assert due("30 1 24 4 *", "2026-04-23 12:00", 1, "Africa/Cairo") == ["2026-04-23 22:30"]


def test_zones_half_an_hour_off_are_met_to_the_minute() -> None:
    assert due("0 6 * * *", "2026-01-01 00:00", 1, "Asia/Kolkata") == ["2026-01-01 00:30"]


def test_what_never_comes_is_none() -> None:
    assert parse("59 23 31 2 *").next(datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_every_is_at_least_a_second() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert parse("@every 10ms").next(now) == now + timedelta(seconds=1)


@pytest.mark.parametrize(
    "schedule",
    ["", "* * * *", "60 * * * *", "* * * * 7", "a * * * *", "*/0 * * * *", "5-1 * * * *", "@never", "@every x"],
)
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(BadSchedule):
        parse(schedule)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(BadSchedule, match="unknown time zone Mars/Olympus"):
        parse("* * * * *", "Mars/Olympus")
