"""Versions of a definition: names, flags, subresources, printer columns, selectable fields, and schemas."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from kubecore.api.errors import Cause
from kubecore.api.quoting import Pointed
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.definitions.internal import Definition, Part
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]
# What is wrong with the schema of a part: (reason, field, message) each.
SchemaCheck = Callable[[Part, bool], Sequence[tuple[str, str, str]]]

MOST_SELECTABLE_FIELDS = 8
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_SELECTABLE_TYPES = ("string", "boolean", "integer")


def validate_versions(problems: Problems, spec: JSON, old: JSON | None, check: SchemaCheck) -> None:
    """`old` is the stored spec on update. What is said of the spec itself is `validate_whole`'s."""
    versions = spec.get("versions") or []
    _validate_presence(problems, versions, old)
    if spec.get("preserveUnknownFields") and any(_has_defaults(one) for one in _schemas(versions)):
        problems.invalid("spec.preserveUnknownFields", True, "must be false in order to use defaults in the schema")
    definition = Definition(spec)
    for version, part in zip(versions, definition.versions(), strict=True):
        if errors := names.dns_1035_label(part.version):
            problems.invalid(f"{part.path}.name", part.version, ",".join(errors))
        warning = version.get("deprecationWarning")
        for error in _deprecation_errors(bool(version.get("deprecated")), warning):
            problems.invalid(f"{part.path}.deprecationWarning", Pointed(warning or ""), error)
        _validate_part(problems, definition, part, old, check)
    given = [version.get("name") for version in versions]
    if len(set(given)) < len(given):
        problems.invalid("spec.versions", definition.shown_versions(), "must contain unique version names")
    if sum(1 for version in versions if version.get("storage")) != 1:
        detail = "must have exactly one version marked as storage version"
        problems.invalid("spec.versions", definition.shown_versions(), detail)
    if versions and (first := versions[0].get("name")) and (errors := names.dns_1035_label(first)):
        problems.invalid("spec.version", first, ",".join(errors))


def validate_whole(problems: Problems, spec: JSON, old: JSON | None, check: SchemaCheck) -> None:
    """What all versions have in common."""
    definition = Definition(spec)
    _validate_part(problems, definition, definition.whole, old, check)


def _schemas(versions: list[JSON]) -> list[JSON | None]:
    return [(version.get("schema") or {}).get("openAPIV3Schema") for version in versions]


def _has_defaults(schema: Any) -> bool:
    """Whether a schema or one below it has a default."""
    if isinstance(schema, list):
        return any(_has_defaults(one) for one in schema)
    if not isinstance(schema, dict):
        return False
    below = [schema.get(key) for key in ("items", "allOf", "anyOf", "oneOf", "not", "additionalProperties")]
    below += list((schema.get("properties") or {}).values())
    return schema.get("default") is not None or any(_has_defaults(one) for one in below)


def _validate_presence(problems: Problems, versions: list[JSON], old: JSON | None) -> None:
    """Every version has a schema; where stored ones have none, only those that are served need one."""
    lax = old is not None and any(schema is None for schema in _schemas(old.get("versions") or []))
    for index, (version, schema) in enumerate(zip(versions, _schemas(versions), strict=True)):
        if schema is not None or (lax and not version.get("served")):
            continue
        detail = "because otherwise all fields are pruned" if lax else ""
        problems.required(f"spec.versions[{index}].schema.openAPIV3Schema", detail)


def _validate_part(
    problems: Problems, definition: Definition, part: Part, old: JSON | None, check: SchemaCheck
) -> None:
    schema = (part.validation or {}).get("openAPIV3Schema")
    if schema is not None:
        for reason, field, message in check(part, definition.has_status(part)):
            problems.append(Cause(reason, message, field))
    if (part.subresources or {}).get("scale") is not None:
        _validate_scale(problems, (part.subresources or {})["scale"], f"{part.path}.subresources.scale")
    for number, column in enumerate(part.columns):
        _validate_column(problems, column, f"{part.path}.additionalPrinterColumns[{number}]")
    if not part.selectable:
        return
    path = f"{part.path}.selectableFields"
    if part.is_whole and part.validation is None:
        problems.invalid(path, "", "may only be set when validations.schema is included")
    elif not part.is_whole and schema is None:
        problems.invalid(path, "", "may only be set when `version.schema.openAPIV3Schema` is not included")
    else:
        unchanged = any(_same_selectable(part, one) for one in _parts_of(old) if one.is_whole == part.is_whole)
        _validate_selectable(problems, part.selectable, schema or {}, path, unchanged=unchanged)


def _parts_of(spec: JSON | None) -> list[Part]:
    definition = Definition(spec or {})
    return [definition.whole, *definition.versions()]


def _same_selectable(part: Part, stored: Part) -> bool:
    same_place = part.is_whole or part.version == stored.version
    return same_place and len(stored.selectable) > MOST_SELECTABLE_FIELDS and part.selectable == stored.selectable


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
            steps, leaf = _schema_at(given, schema)
        except ValueError as error:
            problems.invalid(place, given, f"is an invalid path: {error}")
            continue
        if steps[0] == "metadata":
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


_DELIMITER = re.compile(r"([.\[\]])")


def _schema_at(path: str, schema: JSON) -> tuple[list[str], JSON]:
    """The steps of a dotted path and the schema it leads to. Raises ValueError in the words of upstream's
    ValidFieldPath."""
    tokens = [token for token in _DELIMITER.split(path) if token]
    steps: list[str] = []
    current = schema
    for number in range(0, len(tokens), 2):
        if tokens[number] == "[":
            raise ValueError("array notation is not allowed")
        if tokens[number] != ".":
            raise ValueError(f"expected [ or . but got: {tokens[number]}")
        if number + 1 == len(tokens):
            raise ValueError("unexpected end of JSON path")
        steps.append(tokens[number + 1])
        properties, additional = current.get("properties"), current.get("additionalProperties")
        if properties:
            if steps[-1] not in properties:
                raise ValueError("does not refer to a valid field")
            current = properties[steps[-1]] or {}
        elif additional is not None:
            current = additional if isinstance(additional, dict) else {}
        else:
            raise ValueError("does not refer to a valid field")
    return steps, current
