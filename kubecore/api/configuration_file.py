"""Reads the files that components are configured by: YAML or JSON, of a known kind, with known fields only.

Complaints are those of Kubernetes' strict decoders (k8s.io/apimachinery `pkg/runtime/serializer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kubecore.api import durations

if TYPE_CHECKING:
    import yaml

JSON = dict[str, Any]


class Duration(str):
    """The type of fields that hold a duration as Go writes it."""


_TYPE_NAMES = {str: "string", int: "integer", bool: "boolean", float: "number", dict: "object", Duration: "string"}


class InvalidConfiguration(ValueError):
    """The file is not of the kind it should be, or says what cannot be."""


def parsed(text: str | bytes) -> Any:
    """What YAML or JSON says; of several documents the first. Raises InvalidConfiguration."""
    import yaml  # here: most starts read no such file, and it takes them some 20 ms

    try:
        return next(iter(yaml.safe_load_all(text)), None)
    except yaml.YAMLError as error:
        raise InvalidConfiguration(f"error converting YAML to JSON: {_told(error)}") from None


def read(text: str, kind: str, versions: Mapping[str, Any]) -> JSON:
    """The object of a file. `versions` has the fields by apiVersion: a mapping of names to types, mappings and lists of
    one of these. Raises InvalidConfiguration."""
    given = parsed(text)
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise InvalidConfiguration(f"couldn't decode as {kind}: not an object")
    found = checked(given, kind, versions, shown=text.strip())
    complain([again] if (again := repeated(text)) else ())
    return found


def unread(error: OSError) -> str:
    """Why a file cannot be read, as Go tells it."""
    why = (error.strerror or str(error)).lower()
    if not error.filename:
        return why
    return f"{'read' if isinstance(error, IsADirectoryError) else 'open'} {error.filename}: {why}"


def read_any(text: str, kinds: Mapping[str, Mapping[str, Any]]) -> JSON:
    """Of one of several kinds, the first of which it is taken for where it names none of them. Raises
    InvalidConfiguration."""
    given = parsed(text)
    named = given.get("kind") if isinstance(given, dict) else None
    kind = named if isinstance(named, str) and named in kinds else next(iter(kinds))
    return read(text, kind, kinds[kind])


def checked(given: JSON, kind: str, versions: Mapping[str, Any], *, shown: str) -> JSON:
    """An object that has been decoded already; `shown` is how it is told when it does not say what it is."""
    for field, told in (("kind", "Kind"), ("apiVersion", "apiVersion")):
        if not given.get(field):
            raise InvalidConfiguration(f"Object '{told}' is missing in '{shown}'")
    fields = versions.get(given["apiVersion"])
    if fields is None or given["kind"] != kind:
        raise InvalidConfiguration(f'no kind "{given["kind"]}" is registered for version "{given["apiVersion"]}"')
    complain(misfits(given, {"apiVersion": str, "kind": str, **fields}, ""))
    return given


def complain(found: Sequence[str], prefix: str = "") -> None:
    if found:
        raise InvalidConfiguration(f"strict decoding error: {', '.join(prefix + one for one in found)}")


def misfits(value: Any, wanted: Any, path: str) -> list[str]:
    """Fields that there are not, and values of another type than their field's. Raises InvalidConfiguration for what is
    to be a duration and is none."""
    if value is None:
        return []
    if wanted is Duration and isinstance(value, str):
        _check_duration(value)
        return []
    if isinstance(wanted, Mapping):
        if not isinstance(value, dict):
            return [f'"{path}" is no object']
        found = []
        for name, one in value.items():
            where = f"{path}.{name}" if path else str(name)
            found += misfits(one, wanted[name], where) if name in wanted else [f'unknown field "{where}"']
        return found
    if isinstance(wanted, list):
        if not isinstance(value, list):
            return [f'"{path}" is no list']
        return [text for index, one in enumerate(value) for text in misfits(one, wanted[0], f"{path}[{index}]")]
    fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and wanted is not bool):
        return [f'"{path}" is no {_TYPE_NAMES[wanted]}']
    return []


def _check_duration(text: str) -> None:
    try:
        durations.seconds(text)
    except ValueError as error:
        raise InvalidConfiguration(str(error)) from None


def repeated(text: str) -> str:
    """Which keys of YAML that can be read are given more than once, as Go's reader of YAML tells it; "" for none."""
    import yaml  # here: most starts read no such file, and it takes them some 20 ms

    found = "".join(_repeated(next(iter(yaml.compose_all(text, yaml.SafeLoader)), None)))
    return f"yaml: unmarshal errors:{found}" if found else ""


def _repeated(node: yaml.Node | None) -> Iterator[str]:
    import yaml  # here: most starts read no such file, and it takes them some 20 ms

    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _repeated(one)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield f'\n  line {key.start_mark.line + 1}: key "{key.value}" already set in map'
            seen.add(key.value)
            yield from _repeated(value)


def _told(error: yaml.YAMLError) -> str:
    """On one line, as Go's reader of YAML tells it."""
    import yaml  # here: most starts read no such file, and it takes them some 20 ms

    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"yaml: {error}"
    return f"yaml: line {error.problem_mark.line + 1}: {error.problem}"
