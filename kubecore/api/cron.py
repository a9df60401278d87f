"""The five fields of a cron schedule, as github.com/robfig/cron v3 reads them."""

from __future__ import annotations

import re
from typing import NamedTuple

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    (0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_NUMBER = re.compile(r"[+-]?[0-9]+")

DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class BadSchedule(ValueError):
    """The text is no schedule, or its zone is none; the message says why."""


class Field(NamedTuple):
    values: frozenset[int]
    any: bool
    """`*` or `?` is among what it lists."""


def fields(text: str) -> list[Field]:
    """Minutes, hours, days of the month, months and days of the week. Raises BadSchedule."""
    found = text.split()
    if len(found) != len(_FIELDS):
        raise BadSchedule(f"expected exactly {len(_FIELDS)} fields, found {len(found)}: [{' '.join(found)}]")
    return [_field(one, *bounds) for one, bounds in zip(found, _FIELDS, strict=True)]


def _field(text: str, low: int, high: int, named: dict[str, int]) -> Field:
    values: set[int] = set()
    is_any = False
    for part in filter(None, text.split(",")):
        chosen, star = _range(part, low, high, named)
        values.update(chosen)
        is_any |= star
    return Field(frozenset(values), is_any)


def _range(expression: str, low: int, high: int, named: dict[str, int]) -> tuple[range, bool]:
    """`*`, `?`, a value, `a-b`, each with an optional `/step`."""
    bounds, *steps = expression.split("/")
    limits = bounds.split("-")
    star = limits[0] in ("*", "?")
    if star:
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
        # "5/10" is "5-59/10"
        last = high
    if first < low:
        raise BadSchedule(f"beginning of range ({first}) below minimum ({low}): {expression}")
    if last > high:
        raise BadSchedule(f"end of range ({last}) above maximum ({high}): {expression}")
    if first > last:
        raise BadSchedule(f"beginning of range ({first}) beyond end of range ({last}): {expression}")
    if step == 0:
        raise BadSchedule(f"step of range should be a positive number: {expression}")
    return range(first, last + 1, step), star and step == 1


def _number(text: str, named: dict[str, int]) -> int:
    found = named.get(text.lower())
    if found is not None:
        return found
    if _NUMBER.fullmatch(text) is None:
        raise BadSchedule(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise BadSchedule(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)
