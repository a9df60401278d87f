"""What is written into volumes from elsewhere: keys of ConfigMaps and Secrets, fields of the pod, tokens, certificates.

After kubernetes `pkg/apis/core/validation/validation.go`, validateProjectionSources and its relatives.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation.environment import (
    VOLUME_FIELDS,
    validate_field_reference,
    validate_resource_reference,
)
from kubecore.apiserver.registry.validation.paths import validate_file_path
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_TOKEN_SECONDS, _TOKEN_MAXIMUM = 600, 2**32
_TAKEN = "conflicting duplicate paths"


def validate_mode(problems: Problems, mode: int | None, path: str) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        problems.invalid(path, mode, _MODE)


def validate_items(problems: Problems, items: list[JSON], path: str) -> None:
    """Keys of a ConfigMap or Secret and the files they become."""
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        problems.need(where, item, "key", "path")
        validate_file_path(problems, item.get("path") or "", f"{where}.path")
        validate_mode(problems, item.get("mode"), f"{where}.mode")


def validate_downward(problems: Problems, items: list[JSON], path: str) -> None:
    """Fields of the pod. Upstream does not say which item it means."""
    for item in items:
        problems.need(path, item, "path")
        validate_file_path(problems, item.get("path") or "", f"{path}.path")
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field is not None:
            validate_field_reference(problems, field, f"{path}.fieldRef", VOLUME_FIELDS)
            if resource is not None:
                problems.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
        elif resource is not None:
            validate_resource_reference(problems, resource, f"{path}.resourceFieldRef", in_volume=True)
        else:
            problems.required(path, "one of fieldRef and resourceFieldRef is required")
        validate_mode(problems, item.get("mode"), f"{path}.mode")


def validate_projected(problems: Problems, source: JSON, path: str) -> None:
    validate_mode(problems, source.get("defaultMode"), f"{path}.defaultMode")
    taken: set[str] = set()
    for index, projection in enumerate(source.get("sources") or []):
        where = f"{path}.sources[{index}]"
        given = [kind for kind in _PROJECTIONS if projection.get(kind) is not None]
        for kind in given:
            _PROJECTIONS[kind](problems, projection[kind], f"{where}.{kind}", path, taken)
        if len(given) > 1:
            problems.forbidden(where, "may not specify more than 1 volume type per source")


def _take(problems: Problems, file: str, path: str, taken: set[str], shown: str) -> None:
    if file in taken:
        problems.invalid(path, shown, _TAKEN)
    taken.add(file)


def _keyed(problems: Problems, source: JSON, path: str, volume: str, taken: set[str]) -> None:
    problems.need(path, source, "name")
    items = source.get("items") or []
    validate_items(problems, items, f"{path}.items")
    for item in items:
        if item.get("path"):
            _take(problems, item["path"], volume, taken, source.get("name") or "")


def _downward(problems: Problems, source: JSON, path: str, volume: str, taken: set[str]) -> None:
    items = source.get("items") or []
    validate_downward(problems, items, path)
    for item in items:
        if item.get("path"):
            _take(problems, item["path"], volume, taken, item["path"])


def _token(problems: Problems, source: JSON, path: str, volume: str, taken: set[str]) -> None:
    seconds = source.get("expirationSeconds") or 0
    if seconds < _TOKEN_SECONDS:
        problems.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    elif seconds > _TOKEN_MAXIMUM:
        problems.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    problems.need(volume, source, "path")
    validate_file_path(problems, source.get("path") or "", f"{volume}.path")


_PROJECTIONS = {"secret": _keyed, "configMap": _keyed, "downwardAPI": _downward, "serviceAccountToken": _token}
