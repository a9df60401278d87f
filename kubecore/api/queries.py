"""Query strings, as Go's url.ParseQuery reads them. Whoever looks at one must see the same parameters as whoever acts
on it: who may do something can depend on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_plus

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def query_pairs(query: str) -> Iterator[tuple[str, str]]:
    """Names and values in order, unescaped. A pair with a semicolon or a bad escape is none."""
    for pair in query.split("&"):
        if pair and ";" not in pair and not _BAD_ESCAPE.search(pair):
            name, _, value = pair.partition("=")
            yield unquote_plus(name), unquote_plus(value)


def parse_query(query: str) -> dict[str, str]:
    """The parameters; of a repeated one the first counts, as in Go's url.Values.Get."""
    params: dict[str, str] = {}
    for name, value in query_pairs(query):
        params.setdefault(name, value)
    return params
