"""Lists of indexes of an indexed Job, like `1,3-5,7` (kubernetes `pkg/apis/batch/validation/validation.go`)."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[+-]?[0-9]+")


class BadIndexes(ValueError):
    """The text is no such list; the message is upstream's."""


def intervals(text: str, completions: int) -> list[tuple[int, int]]:
    """First and last of each interval, rising. Raises BadIndexes."""
    found: list[tuple[int, int]] = []
    for part in text.split(",") if text else ():
        first, last = _interval(part, completions)
        if found and found[-1][1] >= first:
            raise BadIndexes(f"non-increasing order, previous: {found[-1][1]}, current: {first}")
        found.append((first, last))
    return found


def count_indexes(text: str, completions: int) -> int:
    """Raises BadIndexes."""
    return sum(last - first + 1 for first, last in intervals(text, completions))


def _interval(part: str, completions: int) -> tuple[int, int]:
    limits = part.split("-")
    if len(limits) > 2:
        rule = "violates the requirement that an index interval can have at most two parts separated by '-'"
        raise BadIndexes(f'the fragment "{part}" {rule}')
    numbers = []
    for limit in limits:
        if _NUMBER.fullmatch(limit) is None:
            raise BadIndexes(f'cannot convert string to integer for index: "{limit}"')
        if int(limit) >= completions:
            raise BadIndexes(f'too large index: "{limit}"')
        numbers.append(int(limit))
    if len(numbers) == 2 and numbers[0] >= numbers[1]:
        raise BadIndexes(f"non-increasing order, previous: {numbers[0]}, current: {numbers[1]}")
    return numbers[0], numbers[-1]


def first_common(one: str, other: str, completions: int) -> int | None:
    """The first index that both lists hold; intervals that are none are passed over."""
    found, others = _readable(one, completions), _readable(other, completions)
    common = [max(a, c) for a, b in found for c, d in others if a <= d and c <= b]
    return min(common, default=None)


def _readable(text: str, completions: int) -> list[tuple[int, int]]:
    found = []
    for part in text.split(","):
        try:
            found.append(_interval(part, completions))
        except BadIndexes:
            continue
    return found
