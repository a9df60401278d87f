"""Printer columns of custom resources."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from kubecore.apiserver.tables.custom import custom_table
from kubecore.apiserver.tables.jsonpath import JSONPath, NotFound
from kubecore.apiserver.tables.printing import table_for

JSON = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

OBJECT: JSON = {
    "metadata": {"name": "one", "creationTimestamp": "2026-01-01T11:55:00Z", "annotations": {"a.b/c": "d"}},
    "spec": {
        "count": 3,
        "huge": 1e21,
        "larger": 10**19,
        "ratio": 1.5,
        "times": ["2026-01-01", "20260101T115800Z", "2026-01-01T12:58:00.5+01:00", "2026-01-01T11:58:00"],
        "on": True,
        "list": ["x", "y", "z"],
        "map": {"k": "v"},
        "when": "2026-01-01T11:59:00Z",
        "nothing": None,
        "texts": {"empty": "", "null": "null"},
    },
    "status": {
        "conditions": [{"type": "Ready", "status": "True", "n": 1}, {"type": "Done", "status": "False", "n": 2}],
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.count", [3]),
        ("$.spec.count", [3]),
        (".spec.missing.deeper", []),
        (".spec.list[0]", ["x"]),
        (".spec.list[-1]", ["z"]),
        (".spec.list[1:1]", []),
        (".spec.list[]", ["x"]),
        (".spec.list[0:2]", ["x", "y"]),
        (".spec.list[0,2]", ["x", "z"]),
        (".spec.list[*]", ["x", "y", "z"]),
        (".spec['map'].k", ["v"]),
        (".spec['map','on']", [{"k": "v"}, True]),
        (".spec.map.*", ["v"]),
        (r".metadata.annotations.a\.b/c", ["d"]),
        (r".metadata.annotations['a\.b/c']", ["d"]),
        # As upstream, which reads a path between the quotes.
        (".metadata.annotations['a.b/c']", []),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.n>1)].type", ["Done"]),
        ('.status.conditions[?(@.type != "Ready")].n', [2]),
        (".status.conditions[?(@.n)].n", [1, 2]),
        (".status.conditions[?(@.missing=='x')]", []),
        ("..type", ["Ready", "Done"]),
        (".spec.texts..null", ["null"]),
        (".spec.text..x", []),
        (".spec.nothing[0]", []),
        (r""".status.conditions[?(@.type=="Re\x61dy")].n""", [1]),
    ],
)
def test_a_path_leads_to_values(path: str, found: list[Any]) -> None:
    assert JSONPath(path).find(OBJECT) == found


@pytest.mark.parametrize(
    "path",
    [
        ".spec.list[5]",
        ".spec.list[0:9]",
        ".spec.list[-5]",
        ".spec.list[2:1]",
        ".spec.list[::0]",
        ".spec.map[0]",
        ".spec.map[?(@.k)]",
        ".status.conditions[?(@.type>1)]",
        ".status.conditions[?(@.type===1)]",
        ".spec.count. a",
        "spec.count",
    ],
)
def test_a_path_that_an_object_does_not_suit_leads_nowhere(path: str) -> None:
    with pytest.raises(NotFound):
        JSONPath(path).find(OBJECT)


@pytest.mark.parametrize(
    "path",
    [
        ".spec[",
        ".spec[x]",
        ".a.[?(@.b==",
        '.spec["map"]',
        "....a",
        "..*",
        "'a",
        "1.2.3",
        r"'\q'",
        "#",
        r"'\UFFFFFFFF'",
        r"'\U00110000'",
        r"'\ud800'",
        f"{'9' * 400}.0",
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        JSONPath(path)


@dataclass(frozen=True)
class Printed:
    name: str
    type: str
    jsonPath: str
    description: str = ""
    format: str = ""
    priority: int = 0


@pytest.mark.parametrize(
    ("type_name", "path", "cell"),
    [
        ("string", ".spec.list[0]", "x"),
        ("string", ".spec.count", "3"),
        ("string", ".spec.on", "true"),
        ("string", ".spec.map", '{"k":"v"}'),
        ("string", ".spec.missing", None),
        ("string", ".spec.list[3]", None),
        ("integer", ".spec.count", 3),
        ("integer", ".spec.ratio", 1),
        ("integer", ".spec.on", None),
        ("integer", ".spec.huge", -(2**63)),
        ("integer", ".spec.larger", -(2**63)),
        ("string", ".spec.larger", "1e+19"),
        ("number", ".spec.ratio", 1.5),
        ("boolean", ".spec.on", True),
        ("number", ".spec.larger", 1e19),
        ("number", ".spec.huge", 1e21),
        ("date", ".spec.times[0]", "<invalid>"),
        ("date", ".spec.times[1]", "<invalid>"),
        ("date", ".spec.times[2]", "119s"),
        ("date", ".spec.times[3]", "<invalid>"),
        ("boolean", ".spec.count", None),
        ("date", ".spec.when", "60s"),
        ("date", ".spec.map.k", "<invalid>"),
        ("date", ".spec.texts.empty", "<unknown>"),
        ("date", ".spec.texts.null", "<unknown>"),
        ("string", ".spec.nothing", "<no value>"),
        ("string", ".spec.nothing.deeper", None),
        ("integer", ".spec.nothing", None),
        ("date", ".spec.nothing", None),
    ],
)
def test_a_cell_is_of_its_columns_type(type_name: str, path: str, cell: object) -> None:
    table = table_for(custom_table([Printed("C", type_name, path)]), [OBJECT], now=NOW)
    assert table["rows"][0]["cells"] == ["one", cell]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"),
        (5.0, "5"),
        (999999.5, "999999.5"),
        (1234567.0, "1.234567e+06"),
        (123456789.25, "1.2345678925e+08"),
        (0.0001, "0.0001"),
        (-0.000025, "-2.5e-05"),
        (1e21, "1e+21"),
        (0.0, "0"),
        ({"b": "<&>", "a": [1, "x"]}, r'{"a":[1,"x"],"b":"\u003c\u0026\u003e"}'),
    ],
)
def test_what_is_no_text_is_written_in_a_column_of_texts_as_go_writes_it(value: object, text: str) -> None:
    shown = {"metadata": {"name": "one"}, "spec": value}
    table = table_for(custom_table([Printed("C", "string", ".spec")]), [shown], now=NOW)
    assert table["rows"][0]["cells"] == ["one", text]


@pytest.mark.parametrize(
    ("value", "told"), [(3, "3"), (5e7, "50000000"), (2**60, "1152921504606847000"), (2.5, "2.5"), (-1e6, "-1000000")]
)
def test_a_number_is_written_as_go_writes_it(value: object, told: str) -> None:
    table = table_for(custom_table([Printed("C", "number", ".spec.v")]), [{**OBJECT, "spec": {"v": value}}], now=NOW)
    assert orjson.dumps(table["rows"][0]["cells"]).decode() == f'["one",{told}]'


def test_without_columns_the_age_is_shown() -> None:
    table = table_for(custom_table([]), [OBJECT], now=NOW)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Age"]
    assert table["rows"][0]["cells"] == ["one", "5m"]


def test_columns_are_described_and_may_be_wide() -> None:
    table = table_for(custom_table([Printed("Count", "integer", ".spec.count", priority=1)]), [OBJECT], now=NOW)
    assert table["columnDefinitions"][1] == {
        "name": "Count",
        "type": "integer",
        "format": "",
        "description": "Custom resource definition column (in JSONPath format): .spec.count",
        "priority": 1,
    }
