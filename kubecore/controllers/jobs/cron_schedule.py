"""When a cron schedule is due: the arithmetic of github.com/robfig/cron v3, which CronJobs follow.

Five fields (minute, hour, day of month, month, day of week) with lists, ranges, steps and names, or a descriptor. Where
a day is restricted by both of its fields, either will do. Hours pass as they do on the clock of the zone: one that a
change of the clock leaves out is skipped, one that comes twice counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kubecore.api import cron, durations
from kubecore.api.cron import BadSchedule

_YEARS = 5


class Schedule(Protocol):
    def next(self, after: datetime) -> datetime | None:
        """The first time later than `after`, in UTC; None where none comes within five years."""


@dataclass(frozen=True, slots=True)
class Every:
    """`@every 90s`: at a constant distance from the time asked about."""

    seconds: int

    def next(self, after: datetime) -> datetime | None:
        return after.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Calendar:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Both fields of the day are restricted, so that one of them is enough."""
    zone: tzinfo

    def next(self, after: datetime) -> datetime | None:
        begin = after.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        day = begin.astimezone(self.zone).date()
        last = day.year + _YEARS
        while day.year <= last:
            if day.month not in self.months:
                day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
                continue
            if self._matches(day):
                found = self._within(day, begin)
                if found is not None:
                    return found
            day += timedelta(days=1)
        return None

    def _matches(self, day: date) -> bool:
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_weekday if self.either_day else by_date and by_weekday

    def _within(self, day: date, begin: datetime) -> datetime | None:
        """The first match of the day that is not before `begin`."""
        hour = max(self._midnight(day), begin)
        while True:
            local = hour.astimezone(self.zone)
            if local.date() != day:
                return None
            rest = 60 - local.minute
            if local.hour in self.hours:
                for minutes in range(rest):
                    found = hour + timedelta(minutes=minutes)
                    # within the hour, too, a clock may be changed
                    there = found.astimezone(self.zone)
                    if there.minute in self.minutes and there.hour in self.hours and there.date() == day:
                        return found
            hour += timedelta(minutes=rest)

    def _midnight(self, day: date) -> datetime:
        """The day's first moment."""
        found = datetime.combine(day, time(), tzinfo=self.zone).astimezone(UTC)
        # where midnight is left out, the day begins later; the arithmetic may land on either side of the gap
        while found.astimezone(self.zone).date() < day:
            found += timedelta(minutes=30)
        return found


def parse(text: str, zone_name: str = "") -> Schedule:
    """A schedule, in UTC unless a zone is named (or told in the text as `TZ=` or `CRON_TZ=`)."""
    if text.startswith(("TZ=", "CRON_TZ=")):
        zone_name, _, text = text.partition("=")[2].partition(" ")
        text = text.strip()
    zone = load_zone(zone_name)
    if text.startswith("@every "):
        return Every(_duration(text.removeprefix("@every ")))
    if text.startswith("@"):
        if text not in cron.DESCRIPTORS:
            raise BadSchedule(f"unrecognized descriptor: {text}")
        text = cron.DESCRIPTORS[text]
    minutes, hours, days, months, weekdays = cron.fields(text)
    either = not days.any and not weekdays.any
    return Calendar(minutes.values, hours.values, days.values, months.values, weekdays.values, either, zone)


def load_zone(name: str) -> tzinfo:
    """The zone of the IANA database; "" is UTC."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadSchedule(f"unknown time zone {name}") from error


def _duration(text: str) -> int:
    """Whole seconds of "1h30m", at least one."""
    try:
        return max(1, int(durations.seconds(text)))
    except ValueError as error:
        raise BadSchedule(f"failed to parse duration @every {text}: {error}") from None
