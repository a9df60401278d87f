"""Query strings as Go reads them."""

from __future__ import annotations

import pytest

from kubecore.api.errors import StatusError
from kubecore.api.queries import int64, parse_query, port_numbers, query_pairs


def test_a_pair_with_a_semicolon_or_a_bad_escape_is_none() -> None:
    assert list(query_pairs("a=1;b=2&c=%zz&d=%4&%=x&e=%41+f&g&h=;")) == [("e", "A f"), ("g", "")]


def test_of_a_repeated_parameter_the_first_counts_even_if_it_is_empty() -> None:
    assert parse_query("a=&a=1&b=2&b=3") == {"a": "", "b": "2"}


def test_numbers_are_read_as_go_reads_them() -> None:
    assert [int64(text) for text in ("7", "-7", "+7", "007")] == [7, -7, 7, 7]
    assert port_numbers(["80,443", "065535"]) == [80, 443, 65535]
    assert port_numbers([]) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [("ten", "invalid syntax"), ("", "invalid syntax"), ("1_0", "invalid syntax"), ("99999", "value out of range")],
)
def test_a_port_that_is_none_is_told_as_upstream(text: str, why: str) -> None:
    with pytest.raises(StatusError) as caught:
        port_numbers(["80", f"443,{text}"])
    told = f'cannot convert to []int32: strconv.ParseUint: parsing "{text}": {why}'
    assert (caught.value.code, caught.value.message) == (400, told)
