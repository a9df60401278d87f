"""Quantities keep their value, and are written as Kubernetes writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.api import quantity


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0"),
        ("0Gi", "0"),
        ("1", "1"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("1000m", "1"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("1.", "1"),
        ("100m", "100m"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1024", "1024"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("1E", "1E"),
        ("1E3", "1e3"),
        ("1e-3", "1e-3"),
        ("1000k", "1M"),
        ("-5Mi", "-5Mi"),
        ("0.1n", "1n"),
        ("+3", "3"),
    ],
)
def test_the_canonical_form(text: str, shown: str) -> None:
    assert quantity.canonical(text) == shown


@pytest.mark.parametrize(
    "text", ["", ".", "1x", "1 Gi", "Gi", "1e", "--1", "1.2.3", "0x10", "1mi", "1K", "e3", "1e999"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    assert not quantity.is_valid(text)
    with pytest.raises(quantity.InvalidQuantity, match="must match the regular expression"):
        quantity.nano(text)


def test_numbers_are_quantities_but_booleans_are_not() -> None:
    assert quantity.is_valid(2)
    assert quantity.milli(2) == 2000
    assert quantity.milli(0.5) == 500
    assert not quantity.is_valid(True)


def test_values_are_rounded_up() -> None:
    assert quantity.value("1100m") == 2
    assert quantity.milli("1500u") == 2
    assert quantity.value("1Gi") == 2**30


@given(st.integers(-(2**60), 2**60), st.booleans())
def test_formatting_keeps_whole_values(units: int, binary: bool) -> None:
    assert quantity.nano(quantity.format_nano(units * 10**9, binary=binary)) == units * 10**9


@given(st.integers(-(2**60), 2**60))
def test_the_canonical_form_is_its_own(nanos: int) -> None:
    text = quantity.format_nano(nanos)
    assert quantity.nano(text) == nanos
    assert quantity.canonical(text) == text
