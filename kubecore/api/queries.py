"""Query strings and paths, as Go's net/url reads and writes them. Whoever looks at one must see the same
parameters as whoever acts on it: who may do something can depend on them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote_plus

from kubecore.api import errors

# What of a path stays as it is.
_PATH_CHARACTERS = "/:@$&+,;=~-._"
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_INT64, _INT64_DIGITS = 1 << 63, 20
_UINT16, _UINT16_DIGITS = 1 << 16, 5


def query_pairs(query: str, errors: str = "replace") -> Iterator[tuple[str, str]]:
    """Names and values in order, unescaped; `errors` is what becomes of what is no UTF-8. A pair with a semicolon or a
    bad escape is none."""
    for pair in query.split("&"):
        if pair and ";" not in pair and not _BAD_ESCAPE.search(pair):
            name, _, value = pair.partition("=")
            yield unquote_plus(name, errors=errors), unquote_plus(value, errors=errors)


def parse_query(query: str) -> dict[str, str]:
    """The parameters; of a repeated one the first counts, as in Go's url.Values.Get."""
    params: dict[str, str] = {}
    for name, value in query_pairs(query):
        params.setdefault(name, value)
    return params


def passed_on(query: str) -> str:
    """As Go's url.Values.Encode writes what it has read: whoever it is passed on to sees no other parameters than we,
    in order of their names."""
    bytewise = "surrogateescape"
    pairs = sorted(query_pairs(query, bytewise), key=lambda pair: pair[0])
    return "&".join("=".join(quote_plus(one, errors=bytewise) for one in pair) for pair in pairs)


def escaped_path(path: str) -> str:
    """Of a decoded one, as Go's URL.EscapedPath."""
    return quote(path, safe=_PATH_CHARACTERS)


def int64(text: str) -> int:
    """As Go's strconv reads it. Raises 400."""
    why = "invalid syntax"
    if text.isascii() and text.lstrip("+-").isdigit() and len(text) - len(text.lstrip("+-")) <= 1:
        # Longer ones are out of range, and slow to read.
        value = int(text) if len(text) <= _INT64_DIGITS else _INT64
        if -_INT64 <= value < _INT64:
            return value
        why = "value out of range"
    raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": {why}')


def port_numbers(texts: Iterable[str]) -> list[int]:
    """As upstream reads a parameter that may be given several times, each a list. Raises 400."""
    found = []
    for text in texts:
        for one in text.split(","):
            why = "invalid syntax"
            if one.isascii() and one.isdigit():
                if len(one.lstrip("0")) <= _UINT16_DIGITS and int(one) < _UINT16:
                    found.append(int(one))
                    continue
                why = "value out of range"
            told = f'strconv.ParseUint: parsing "{one}": {why}'
            raise errors.bad_request(f"cannot convert to []int32: {told}")
    return found
