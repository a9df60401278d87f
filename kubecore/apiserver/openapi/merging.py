"""Specifications (OpenAPI v2) of other servers, merged into our own.

After k8s.io/kube-openapi `pkg/aggregator`: only paths of the version in question and what they need; a definition that
is there already under its name with another content gets another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]

_DEFINITIONS = "#/definitions/"


@dataclass(frozen=True, slots=True)
class ForeignSpecification:
    """The document of the server that has this version; `digest` is another one when the document is. `alone`: it has
    none of OpenAPI v3."""

    group: str
    version: str
    document: JSON
    digest: str
    alone: bool = False

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}/"


def merged(own: JSON, foreign: Sequence[ForeignSpecification]) -> JSON:
    """Those that come first have their way."""
    made = {**own, "paths": dict(own["paths"]), "definitions": dict(own["definitions"])}
    for one in foreign:
        _merge(made, one)
    made["paths"] = dict(sorted(made["paths"].items()))
    return made


def _merge(made: JSON, one: ForeignSpecification) -> None:
    held: JSON = made["paths"]
    paths = {path: item for path, item in (one.document.get("paths") or {}).items() if path.startswith(one.root)}
    paths = {path: item for path, item in paths.items() if path not in held}
    given: JSON = one.document.get("definitions") or {}
    definitions = {name: given[name] for name in _reachable(paths, given)}
    names = _new_names(made["definitions"], definitions)
    for name, definition in definitions.items():
        made["definitions"].setdefault(names.get(name, name), _renamed(definition, names))
    for path, item in paths.items():
        held[path] = _renamed(item, names)
    parameters = one.document.get("parameters")
    if parameters:
        made["parameters"] = {**parameters, **(made.get("parameters") or {})}


def _reachable(paths: JSON, definitions: Mapping[str, JSON]) -> list[str]:
    found: dict[str, None] = {}
    waiting = list(_references(paths))
    while waiting:
        name = waiting.pop()
        if name in definitions and name not in found:
            found[name] = None
            waiting += _references(definitions[name])
    return sorted(found)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_DEFINITIONS):
            yield reference.removeprefix(_DEFINITIONS)
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def _new_names(held: Mapping[str, JSON], definitions: Mapping[str, JSON]) -> dict[str, str]:
    """Names that are taken by something else get a number: `_v2`, `_v3`."""
    names: dict[str, str] = {}
    for name, definition in definitions.items():
        if name not in held or held[name] == definition:
            continue
        number = 2
        while f"{name}_v{number}" in held or f"{name}_v{number}" in definitions:
            if held.get(f"{name}_v{number}") == definition:
                break
            number += 1
        names[name] = f"{name}_v{number}"
    return names


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if not names:
        return value
    if isinstance(value, dict):
        made = {key: _renamed(one, names) for key, one in value.items()}
        reference = made.get("$ref")
        if isinstance(reference, str) and (name := names.get(reference.removeprefix(_DEFINITIONS))):
            made["$ref"] = _DEFINITIONS + name
        return made
    return [_renamed(one, names) for one in value] if isinstance(value, list) else value
