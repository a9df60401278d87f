"""YAML as sigs.k8s.io/yaml has it; what is written is read back as it was."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubecore.apiserver.handlers.yaml_output import dumped


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain text", "plain text"),
        ("1", '"1"'),
        ("1e3", '"1e3"'),
        ("0.5", '"0.5"'),
        ("true", '"true"'),
        ("no", '"no"'),
        ("n", '"n"'),
        ("", '""'),
        ("null", '"null"'),
        ("2026-01-01T00:00:00Z", '"2026-01-01T00:00:00Z"'),
        ("12:30", '"12:30"'),
        ("a: b", "'a: b'"),
        ("*", "'*'"),
    ],
)
def test_texts_that_would_be_read_as_something_else_are_in_double_quotes(value: str, written: str) -> None:
    assert dumped({"a": value}).decode() == f"a: {written}\n"
    assert yaml.safe_load(dumped({"a": value})) == {"a": value}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("word " * 20 + "end", "word" + " word" * 15 + "\n  word word word word end"),
        ("a: " + "word " * 20 + "end", "'a: word" + " word" * 14 + "\n  word word word word word end'"),
        ("\a " + "word " * 20 + "end", '"\\a word' + " word" * 14 + '\n  word word word word word end"'),
        ("x" * 100 + " y", "x" * 100 + "\n  y"),
        ("x" * 100, "x" * 100),
    ],
)
def test_a_text_of_more_than_80_columns_goes_on_in_the_next_line(value: str, written: str) -> None:
    assert dumped({"a": value}).decode() == f"a: {written}\n"
    assert yaml.safe_load(dumped({"a": value})) == {"a": value}


def test_lines_stay_lines() -> None:
    assert dumped({"a": "one\ntwo\n"}) == b"a: |\n  one\n  two\n"


def test_the_same_value_is_written_as_often_as_it_is_there() -> None:
    again: list[Any] = [{"x": 1}]
    assert dumped({"a": again, "b": again}) == b"a:\n- x: 1\nb:\n- x: 1\n"
