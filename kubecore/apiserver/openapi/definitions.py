"""Schemas of kinds: the baked OpenAPI v2 definitions, found by kind, and their form in OpenAPI v3."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import ChainMap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from kubecore.api.scheme import DATA
from kubecore.apiserver.openapi import defaults, enums

JSON = dict[str, Any]

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_V2_REF = "#/definitions/"
_V3_REF = "#/components/schemas/"
_GVK = "x-kubernetes-group-version-kind"


_BUILTIN = DATA / "definitions.json.z"
# What upstream says of types that are one value, read by tests/support/enum_facts.py, whose test holds it true.
_SCALARS = Path(__file__).with_name("scalars.json")


def builtin() -> Mapping[str, JSON]:
    """Every definition of v1.35, descriptions included. Some megabytes: load it late, and do not keep it."""
    loaded = _load()
    enums.add_to(loaded)
    defaults.add_to(loaded)
    return loaded


def _load() -> dict[str, JSON]:
    loaded: dict[str, JSON] = json.loads(zlib.decompress(_BUILTIN.read_bytes()))
    for name, description in json.loads(_SCALARS.read_bytes()).items():
        loaded[name]["description"] = description
    return loaded


def written_of(fields: Iterable[tuple[str, str]]) -> list[str]:
    """The descriptions of fields of API types, each given by its definition ("core.v1.PodSpec") and its name."""
    loaded = _load()
    return [loaded[_full_name(definition)]["properties"][name]["description"] for definition, name in fields]


def _full_name(definition: str) -> str:
    meta = definition.removeprefix("meta.v1.")
    return f"io.k8s.api.{definition}" if meta == definition else META + meta


def builtin_digest() -> bytes:
    """What `builtin` returns changes only when this does."""
    return hashlib.sha512(_BUILTIN.read_bytes()).digest()


class Definitions:
    """Definitions by name and by kind; what is not among them is looked for in `others`."""

    def __init__(self, definitions: Mapping[str, JSON], others: Definitions | None = None) -> None:
        self.all = definitions
        if others is not None:
            # Both are only read, which the type of ChainMap does not know.
            both = cast("tuple[dict[str, JSON], dict[str, JSON]]", (definitions, others.all))
            self.all = ChainMap(*both)
        self._others = others
        self._by_kind = {
            (identity["group"], identity["version"], identity["kind"]): name
            for name, definition in definitions.items()
            for identity in definition.get(_GVK, ())
        }

    def name_of(self, group: str, version: str, kind: str) -> str | None:
        """The definition of a kind; None for kinds without one (connect options)."""
        found = self._by_kind.get((group, version, kind))
        return found if found or self._others is None else self._others.name_of(group, version, kind)

    def reachable(self, names: Iterable[str]) -> dict[str, JSON]:
        """These definitions and all they refer to, in order of their names."""
        found: dict[str, JSON] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found and name in self.all:
                found[name] = self.all[name]
                waiting += _references(self.all[name])
        return dict(sorted(found.items()))


def _references(schema: Any) -> Iterable[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(_V2_REF)
            elif key != "description":
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def to_v3(schema: JSON) -> JSON:
    """One schema in OpenAPI v3: references move, and stand alone; formats of two types become alternatives."""
    if "$ref" in schema:
        reference = {"$ref": schema["$ref"].replace(_V2_REF, _V3_REF)}
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return {"allOf": [reference], **beside} if beside else reference
    converted: JSON = {}
    for key, value in schema.items():
        if key == "properties":
            converted[key] = {name: to_v3(item) for name, item in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            converted[key] = to_v3(value)
        else:
            converted[key] = value
    if converted.get("format") == "int-or-string":
        del converted["type"]
        converted["oneOf"] = [{"type": "integer"}, {"type": "string"}]
    return converted


def without_defaults(definition: JSON) -> JSON:
    """The definition as in OpenAPI v2."""
    return {key: value for key, value in definition.items() if key != defaults.KEY}


def _with_defaults(definition: JSON, of_fields: JSON) -> JSON:
    properties = definition.get("properties")
    if not properties:
        return definition
    told = {
        name: _with_element_defaults(schema) | ({"default": of_fields[name]} if name in of_fields else {})
        for name, schema in properties.items()
    }
    return {**definition, "properties": told}


def _with_element_defaults(schema: JSON) -> JSON:
    told = dict(schema)
    for key in ("items", "additionalProperties"):
        element = schema.get(key)
        if isinstance(element, dict):
            zero = defaults.zero_of(element)
            told[key] = _with_element_defaults(element) | ({} if zero is None else {"default": zero})
    return told


def definition_to_v3(name: str, definition: JSON) -> JSON:
    """A whole definition; quantities may be numbers, too. Built-in ones tell the defaults of fields and elements."""
    if defaults.KEY in definition:
        definition = _with_defaults(without_defaults(definition), definition[defaults.KEY])
    converted = to_v3(definition)
    if name.endswith(".api.resource.Quantity"):
        converted.pop("type", None)
        converted["oneOf"] = [{"type": "string"}, {"type": "number"}]
    return converted
