"""Environment variables and where their values come from."""

from __future__ import annotations

import re
from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_quantity

JSON = dict[str, Any]

_ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_SUBSCRIPT = re.compile(r"(metadata\.(?:annotations|labels))\['(.*)'\]")
_RESOURCES = tuple(
    f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage")
)
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def validate_environment(problems: Problems, variables: list[JSON], path: str) -> None:
    for index, variable in enumerate(variables):
        where = f"{path}[{index}]"
        name = variable.get("name")
        if not name:
            problems.required(f"{where}.name")
        else:
            problems.check(f"{where}.name", name, names.environment_name)
        source = variable.get("valueFrom")
        if source is not None:
            _value_source(problems, variable, source, f"{where}.valueFrom")


def _value_source(problems: Problems, variable: JSON, source: JSON, path: str) -> None:
    given = [one for one in _SOURCES if source.get(one) is not None]
    if "fieldRef" in given:
        validate_field_reference(problems, source["fieldRef"], f"{path}.fieldRef", _ENV_FIELDS)
    if "resourceFieldRef" in given:
        validate_resource_reference(problems, source["resourceFieldRef"], f"{path}.resourceFieldRef", in_volume=False)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in given:
            _key_reference(problems, source[kind], f"{path}.{kind}")
    if not given:
        listed = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        problems.invalid(path, "", f"must specify one of: {listed}")
    elif variable.get("value"):
        problems.invalid(path, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        problems.invalid(path, "", "may not have more than one field specified at a time")


def validate_field_reference(problems: Problems, reference: JSON, path: str, allowed: tuple[str, ...]) -> None:
    """A field of the pod; labels and annotations also singly, by subscript."""
    field = reference.get("fieldPath")
    if not reference.get("apiVersion"):
        problems.required(f"{path}.apiVersion")
    if not field:
        problems.required(f"{path}.fieldPath")
        return
    subscript = _SUBSCRIPT.fullmatch(field)
    if subscript is not None:
        key = subscript[2] if subscript[1] == "metadata.labels" else subscript[2].lower()
        problems.check(path, key, names.qualified_name)
    elif field not in _ENV_FIELDS and field not in VOLUME_FIELDS:
        detail = f"error converting fieldPath: field label not supported: {field}"
        problems.invalid(f"{path}.fieldPath", field, detail)
    elif field not in allowed:
        problems.unsupported(f"{path}.fieldPath", field, allowed)


def validate_resource_reference(problems: Problems, reference: JSON, path: str, *, in_volume: bool) -> None:
    """A resource of a container; only in a volume must the container be named."""
    resource = reference.get("resource")
    if in_volume and not reference.get("containerName"):
        problems.required(f"{path}.containerName")
    if not resource:
        problems.required(f"{path}.resource")
    elif resource not in _RESOURCES and not resource.startswith(("limits.hugepages-", "requests.hugepages-")):
        problems.unsupported(f"{path}.resource", resource, _RESOURCES)
    divisor = reference.get("divisor")
    if divisor not in (None, "", "0"):
        validate_quantity(problems, divisor, f"{path}.divisor")


def _key_reference(problems: Problems, reference: JSON, path: str) -> None:
    if not reference.get("name"):
        problems.required(f"{path}.name")
    key = reference.get("key")
    if not key:
        problems.required(f"{path}.key")
    else:
        problems.check(f"{path}.key", key, names.config_key)


def validate_environment_sources(problems: Problems, sources: list[JSON], path: str) -> None:
    """envFrom: whole ConfigMaps and Secrets."""
    for index, source in enumerate(sources):
        where = f"{path}[{index}]"
        if source.get("prefix"):
            problems.check(f"{where}.prefix", source["prefix"], names.environment_name)
        given = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in given:
            if not source[kind].get("name"):
                problems.required(f"{where}.{kind}.name")
        if not given:
            problems.invalid(where, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(given) > 1:
            problems.invalid(where, "", "may not have more than one field specified at a time")
