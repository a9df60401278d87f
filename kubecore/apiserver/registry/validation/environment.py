"""Environment variables and where their values come from."""

from __future__ import annotations

import re
from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.paths import validate_no_backsteps
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_KNOWN_FIELDS = frozenset(
    [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ]
)
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
_SUBSCRIPT = re.compile(r"([^\[]+(?:\[(?!')[^\[]*)*)\['(.*)'\]", re.DOTALL)
_RESOURCES = tuple(
    f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory")
)
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_DIVISORS = {
    "cpu": (("1m", "1"), "1m and 1 are supported with the cpu"),
    "memory": (_SIZES, f"{', '.join(_SIZES)} are supported with the memory"),
    "ephemeral-storage": (_SIZES, f"{', '.join(_SIZES)} are supported with the local ephemeral storage"),
    "hugepages": (_SIZES, f"{', '.join(_SIZES)} are supported with the hugepages"),
}
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def validate_environment(problems: Problems, variables: list[JSON], path: str) -> None:
    for index, variable in enumerate(variables):
        where = f"{path}[{index}]"
        name = variable.get("name")
        problems.check_needed(f"{where}.name", name, names.environment_name)
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
    if "fileKeyRef" in given:
        _file_reference(problems, source["fileKeyRef"], f"{path}.fileKeyRef")
    if not given:
        listed = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        problems.invalid(path, "", f"must specify one of: {listed}")
    elif variable.get("value"):
        problems.invalid(path, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        problems.invalid(path, "", "may not have more than one field specified at a time")


def validate_field_reference(problems: Problems, reference: JSON, path: str, allowed: tuple[str, ...]) -> None:
    """A field of the pod; labels and annotations also singly, by subscript."""
    field, version = reference.get("fieldPath"), reference.get("apiVersion")
    if not version:
        problems.required(f"{path}.apiVersion")
        return
    if not field:
        problems.required(f"{path}.fieldPath")
        return
    subscript = _SUBSCRIPT.fullmatch(field)
    problem = _conversion_problem(field, version, subscript[1] if subscript else "")
    if problem:
        problems.invalid(f"{path}.fieldPath", field, f"error converting fieldPath: {problem}")
    elif subscript is not None:
        key = subscript[2] if subscript[1] == "metadata.labels" else subscript[2].lower()
        problems.check(path, key, names.qualified_name)
    else:
        field = "spec.nodeName" if field == "spec.host" else field
        if field not in allowed:
            problems.unsupported(f"{path}.fieldPath", field, allowed)


def _conversion_problem(field: str, version: str, subscripted: str) -> str:
    if version != "v1":
        return f"unsupported pod version: {version}"
    if subscripted:
        if subscripted in ("metadata.annotations", "metadata.labels"):
            return ""
        return f"field label does not support subscript: {field}"
    return "" if field in _KNOWN_FIELDS or field == "spec.host" else f"field label not supported: {field}"


def validate_resource_reference(problems: Problems, reference: JSON, path: str, *, in_volume: bool) -> None:
    """A resource of a container; only in a volume must the container be named."""
    resource = reference.get("resource") or ""
    if in_volume and not reference.get("containerName"):
        problems.required(f"{path}.containerName")
    elif not resource:
        problems.required(f"{path}.resource")
    elif resource not in _RESOURCES and not resource.startswith(("limits.hugepages-", "requests.hugepages-")):
        problems.unsupported(f"{path}.resource", resource, _RESOURCES)
    divisor = reference.get("divisor")
    if divisor not in (None, "", "0"):
        kind, _, name = resource.partition(".")
        known = _DIVISORS.get("hugepages" if name.startswith("hugepages-") else name)
        if known is not None and kind in ("limits", "requests") and divisor not in known[0]:
            problems.invalid(f"{path}.divisor", resource, f"only divisor's values {known[1]} resource")


def _key_reference(problems: Problems, reference: JSON, path: str) -> None:
    problems.check(f"{path}.name", reference.get("name") or "", names.dns_subdomain)
    problems.check_needed(f"{path}.key", reference.get("key"), names.config_key)


def _file_reference(problems: Problems, reference: JSON, path: str) -> None:
    problems.check_needed(f"{path}.key", reference.get("key"), names.environment_name)
    problems.check_needed(f"{path}.volumeName", reference.get("volumeName"), names.dns_label)
    if not reference.get("path"):
        problems.required(f"{path}.path")
    else:
        validate_no_backsteps(problems, reference["path"], f"{path}.path")


def validate_environment_sources(problems: Problems, sources: list[JSON], path: str) -> None:
    """envFrom: whole ConfigMaps and Secrets."""
    for index, source in enumerate(sources):
        where = f"{path}[{index}]"
        if source.get("prefix"):
            problems.check(f"{where}.prefix", source["prefix"], names.environment_name)
        given = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in given:
            problems.check_needed(f"{where}.{kind}.name", source[kind].get("name"), _begins_a_name)
        # Upstream does not say which one it means.
        if not given:
            problems.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(given) > 1:
            problems.invalid(path, "", "may not have more than one field specified at a time")


def _begins_a_name(text: str) -> list[str]:
    return names.dns_subdomain(names.as_prefix(text))
