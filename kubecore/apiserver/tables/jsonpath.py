"""JSONPath as printer columns use it: the notation of kubectl's templates, without the braces.

Fields (`.a`, `['a']`, `.*`), recursive descent (`..a`), indices, slices and unions (`[0]`, `[-1:]`, `[0,2]`), filters
(`[?(@.type=="Ready")]`). After k8s.io/client-go `util/jsonpath`. A path is compiled once into steps, each of which maps
a list of values to the next.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Values = list[Any]
Step = Callable[[Values], Values]

_FIELD = re.compile(r"(?:\\.|[^.\[\]\\\s])+")
_SLICE = re.compile(r"(-?\d*)(?::(-?\d*))?(?::(-?\d*))?")
_FILTER = re.compile(r"\?\(\s*(.+?)\s*\)", re.DOTALL)
_COMPARISON = re.compile(r"(.+?)\s*(==|!=|<=|>=|<|>)\s*(.+)", re.DOTALL)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class JSONPath:
    """A compiled path. ValueError for what is none."""

    def __init__(self, path: str) -> None:
        self._steps = list(_compile(path.strip()))

    def find(self, obj: Any) -> Values:
        """All values the path leads to; missing keys lead nowhere."""
        found = [obj]
        for step in self._steps:
            found = step(found)
        return found


def _compile(path: str) -> Iterator[Step]:
    at = 1 if path.startswith(("$", "@")) else 0
    while at < len(path):
        char = path[at]
        if char == "[":
            end = _closing(path, at)
            yield _bracket(path[at + 1 : end].strip())
            at = end + 1
            continue
        if char != ".":
            if at:
                raise ValueError(f"unexpected {char!r} in {path!r}")
        elif path.startswith("..", at):
            yield _descend
            at += 2
            if path[at : at + 1] == "[":
                continue
        else:
            at += 1
            if at == len(path) or path[at] == "[":
                continue
        match = _FIELD.match(path, at)
        if match is None:
            raise ValueError(f"a field's name is missing in {path!r}")
        yield _field(match.group())
        at = match.end()


def _closing(path: str, start: int) -> int:
    quote, depth = "", 0
    for at in range(start, len(path)):
        char = path[at]
        if quote:
            quote = "" if char == quote and path[at - 1] != "\\" else quote
        elif char in "'\"":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if not depth:
                return at
    raise ValueError(f"unterminated array in {path!r}")


def _field(name: str) -> Step:
    if name == "*":
        return _everything
    key = re.sub(r"\\(.)", r"\1", name)
    return lambda values: [value[key] for value in values if isinstance(value, dict) and key in value]


def _everything(values: Values) -> Values:
    found: Values = []
    for value in values:
        found += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found


def _descend(values: Values) -> Values:
    found: Values = []
    for value in values:
        found.append(value)
        found += _descend(_everything([value]))
    return found


def _bracket(content: str) -> Step:
    if content == "*":
        return _everything
    if content.startswith("?"):
        return _filter(content)
    steps = [_selected(part.strip()) for part in _parts(content)]
    if len(steps) == 1:
        return steps[0]
    return lambda values: [found for value in values for step in steps for found in step([value])]


def _parts(content: str) -> Iterable[str]:
    """Split at commas outside quotes."""
    return re.findall(r"""\s*('(?:\\.|[^'])*'|"(?:\\.|[^"])*"|[^,]+)\s*""", content)


def _selected(part: str) -> Step:
    if part[:1] in "'\"" and part[:1]:
        key = re.sub(r"\\(.)", r"\1", part[1:-1])
        return lambda values: [value[key] for value in values if isinstance(value, dict) and key in value]
    match = _SLICE.fullmatch(part)
    if match is None or not part:
        raise ValueError(f"invalid array index {part}")
    first, last, step = match.groups()
    if last is None and step is None:
        index = int(first)
        return lambda values: [
            value[index] for value in values if isinstance(value, list) and -len(value) <= index < len(value)
        ]
    cut = slice(*(int(one) if one else None for one in (first, last, step)))
    if cut.step is not None and cut.step <= 0:
        raise ValueError("step must be > 0")
    return lambda values: [found for value in values if isinstance(value, list) for found in value[cut]]


def _filter(content: str) -> Step:
    match = _FILTER.fullmatch(content)
    if match is None:
        raise ValueError(f"unterminated filter in [{content}]")
    compared = _COMPARISON.fullmatch(match.group(1))
    if compared is None:
        path = JSONPath(match.group(1))
        return lambda values: [one for one in _everything(values) if path.find(one)]
    left, right = _operand(compared.group(1)), _operand(compared.group(3))
    compare = _COMPARE[compared.group(2)]

    def holds(one: Any) -> bool:
        first, second = left(one), right(one)
        if len(first) != 1 or len(second) != 1:
            return False
        try:
            return compare(first[0], second[0])
        except TypeError:
            return False

    return lambda values: [one for one in _everything(values) if holds(one)]


def _operand(text: str) -> Callable[[Any], Values]:
    if text[:1] in ("'", '"'):
        constant: Any = re.sub(r"\\(.)", r"\1", text[1:-1])
    elif text in ("true", "false"):
        constant = text == "true"
    else:
        try:
            constant = float(text) if "." in text and not text.startswith(".") else int(text)
        except ValueError:
            path = JSONPath(text)
            return path.find
    return lambda _: [constant]
