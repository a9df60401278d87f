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

from kubecore.api import durations

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_YEARS = 5


class BadSchedule(ValueError):
    """The text is no schedule, or its zone is none; the message says why."""


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
        if text not in _DESCRIPTORS:
            raise BadSchedule(f"unrecognized descriptor: {text}")
        text = _DESCRIPTORS[text]
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise BadSchedule(f"expected exactly {len(_FIELDS)} fields, found {len(fields)}: [{' '.join(fields)}]")
    parsed = [_field(field, *bounds) for field, bounds in zip(fields, _FIELDS, strict=True)]
    (minutes, _), (hours, _), (days, any_date), (months, _), (weekdays, any_weekday) = parsed
    either = not any_date and not any_weekday
    return Calendar(minutes, hours, days, months, weekdays, either, zone)


def load_zone(name: str) -> tzinfo:
    """The zone of the IANA database; "" is UTC."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadSchedule(f"unknown time zone {name}") from error


def _field(text: str, low: int, high: int, named: dict[str, int]) -> tuple[frozenset[int], bool]:
    """The values, and whether they are all there are (`*` or `?`, alone or in a list)."""
    values: set[int] = set()
    unrestricted = False
    for part in text.split(","):
        bounds, slash, step_text = part.partition("/")
        step = _number(step_text, {}) if slash else 1
        start, dash, end = bounds.partition("-")
        if bounds in ("*", "?"):
            first, last = low, high
            unrestricted |= step == 1
        else:
            first = _number(start, named)
            # "5/10" is "5-59/10"
            last = _number(end, named) if dash else high if slash else first
        if step < 1 or first < low or last > high or first > last:
            raise BadSchedule(f"no such range: {part}")
        values.update(range(first, last + 1, step))
    return frozenset(values), unrestricted


def _number(text: str, named: dict[str, int]) -> int:
    found = named.get(text.lower())
    if found is not None:
        return found
    if not text.isascii() or not text.isdecimal():
        raise BadSchedule(f"failed to parse int from {text}")
    return int(text)


def _duration(text: str) -> int:
    """Whole seconds of "1h30m", at least one."""
    try:
        return max(1, int(durations.seconds(text)))
    except ValueError as error:
        raise BadSchedule(f"failed to parse duration @every {text}: {error}") from None
