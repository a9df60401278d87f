"""Results of functions that are asked about the same few texts again and again."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

T = TypeVar("T")

# Longer than anything that is right: a qualified name has 317 characters at most.
_LONGEST = 320


def remembered(entries: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Keeps the results for the newest texts, as lru_cache does, but not for long ones: clients send texts of any
    length, and what was refused would stay in memory. An exception is not kept."""

    def decorate(function: Callable[[str], T]) -> Callable[[str], T]:
        kept = lru_cache(maxsize=entries)(function)

        @wraps(function)
        def ask(text: str) -> T:
            return kept(text) if len(text) <= _LONGEST else function(text)

        return ask

    return decorate
