"""A pool of numbers, some of them taken."""

from __future__ import annotations

import random


class NumberPool:
    """Numbers 0 to size - 1, one byte each.

    The first `static` numbers are handed out unasked only when nothing else is left, so that those who ask for a
    certain number find it free (KEP-3070). Which number comes next is random: a number just given back is not soon
    given to somebody else, whose clients may still remember the former owner.
    """

    def __init__(self, size: int, *, static: int = 0) -> None:
        self._taken = bytearray(size)
        self._static = min(static, size)
        self._random = random.Random()

    def __contains__(self, number: int) -> bool:
        return 0 <= number < len(self._taken) and bool(self._taken[number])

    def __len__(self) -> int:
        """How many are taken."""
        return self._taken.count(1)

    def take(self, number: int) -> bool:
        """Takes a certain number; False when it is taken. IndexError outside the pool."""
        if number < 0:
            raise IndexError(number)
        if self._taken[number]:
            return False
        self._taken[number] = 1
        return True

    def take_any(self) -> int | None:
        """Takes a free number, or None when there is none."""
        size, static = len(self._taken), self._static
        for low, high in ((static, size), (0, static)):
            if high <= low:
                continue
            start = self._random.randrange(low, high)
            number = self._taken.find(0, start, high)
            if number < 0:
                number = self._taken.find(0, low, start)
            if number >= 0:
                self._taken[number] = 1
                return number
        return None

    def give_back(self, number: int) -> None:
        """Frees a number; one that is free or outside the pool is ignored."""
        if 0 <= number < len(self._taken):
            self._taken[number] = 0


def static_band(size: int, *, least: int, most: int, step: int) -> int:
    """How many of the lower numbers are kept for those who ask for them: a `step`th, within bounds."""
    if size <= least:
        return 0
    return min(max(least, size // step), most)
