"""JSONPath as printer columns use it: the notation of kubectl's templates, without the braces.

Fields (`.a`, `['a']`, `.*`), recursive descent (`..a`), indices, slices and unions (`[0]`, `[-1:]`, `[0,2]`), filters
(`[?(@.type=="Ready")]`). After k8s.io/client-go `util/jsonpath` (parser.go, jsonpath.go): a path is read once, into
steps that each map a list of values to the next one.
"""

from __future__ import annotations

import math
import operator
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

Values = list[Any]
Step = Callable[[Values], Values]

_ENDS = frozenset(" \t\r\n.,[]$@{}")
_KEY = re.compile(r"'([^']*)'")
_SLICE = re.compile(r"(-?\d*)(?::(-?\d*))?(?::(-?\d*))?", re.ASCII)
_NUMBER = re.compile(r"[+-]?[\d.]*")
_COMPARISON = re.compile(r"([^!<>=]+)([!<>=]+)(.+)", re.DOTALL)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class NotFound(Exception):
    """The path leads nowhere in this object: an index out of bounds, values that are not to be compared."""


class JSONPath:
    """A path, read. ValueError for what is none."""

    def __init__(self, path: str) -> None:
        self._steps = _Reader(path).steps()

    def find(self, obj: Any) -> Values:
        """All values the path leads to; missing keys lead nowhere. Raises NotFound."""
        return _walk(self._steps, [obj])


def _walk(steps: list[Step], values: Values) -> Values:
    for step in steps:
        values = step(values)
    return values


