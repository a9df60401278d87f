"""What can be done to an object that its schema knows of: every field dropped, added, and given odd values."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

from kubecore.api.scheme import DATA

JSON = dict[str, Any]
Step = str | int

_STRINGS = ("", "x", "Not Valid!", "a" * 64, "a" * 300, "/a/../b", "*")
_INTEGERS = (-1, 0, 1, 2, 101, 65536, 2**31 - 1)
_INTS_OR_STRINGS = (0, -1, 3, 65536, "0%", "30%", "150%", "x", "Not Valid!")
_QUANTITIES = ("0", "-1", "1500m", "1Ki", "3")
_TIMES = ("2026-01-02T03:04:05Z",)
_BYTES = ("", "YQ==")
# What every object has, or what says what it is; metadata has mutations of its own.
_LEFT_ALONE = frozenset({"apiVersion", "kind", "metadata", "status"})
# A value that has to be found in another object, or that the server makes.
_GIVEN_BY_SERVER = frozenset({"managedFields", "selfLink", "uid", "resourceVersion", "creationTimestamp"})
_QUANTITY, _INT_OR_STRING = "resource.Quantity", "intstr.IntOrString"
_DEPTH = 3


class Schemas:
    """The definitions of OpenAPI v2, as they are baked."""

    def __init__(self) -> None:
        self._definitions: JSON = json.loads(zlib.decompress((DATA / "schemas.json.z").read_bytes()))
        self._kinds = {
            (kind["group"], kind["version"], kind["kind"]): definition
            for definition in self._definitions.values()
            for kind in definition.get("x-kubernetes-group-version-kind", ())
        }

    def of(self, obj: JSON) -> JSON:
        group, _, version = obj["apiVersion"].rpartition("/")
        return self._kinds[(group, version, obj["kind"])]

    def resolved(self, schema: JSON) -> tuple[JSON, str]:
        """The definition a reference names, and its name."""
        reference = schema.get("$ref", "")
        if not reference:
            for part in schema.get("allOf", ()):
                return self.resolved(part)
            return schema, ""
        name = reference.rpartition("/")[2]
        return self._definitions[name], name


class Mutations:
    """Changes of one place at a time. `examples` are values seen in fields of a name, tried wherever it occurs."""

    def __init__(self, schemas: Schemas, examples: Mapping[str, Sequence[Any]]) -> None:
        self._schemas = schemas
        self._examples = examples

    def of(self, obj: JSON, *, below: str = "") -> Iterator[tuple[str, JSON]]:
        """(what was done, the changed copy), of everything but metadata and status, or of one top field alone."""
        for path, value in self.changes(obj, below=below):
            yield _told(path, value), _changed(obj, path, value)

    def changes(self, obj: JSON, *, below: str = "") -> Iterator[tuple[list[Step], Any]]:
        """The same as (place, what is put there)."""
        for path, values in self._object(obj, self._schemas.of(obj), below=below):
            for value in values:
                yield path, value

    # --- places

    def _object(self, obj: JSON, schema: JSON, *, below: str) -> Iterator[tuple[list[Step], list[Any]]]:
        for name, field in schema.get("properties", {}).items():
            if (name == below) if below else (name not in _LEFT_ALONE):
                yield from self._field([name], obj.get(name, _ABSENT), field)

    def _field(self, path: list[Step], value: Any, schema: JSON) -> Iterator[tuple[list[Step], list[Any]]]:
        """All (place, values) at and below one field."""
        field, name = self._schemas.resolved(schema)
        if value is _ABSENT:
            yield path, self._unique([self.made(schema, path, whole=whole) for whole in (False, True)])
            return
        yield path, [_ABSENT, *self._replacements(field, name, path, value)]
        if isinstance(value, dict):
            yield from self._below_object(path, value, field)
        elif isinstance(value, list):
            for index, one in enumerate(value):
                yield from self._element([*path, index], one, field.get("items", {}))

    def _below_object(self, path: list[Step], value: JSON, field: JSON) -> Iterator[tuple[list[Step], list[Any]]]:
        if "properties" in field:
            for name, below in field["properties"].items():
                if name not in _GIVEN_BY_SERVER:
                    yield from self._field([*path, name], value.get(name, _ABSENT), below)
        elif "additionalProperties" in field:
            for key in ("-bad key", "a/b/c", "example.com/fine", "k" * 64):
                yield [*path, key], [self.made(field["additionalProperties"], [*path, key], whole=True)]
            for name in itertools.islice(value, 2):
                yield from self._field([*path, name], value[name], field["additionalProperties"])

    def _element(self, path: list[Step], value: Any, schema: JSON) -> Iterator[tuple[list[Step], list[Any]]]:
        yield from self._field(path, value, schema)

    # --- values

    def _replacements(self, field: JSON, name: str, path: list[Step], value: Any) -> list[Any]:
        if isinstance(value, list):
            repeated = [[*value, deepcopy(value[0])]] if value else []
            return [[], *repeated, *([value[1:]] if len(value) > 1 else [])]
        if isinstance(value, dict):
            return [{}] if value else []
        found = [*self._scalars(field, name), *self._examples.get(str(path[-1]), ())]
        if isinstance(path[-1], int):
            found += self._examples.get(str(path[-2]), ())
        return [one for one in self._unique(found) if one != value or type(one) is not type(value)]

    def _scalars(self, field: JSON, name: str) -> Sequence[Any]:
        if name.endswith(_QUANTITY):
            return _QUANTITIES
        if name.endswith(_INT_OR_STRING):
            return _INTS_OR_STRINGS
        match field.get("type"), field.get("format"):
            case "string", "date-time":
                return _TIMES
            case "string", "byte":
                return _BYTES
            case "string", _:
                return _STRINGS
            case "integer", _:
                return _INTEGERS
            case "boolean", _:
                return (True, False)
        return ()

    def made(self, schema: JSON, path: list[Step], *, whole: bool, depth: int = 0) -> Any:
        """A value for a place that has none: what is required of it, or with `whole` all there may be."""
        field, name = self._schemas.resolved(schema)
        key = str(path[-1])
        if "properties" in field:
            wanted = field["properties"] if whole and depth < _DEPTH else field.get("required", ())
            return {
                one: self.made(field["properties"][one], [*path, one], whole=whole, depth=depth + 1)
                for one in wanted
                if one not in _GIVEN_BY_SERVER
            }
        if "additionalProperties" in field:
            return {"a": self.made(field["additionalProperties"], [*path, "a"], whole=whole, depth=depth + 1)}
        if field.get("type") == "array":
            return [self.made(field.get("items", {}), [*path, 0], whole=whole, depth=depth)]
        examples = self._examples.get(key) or (self._examples.get(str(path[-2])) if key.isdigit() else None)
        if examples:
            return examples[0]
        scalars = self._scalars(field, name)
        if not scalars:
            return {} if field.get("type") in (None, "object") else None
        return scalars[1] if len(scalars) > 1 else scalars[0]

    @staticmethod
    def _unique(values: list[Any]) -> list[Any]:
        found = {json.dumps(value, sort_keys=True): value for value in values}
        return list(found.values())


class _Absent:
    def __repr__(self) -> str:
        return "dropped"


_ABSENT = _Absent()


def _told(path: Sequence[Step], value: Any) -> str:
    shown = repr(value) if value is _ABSENT else json.dumps(value)
    if len(shown) > 60:
        shown = f"{shown[:50]}...({len(shown)})"
    return f"{'.'.join(str(step) for step in path)}={shown}"


def _changed(obj: JSON, path: Sequence[Step], value: Any) -> JSON:
    *parents, last = path
    copy: Any = dict(obj)
    holder = copy
    # Only what lies on the way is copied; the rest is never changed.
    for step in parents:
        below = holder.get(step) if isinstance(holder, dict) else holder[step]
        holder[step] = fresh = list(below) if isinstance(below, list) else dict(below)
        holder = fresh
    if value is not _ABSENT:
        holder[last] = value
    else:
        del holder[last]
    return copy  # type: ignore[no-any-return]


def changed_at_once(obj: JSON, changes: Iterable[tuple[list[Step], Any]]) -> tuple[str, JSON]:
    """(what was done, the changed copy): without changes of places that another one has taken away."""
    told = []
    for path, value in changes:
        with suppress(KeyError, IndexError, TypeError, AttributeError):
            obj = _changed(obj, path, value)
            told.append(_told(path, value))
    return "; ".join(told), obj


def metadata_mutations(obj: JSON, *, update: bool) -> Iterator[tuple[str, JSON]]:
    """Changes of metadata that all kinds should answer alike."""
    changes: list[JSON] = [
        {"labels": {"-bad": "x"}},
        {"labels": {"a": "-bad"}},
        {"labels": {"A/b": "c" * 64}},
        {"annotations": {"-bad": "x"}},
        {"annotations": {"a": "x" * (257 << 10)}},
        {"ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "n", "uid": "u"}]},
        {
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": True} for name in "ab"
            ]
        },
        {"finalizers": ["bad"]},
        {"finalizers": ["orphan", "foregroundDeletion"]},
        {"finalizers": ["-x/y", "example.com/z"]},
        {"labels": {}, "annotations": {}, "finalizers": []},
    ]
    if not update:
        names = ["", "Upper", "a" * 64, "a" * 254, "a.b", "-a", "a/b", "a:b", "1a", "..", "a%", "a_b"]
        changes += [{"name": name} for name in names]
        changes += [{"name": "", "generateName": "Bad Name-"}, {"generateName": "fine-"}, {"generateName": "x.y"}]
    for change in changes:
        yield f"metadata={json.dumps(change)[:60]}", {**obj, "metadata": {**obj["metadata"], **change}}
