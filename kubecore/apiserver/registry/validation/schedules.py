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
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*")


class BadSchedule(ValueError):
    """The text is no schedule; the message says why."""


def check_schedule(text: str) -> None:
    """Raises BadSchedule for what no CronJob can follow."""
    if not text:
        raise BadSchedule("empty spec string")
    if text.startswith("@"):
        if text not in _DESCRIPTORS and not (text.startswith("@every ") and _EVERY.fullmatch(text[len("@every ") :])):
            raise BadSchedule(f"unrecognized descriptor: {text}")
        return
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise BadSchedule(f"expected exactly {len(_FIELDS)} fields, found {len(fields)}: {fields}".replace("'", ""))
    for field, (low, high, named) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            _check_range(part, low, high, named)


def _check_range(expression: str, low: int, high: int, named: dict[str, int]) -> None:
    """`*`, `?`, a value, `a-b`, each with an optional `/step`."""
    bounds, slash, step = expression.partition("/")
    if slash and "/" in step:
        raise BadSchedule(f"too many slashes: {expression}")
    if bounds in ("*", "?"):
        first, last = low, high
    else:
        start, dash, end = bounds.partition("-")
        if dash and "-" in end:
            raise BadSchedule(f"too many hyphens: {expression}")
        first = _number(start, named)
        last = _number(end, named) if dash else first
    if slash and _number(step, {}) == 0:
        raise BadSchedule(f"step of range should be a positive number: {expression}")
    if first < low:
        raise BadSchedule(f"beginning of range ({first}) below minimum ({low}): {expression}")
    if last > high:
        raise BadSchedule(f"end of range ({last}) above maximum ({high}): {expression}")
    if first > last:
        raise BadSchedule(f"beginning of range ({first}) beyond end of range ({last}): {expression}")


def _number(text: str, named: dict[str, int]) -> int:
    found = named.get(text.lower())
    if found is not None:
        return found
    if not text.isascii() or not text.isdigit():
        raise BadSchedule(f"failed to parse int from {text}")
    return int(text)


def is_time_zone(name: str) -> bool:
    """Whether it is a zone of the IANA database; "Local" depends on the machine and is none."""
    if name.lower() == "local" or _ZONE_NAME.fullmatch(name) is None:
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
