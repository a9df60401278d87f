"""Semantic versions (semver.org 2.0.0), compared by precedence: build metadata counts for nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = r"(0|[1-9][0-9]*)"
_PART = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER_RE = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_PART}(?:\.{_PART})*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_LARGEST = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class SemVer:
    numbers: tuple[int, int, int] = (0, 0, 0)
    prerelease: tuple[str, ...] = ()

    def __lt__(self, other: SemVer) -> bool:
        return self._precedence() < other._precedence()

    def _precedence(self) -> tuple[object, ...]:
        # Numbers come before words; a release comes after all its previews.
        parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.prerelease)
        return self.numbers, not self.prerelease, parts


def is_semver(text: str) -> bool:
    """Whether it is one, whatever the size of its numbers."""
    return text.isascii() and _SEMVER_RE.fullmatch(text) is not None


def parse_semver(text: str) -> SemVer | None:
    """None when it is none."""
    found = _SEMVER_RE.fullmatch(text)
    if found is None or not text.isascii():
        return None
    major, minor, patch = (int(found[group]) for group in (1, 2, 3))
    if max(major, minor, patch) > _LARGEST:
        return None
    return SemVer((major, minor, patch), tuple(found[4].split(".")) if found[4] else ())
