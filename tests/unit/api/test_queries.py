"""Query strings as Go reads them."""

from __future__ import annotations

from kubecore.api.queries import parse_query, query_pairs


def test_a_pair_with_a_semicolon_or_a_bad_escape_is_none() -> None:
    assert list(query_pairs("a=1;b=2&c=%zz&d=%4&%=x&e=%41+f&g&h=;")) == [("e", "A f"), ("g", "")]


def test_of_a_repeated_parameter_the_first_counts_even_if_it_is_empty() -> None:
    assert parse_query("a=&a=1&b=2&b=3") == {"a": "", "b": "2"}