class _Reader:
    """Reads a path from its start; `at` is how far it has come."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def steps(self) -> list[Step]:
        made: list[Step] = []
        text = self._text
        while self._at < len(text):
            char = text[self._at]
            if text.startswith("[?(", self._at):
                made.append(self._filter())
            elif text.startswith("..", self._at):
                if made and made[-1] is _descend:
                    raise ValueError("invalid multiple recursive descent")
                made.append(_descend)
                self._at += 2
                if text[self._at : self._at + 1].isalnum() or text.startswith("_", self._at):
                    made.append(self._field())
            elif char in " @$":
                self._at += 1
            elif char == "[":
                made += self._array()
            elif char in "\"'":
                made.append(_constant(self._quoted(char)))
            elif char == ".":
                self._at += 1
                made.append(self._field())
            elif char in "+-" or char.isdecimal():
                made.append(_constant(self._number()))
            elif char.isalnum() or char == "_":
                made.append(self._word())
            elif char == "}":
                # Upstream goes on with another template, whose first result alone is shown.
                break
            else:
                raise ValueError(f"unrecognized character in action: {char!r}")
        return made

    def _until_end(self) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in _ENDS:
            self._at += 2 if self._text[self._at] == "\\" else 1
        self._at = min(self._at, len(self._text))
        return self._text[start : self._at]

    def _field(self) -> Step:
        name = self._until_end()
        return _everything if name == "*" else _member(name.replace("\\", ""))

    def _word(self) -> Step:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in _ENDS:
            self._at += 1
        word = self._text[start : self._at]
        return _constant(word == "true") if word in ("true", "false") else _unknown

    def _number(self) -> int | float:
        found = _NUMBER.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        if "." not in found[0]:
            return int(found[0])
        if not math.isfinite(number := float(found[0])):
            raise ValueError(f"cannot parse number {found[0]}")
        return number

    def _quoted(self, quote: str) -> str:
        end = self._at + 1
        while True:
            end = self._text.find(quote, end)
            if end < 0 or "\n" in self._text[self._at : end]:
                raise ValueError("unterminated quoted string")
            if self._text[end - 1] != "\\":
                break
            end += 1
        text = self._text[self._at + 1 : end]
        self._at = end + 1
        return _unquoted(text, quote) if "\\" in text else text

    def _array(self) -> list[Step]:
        end = self._text.find("]", self._at)
        if end < 0 or "\n" in self._text[self._at : end]:
            raise ValueError("unterminated array")
        text, self._at = self._text[self._at + 1 : end], end + 1
        parts = (":" if text == "*" else text).split(",")
        if len(parts) == 1:
            return _selected(parts[0])
        several = [_Reader(f"[{part.strip(' ')}]").steps() for part in parts]
        return [lambda values: [found for steps in several for found in _walk(steps, values)]]

    def _filter(self) -> Step:
        text, start = self._text, self._at + len("[?(")
        at, quote, closed = start, "", False
        while True:
            char = text[at : at + 1]
            if char in ("", "\n"):
                raise ValueError("unterminated filter")
            if char in "\"'":
                if not quote:
                    quote = char
                elif char == quote and text[at - 1] != "\\":
                    closed = True
            elif char == ")" and closed == bool(quote):
                break
            at += 1
        if text[at + 1 : at + 2] != "]":
            raise ValueError("unclosed array expect ]")
        self._at = at + 2
        return _filter(text[start:at])


_ESCAPE = re.compile(
    r"""\\(?:(?P<named>[abfnrtv\\'"])|x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})"""
    r"""|(?P<octal>[0-3][0-7]{2})|(?P<none>.?))""",
    re.DOTALL,
)
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def _unquoted(text: str, quote: str) -> str:
    """Without the escapes of Go's texts. Raises ValueError."""

    def meant(found: re.Match[str]) -> str:
        if (named := found["named"]) is not None and (named in _NAMED or named == quote):
            return _NAMED.get(named, named)
        if (number := found["x"] or found["u"] or found["U"]) is not None:
            if (code := int(number, 16)) <= sys.maxunicode and not 0xD800 <= code < 0xE000:
                return chr(code)
        elif found["octal"] is not None:
            return chr(int(found["octal"], 8))
        raise ValueError(f"unquote string {text} error invalid syntax")

    return _ESCAPE.sub(meant, text)


def _unknown(_: Values) -> Values:
    raise NotFound("unrecognized identifier")


def _constant(value: object) -> Step:
    # A text is there once, whatever there was before; so upstream has numbers for each value.
    if isinstance(value, str):
        return lambda _: [value]
    return lambda values: [value for _ in values]


def _member(key: str) -> Step:
    return lambda values: [value[key] for value in values if isinstance(value, dict) and key in value]


def _everything(values: Values) -> Values:
    found: Values = []
    for value in values:
        match value:
            case dict():
                found += value.values()
            case list():
                found += value
            case str():
                found += value.encode()
    return found


def _descend(values: Values) -> Values:
    found: Values = []
    for value in values:
        if isinstance(value, str) and value:
            found.append(value)  # its bytes have nothing in them
        elif below := _everything([value]):
            found += [value, *_descend(below)]
    return found


def _selected(text: str) -> list[Step]:
    """One index, slice or key within brackets."""
    if (key := _KEY.fullmatch(text)) is not None:
        return _Reader(f".{key[1]}").steps()
    match = _SLICE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid array index {text}")
    # Of an index the end is made; of a slice each part may be left out.
    first, last, step = (None if part is None else _index(part) for part in match.groups())
    derived = match[2] is None
    if derived:
        last = (first or 0) + 1

    def cut(values: Values) -> Values:
        return [one for value in values if value is not None for one in _cut(value, first, last, step, derived=derived)]

    return [cut]


def _index(text: str) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        raise ValueError(f"array index {text} is not a number") from None


def _cut(value: Any, first: int | None, last: int | None, step: int | None, *, derived: bool) -> Values:
    if not isinstance(value, list):
        raise NotFound("not array or slice")
    length = len(value)
    start = first or 0
    if start < 0:
        start += length
    end = length if last is None else last
    if end < 0 or (end == 0 and derived):
        end += length
    if start == end:
        return []
    if not 0 <= start < length or not 0 <= end <= length:
        raise NotFound("array index out of bounds")
    if start > end:
        raise NotFound("starting index is greater than ending index")
    if step is not None and step <= 0:
        raise NotFound("step must be > 0")
    return value[start : end : step or 1]


def _filter(text: str) -> Step:
    compared = _COMPARISON.fullmatch(text)
    if compared is None:
        steps = _Reader(text).steps()
        return lambda values: [one for one in _filtered(values) if _exists(steps, one)]
    left, right = _Reader(compared[1]).steps(), _Reader(compared[3]).steps()
    compare = _COMPARE.get(compared[2], _uncomparable)

    def holds(one: Any) -> bool:
        sides = []
        for steps in (left, right):
            found = _walk(steps, [one])
            if not found:
                return False
            if len(found) > 1:
                raise NotFound("can only compare one element at a time")
            sides.append(found[0])
        return _compared(compare, *sides)

    return lambda values: [one for one in _filtered(values) if holds(one)]


def _filtered(values: Values) -> Values:
    if any(not isinstance(value, list) for value in values):
        raise NotFound("not array or slice and cannot be filtered")
    return [one for value in values for one in value]


def _exists(steps: list[Step], one: Any) -> bool:
    try:
        return bool(_walk(steps, [one]))
    except NotFound:
        # Upstream hands on what the step that failed was given.
        return True


def _uncomparable(_one: Any, _other: Any) -> NoReturn:
    raise NotFound("unrecognized filter operator")


def _compared(compare: Callable[[Any, Any], bool], one: Any, other: Any) -> bool:
    """Only values of one type are to be compared, and truth values only for being the same."""
    kind = type(one)
    if kind is not type(other) or kind not in (str, int, float, bool):
        raise NotFound("incompatible types for comparison")
    if kind is bool and compare not in (operator.eq, operator.ne):
        raise NotFound("invalid type for comparison")
    return compare(one, other)
