"""Versions of a definition: names, flags, subresources, printer columns, selectable fields, and schemas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]
# (schema, the stored one, whether there is a status subresource) → (reason, field below openAPIV3Schema, message) each.
SchemaCheck = Callable[[JSON, JSON | None, bool], Sequence[tuple[str, str, str]]]

MOST_SELECTABLE_FIELDS = 8
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password")
_SELECTABLE_TYPES = ("string", "boolean", "integer")


def validate_versions(problems: Problems, spec: JSON, old: JSON | None, check: SchemaCheck) -> None:
    """`old` is the stored spec on update."""
    versions = spec.get("versions") or []
    before = {version.get("name"): version for version in (old or {}).get("versions") or []}
    for index, version in enumerate(versions):
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            problems.required(f"spec.versions[{index}].schema.openAPIV3Schema")
    for index, version in enumerate(versions):
        path, name = f"spec.versions[{index}]", version.get("name") or ""
        if errors := names.dns_1035_label(name):
            problems.invalid(f"{path}.name", name, ",".join(errors))
        _validate_version(problems, version, before.get(name), path, check)
    given = [version.get("name") for version in versions]
    if len(set(given)) < len(given):
        problems.invalid("spec.versions", versions, "must contain unique version names")
    if sum(1 for version in versions if version.get("storage")) != 1:
        problems.invalid("spec.versions", versions, "must have exactly one version marked as storage version")


def _validate_version(problems: Problems, version: JSON, old: JSON | None, path: str, check: SchemaCheck) -> None:
    for error in _deprecation_errors(bool(version.get("deprecated")), version.get("deprecationWarning")):
        problems.invalid(f"{path}.deprecationWarning", version.get("deprecationWarning"), error)
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    subresources = version.get("subresources") or {}
    if schema:
        stored = ((old or {}).get("schema") or {}).get("openAPIV3Schema")
        for reason, field, message in check(schema, stored, "status" in subresources):
            below = f".{field}" if field and not field.startswith("[") else field
            problems.append(Cause(reason, message, f"{path}.schema.openAPIV3Schema{below}"))
    if subresources.get("scale") is not None:
        _validate_scale(problems, subresources["scale"], f"{path}.subresources.scale")
    for number, column in enumerate(version.get("additionalPrinterColumns") or []):
        _validate_column(problems, column, f"{path}.additionalPrinterColumns[{number}]")
    fields = version.get("selectableFields") or []
    if fields:
        unchanged = old is not None and old.get("selectableFields") == fields
        _validate_selectable(problems, fields, schema or {}, f"{path}.selectableFields", unchanged=unchanged)


def _deprecation_errors(deprecated: bool, warning: str | None) -> list[str]:
    if warning is None:
        return []
    if not deprecated:
        return ["can only be set for deprecated versions"]
    errors = []
    if len(warning.encode()) > 256:
        errors.append("must be <= 256 characters long")
    if not warning:
        errors.append("must not be an empty string")
    for char in warning:
        if not char.isprintable():
            at = len(warning[: warning.index(char)].encode())
            errors.append(f"must only contain printable UTF-8 characters; non-printable character found at index {at}")
            break
    return errors


def _simple_path(problems: Problems, value: str, path: str) -> bool:
    """True when it is a path in dot notation."""
    if value.startswith("."):
        return True
    problems.invalid(path, value, "must be a simple json path starting with ." if value else "must not be empty")
    return False


def _validate_scale(problems: Problems, scale: JSON, path: str) -> None:
    for field, below in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        value = scale.get(field) or ""
        if not value:
            problems.required(f"{path}.{field}")
        elif _simple_path(problems, value, f"{path}.{field}") and not value.startswith(below):
            problems.invalid(f"{path}.{field}", value, f"should be a json path under {below[:-1]}")
    selector = scale.get("labelSelectorPath")
    if not selector or not _simple_path(problems, selector, f"{path}.labelSelectorPath"):
        return
    if not selector.startswith((".spec.", ".status.")):
        detail = "should be a json path under either .spec or .status"
        problems.invalid(f"{path}.labelSelectorPath", selector, detail)


def _validate_column(problems: Problems, column: JSON, path: str) -> None:
    if not column.get("name"):
        problems.required(f"{path}.name")
    type_name, known = column.get("type") or "", ",".join(_COLUMN_TYPES)
    if not type_name:
        problems.required(f"{path}.type", f"must be one of {known}")
    elif type_name not in _COLUMN_TYPES:
        problems.invalid(f"{path}.type", type_name, f"must be one of {known}")
    form = column.get("format")
    if form and form not in _COLUMN_FORMATS:
        problems.invalid(f"{path}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}")
    json_path = column.get("jsonPath") or ""
    if not json_path:
        problems.required(f"{path}.JSONPath")
    else:
        _simple_path(problems, json_path, f"{path}.JSONPath")


def _validate_selectable(problems: Problems, fields: list[JSON], schema: JSON, path: str, *, unchanged: bool) -> None:
    found: set[str] = set()
    for index, field in enumerate(fields):
        place, given = f"{path}[{index}].jsonPath", field.get("jsonPath") or ""
        if not given:
            problems.required(place)
            continue
        try:
            leaf = _schema_at(given, schema)
        except ValueError as error:
            problems.invalid(place, given, f"is an invalid path: {error}")
            continue
        if given.startswith(".metadata"):
            problems.invalid(place, given, "must not point to fields in metadata")
        if leaf.get("type") not in _SELECTABLE_TYPES:
            detail = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
                "are allowed."
            )
            problems.invalid(place, given, detail)
        if given in found:
            problems.duplicate(place, given)
        found.add(given)
    if len(found) > MOST_SELECTABLE_FIELDS and not unchanged:
        problems.too_many(path, len(found), MOST_SELECTABLE_FIELDS)


def _schema_at(path: str, schema: JSON) -> JSON:
    """The schema a dotted path leads to. Raises ValueError in the words of upstream's ValidFieldPath."""
    if not path.startswith("."):
        raise ValueError(f"expected [ or . but got: {path[:1]}")
    current = schema
    for name in path[1:].split("."):
        if not name:
            raise ValueError("unexpected end of JSON path")
        if name in (current.get("properties") or {}):
            current = current["properties"][name]
        elif isinstance(current.get("additionalProperties"), dict):
            raise ValueError(f"unexpected field name: {name}")
        else:
            raise ValueError(f"does not refer to a valid field: {name}")
    return current
