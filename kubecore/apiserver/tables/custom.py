"""Tables of custom resources: the columns their definitions ask for.

After upstream k8s.io/apiextensions-apiserver pkg/registry/customresource/tableconvertor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

import orjson

from kubecore.api.quoting import escaped_as_go
from kubecore.apiserver.tables.ages import parse_time, since
from kubecore.apiserver.tables.column import AGE, NAME, Cell, CellFunction, Column, KindTable, Object
from kubecore.apiserver.tables.jsonpath import JSONPath, NotFound

_EXPONENTS_FROM = 6
_LEAST = -(1 << 63)
# RFC 3339, as Go reads it.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


class PrinterColumn(Protocol):
    """An entry of additionalPrinterColumns."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def jsonPath(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def priority(self) -> int: ...


def custom_table(columns: Sequence[PrinterColumn]) -> KindTable:
    """Name, and the columns asked for, else the age. A column whose path cannot be read ends the table, as upstream."""
    if not columns:
        return KindTable((NAME, Column("Age", AGE.cell, AGE.description, "date")))
    made = [NAME]
    for column in columns:
        try:
            cell = _cell(JSONPath(column.jsonPath), column.type)
        except ValueError:
            break
        told = column.description or f"Custom resource definition column (in JSONPath format): {column.jsonPath}"
        made.append(Column(column.name, cell, told, column.type, column.format, column.priority))
    return KindTable(tuple(made))


def _cell(path: JSONPath, type_name: str) -> CellFunction:
    shown = _SHOWN[type_name]

    def cell(obj: Object, now: datetime) -> Cell:
        try:
            found = path.find(obj)
        except NotFound:
            return None
        return shown(found[0], now) if found else None

    return cell


def _integer(value: Any, _now: datetime) -> Cell:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    whole = int(value)
    # What becomes of larger numbers in Go, on amd64.
    return whole if _LEAST <= whole < -_LEAST else _LEAST


def _number(value: Any, _now: datetime) -> Cell:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    number = float(value)
    # As Go writes it: what has no fraction is printed as a whole number by those who read it.
    return int(Decimal(repr(number))) if number.is_integer() and abs(number) < -_LEAST else number


def _boolean(value: Any, _now: datetime) -> Cell:
    return value if isinstance(value, bool) else None


def _string(value: Any, _now: datetime) -> Cell:
    if value is None:
        # What Go's templates make of it.
        return "<no value>"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and _LEAST <= value < -_LEAST:
        return str(value)
    if isinstance(value, int | float):
        return _as_go_prints(float(value))
    return escaped_as_go(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).decode()


def _as_go_prints(value: float) -> str:
    """`%v` of Go: as few digits as tell it from others, with an exponent from a million on."""
    number = Decimal(repr(value)).normalize()
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    power = len(digits) + exponent - 1
    if number and not -4 <= power < _EXPONENTS_FROM:
        first, *rest = map(str, digits)
        return f"{'-' * sign}{first}{'.' * bool(rest)}{''.join(rest)}e{power:+03d}"
    return f"{number:f}"


def _date(value: Any, now: datetime) -> Cell:
    if not isinstance(value, str):
        return None
    absent = value in ("", "null")
    if absent:
        return since("", now)
    return since(value, now) if _TIME.fullmatch(value) and parse_time(value) is not None else "<invalid>"


_SHOWN = {"integer": _integer, "number": _number, "boolean": _boolean, "string": _string, "date": _date}
