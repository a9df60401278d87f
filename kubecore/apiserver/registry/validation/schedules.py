"""Cron schedules, as github.com/robfig/cron v3 reads them: five fields, or a descriptor."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    (0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_DESCRIPTORS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_EVERY = re.compile(r"([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+")
_ZONE_PART = re.compile(r"[A-Za-z.\-_0-9+]{1,14}")
_NUMBER = re.compile(r"[+-]?[0-9]+")


class BadSchedule(ValueError):
    """The text is no schedule; the message says why."""


def check_schedule(text: str) -> None:
    """Raises BadSchedule for what no CronJob can follow."""
    if not text:
        raise BadSchedule("empty spec string")
    if text.startswith(("TZ=", "CRON_TZ=")):
        zone, space, text = text.partition("=")[2].partition(" ")
        if not space:
            raise BadSchedule("invalid schedule format: runtime error: slice bounds out of range [:-1]")
        if not _is_known(zone):
            raise BadSchedule(f"provided bad location {zone}: unknown time zone {zone}")
        text = text.strip()
    if text.startswith("@"):
        _check_descriptor(text)
        return
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise BadSchedule(f"expected exactly {len(_FIELDS)} fields, found {len(fields)}: [{' '.join(fields)}]")
    for field, (low, high, named) in zip(fields, _FIELDS, strict=True):
        for part in filter(None, field.split(",")):
            _check_range(part, low, high, named)


def _check_descriptor(text: str) -> None:
    if text in _DESCRIPTORS:
        return
    every, duration = "@every ", text.removeprefix("@every ")
    if not text.startswith(every):
        raise BadSchedule(f"unrecognized descriptor: {text}")
    if duration != "0" and _EVERY.fullmatch(duration.removeprefix("-").removeprefix("+")) is None:
        raise BadSchedule(f'failed to parse duration {text}: time: invalid duration "{duration}"')


def _check_range(expression: str, low: int, high: int, named: dict[str, int]) -> None:
    """`*`, `?`, a value, `a-b`, each with an optional `/step`."""
    bounds, *steps = expression.split("/")
    limits = bounds.split("-")
    if limits[0] in ("*", "?"):
        first, last = low, high
    else:
        first = _number(limits[0], named)
        if len(limits) > 2:
            raise BadSchedule(f"too many hyphens: {expression}")
        last = _number(limits[1], named) if len(limits) == 2 else first
    if len(steps) > 1:
        raise BadSchedule(f"too many slashes: {expression}")
    step = _number(steps[0], {}) if steps else 1
    if steps and len(limits) == 1:
        # From there to the end.
        last = high
    if first < low:
        raise BadSchedule(f"beginning of range ({first}) below minimum ({low}): {expression}")
    if last > high:
        raise BadSchedule(f"end of range ({last}) above maximum ({high}): {expression}")
    if first > last:
        raise BadSchedule(f"beginning of range ({first}) beyond end of range ({last}): {expression}")
    if step == 0:
        raise BadSchedule(f"step of range should be a positive number: {expression}")


def _number(text: str, named: dict[str, int]) -> int:
    found = named.get(text.lower())
    if found is not None:
        return found
    if _NUMBER.fullmatch(text) is None:
        raise BadSchedule(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise BadSchedule(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)


def zone_errors(name: str) -> list[str]:
    """What is wrong with the name of a zone of the IANA database; "Local" depends on the machine and is none."""
    for part in name.split("/"):
        if part in (".", "..") or part.startswith("-") or _ZONE_PART.fullmatch(part) is None:
            return [f"unknown time zone {name}"]
    errors = []
    if name.lower() == "local":
        errors.append("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
    if name != "Local" and not _is_known(name):
        errors.append(f"unknown time zone {name}")
    return errors


def _is_known(name: str) -> bool:
    try:
        ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
