"""Accept headers, as far as documents are chosen by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class MediaRange(NamedTuple):
    """One clause of an Accept header: `type/subtype` and its parameters without q."""

    media: str
    parameters: Mapping[str, str]

    def covers(self, media: str) -> bool:
        """Whether it names this type, or all types like it."""
        return self.media in ("*/*", media, f"{media.partition('/')[0]}/*")


# More than anybody sends.
_MOST_RANGES = 64


def media_ranges(accept: str) -> list[MediaRange]:
    """What is acceptable, best first, as goautoneg.ParseAccept has it: a quality of 0 is only the least, and what is no
    number is 0. An empty header accepts anything."""
    found: list[tuple[float, MediaRange]] = []
    for clause in (accept or "*/*").split(",")[:_MOST_RANGES]:
        head, *rest = clause.strip(" ").split(";")
        kind, _, subtype = head.partition("/")
        kind, (subtype, _, more) = kind.strip(" "), subtype.partition("/")
        if not subtype and kind == "*":
            subtype = "*"
        if not subtype or more:
            continue
        pairs = (parameter.partition("=") for parameter in rest)
        parameters = {name.strip(" "): value for name, _, value in pairs if value and "=" not in value}
        quality = _quality(parameters.pop("q", "1"))
        media = f"{kind}/{subtype.strip(' ')}"
        one = (quality, MediaRange(media, {name: value.strip(" ") for name, value in parameters.items()}))
        # Its sort is by insertion, and what it sorts by is no order.
        at = len(found)
        while at and _precedes(one, found[at - 1]):
            at -= 1
        found.insert(at, one)
    return [one for _, one in found]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _precedes(one: tuple[float, MediaRange], other: tuple[float, MediaRange]) -> bool:
    (kind, _, subtype), (other_kind, _, other_subtype) = one[1].media.partition("/"), other[1].media.partition("/")
    return one[0] > other[0] or (kind != "*" == other_kind) or (subtype != "*" == other_subtype)


def passes_the_router(accept: str, made: Iterable[str]) -> bool:
    """Whether one of the media types that are made stands there, or `*/*`: go-restful, which upstream's built-in
    resources are served with, knows no other wildcards (Route.matchesAccept)."""
    given = {clause.partition(";")[0].strip(" ") for clause in accept.split(",")}
    return not accept or bool(given & {*made, "*/*"})
