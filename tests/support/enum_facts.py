"""The fields of built-in kinds that take one of a few values, and what is said of types that are one value, read from
the Go code that makes Kubernetes' OpenAPI.

`python -m tests.support.enum_facts FOLDER`, with the folder of the module k8s.io/kubernetes, writes
kubecore/apiserver/openapi/{enums,scalars}.json.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

_SOURCE = "pkg/generated/openapi/zz_generated.openapi.go"
_LISTED = "\n\nPossible enum values:\n"

_FUNCTION = re.compile(r"func schema_\w*_([a-z0-9]+_v\d\w*_\w+)\(")
_FIELD = re.compile(r'\t{5}"(\w+)": \{$')
_DESCRIPTION = re.compile(r"\t+Description: (\".*\"),$")
_VALUES = re.compile(r"\t+Enum: +\[\]interface\{\}\{(.*)\},$")
_WITHIN = {"Items:": "[]", "AdditionalProperties:": "{}"}


_SCALARS = {
    "func schema_apimachinery_pkg_api_resource_Quantity(": "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "func schema_apimachinery_pkg_util_intstr_IntOrString(": "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
}


def read(module: Path) -> str:
    """As enums.json: values, what is told of them after the description of the field, and the fields."""
    groups: dict[tuple[tuple[str, ...], str], list[str]] = {}
    definition = field = within = told = ""
    for line in (module / _SOURCE).read_text().splitlines():
        if found := _FUNCTION.match(line):
            definition = ".".join(found[1].rsplit("_", 2))
        elif found := _FIELD.match(line):
            field, within, told = found[1], "", ""
        elif found := _DESCRIPTION.match(line):
            told = str(ast.literal_eval(found[1])).partition(_LISTED)[2]
        elif word := _WITHIN.get(line.strip().partition(" ")[0]):
            within = word
        elif found := _VALUES.match(line):
            values = tuple(json.loads(f"[{found[1]}]"))
            groups.setdefault((values, told), []).append(f"{definition}.{field}{within}")
    entries = [
        {"values": values, "told": told.split("\n") if told else [], "fields": sorted(fields)}
        for (values, told), fields in groups.items()
    ]
    entries.sort(key=lambda entry: entry["fields"])
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def read_scalars(module: Path) -> str:
    """As scalars.json: descriptions by definition."""
    source = (module / _SOURCE).read_text()
    told = {}
    for function, name in _SCALARS.items():
        _, _, body = source.partition(function)
        found = next(filter(None, map(_DESCRIPTION.match, body.splitlines())))
        told[name] = ast.literal_eval(found[1])
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    folder = Path(__file__).parents[2] / "kubecore" / "apiserver" / "openapi"
    (folder / "enums.json").write_text(read(Path(sys.argv[1])))
    (folder / "scalars.json").write_text(read_scalars(Path(sys.argv[1])))
