"""Label and field selectors for the fake API: the syntax of well-formed ones, nothing more."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_PARTS = re.compile(r",(?![^(]*\))")
_SET = re.compile(r"^\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*([^=!\s]+)\s*(!=|==|=)\s*(.*?)\s*$")


def label_selector(text: str) -> Callable[[Mapping[str, str]], bool]:
    tests = [_label_test(part) for part in _PARTS.split(text) if part.strip()]
    return lambda labels: all(test(labels) for test in tests)


def _label_test(part: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(part):
        key, operator, values = found[1], found[2], {one.strip() for one in found[3].split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(part):
        name, operator, value = found[1], found[2], found[3]
        if operator == "!=":
            return lambda labels: labels.get(name) != value
        return lambda labels: labels.get(name) == value
    part = part.strip()
    if part.startswith("!"):
        return lambda labels: part[1:].strip() not in labels
    return lambda labels: part in labels


def field_selector(text: str) -> Callable[[Mapping[str, Any]], bool]:
    tests = [_field_test(part) for part in text.split(",") if part.strip()]
    return lambda obj: all(test(obj) for test in tests)


def _field_test(part: str) -> Callable[[Mapping[str, Any]], bool]:
    found = _EQUAL.match(part)
    if found is None:
        raise ValueError(f"bad field selector: {part!r}")
    path, operator, value = found[1].split("."), found[2], found[3]

    def test(obj: Mapping[str, Any]) -> bool:
        at: Any = obj
        for step in path:
            at = (at or {}).get(step)
        return (str(at or "") == value) != (operator == "!=")

    return test
