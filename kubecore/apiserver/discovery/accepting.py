"""Accept headers, as far as documents are chosen by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class MediaRange(NamedTuple):
    """One clause of an Accept header: `type/subtype` in lower case, and its parameters without q."""

    media: str
    parameters: Mapping[str, str]

    def covers(self, media: str) -> bool:
        """Whether it names this type, or all types like it."""
        return self.media in ("*/*", media, f"{media.partition('/')[0]}/*")


def media_ranges(accept: str) -> Iterator[MediaRange]:
    """What is acceptable, best first. An empty header accepts anything."""
    clauses: list[tuple[float, MediaRange]] = []
    for clause in (accept or "*/*").split(","):
        media, *rest = (part.strip() for part in clause.split(";"))
        parameters = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in rest)}
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0:
            clauses.append((quality, MediaRange(media.lower(), parameters)))
    clauses.sort(key=lambda entry: -entry[0])
    return (entry[1] for entry in clauses)
