"""Groups and names of a definition, and whether its group may be used at all."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

APPROVED = "api-approved.kubernetes.io"
_PROPOSALS = "see https://github.com/kubernetes/enhancements/pull/1111"
_MIXED_CASE = "may have mixed case, but should otherwise match: "


def validate_group(problems: Problems, group: str) -> None:
    if not group:
        problems.required("spec.group")
    elif errors := names.dns_subdomain(group):
        problems.invalid("spec.group", group, ",".join(errors))
    elif "." not in group:
        problems.invalid("spec.group", group, "should be a domain with at least one dot")


def validate_spec_names(problems: Problems, given: JSON) -> None:
    for field in ("plural", "singular", "kind", "listKind"):
        if not given.get(field):
            problems.required(f"spec.names.{field}")
    validate_names(problems, given, "spec.names")


def validate_names(problems: Problems, given: JSON, path: str) -> None:
    """Of the spec, or of the status' acceptedNames, which may be empty."""
    for field, prefix in (("plural", ""), ("singular", ""), ("kind", _MIXED_CASE), ("listKind", _MIXED_CASE)):
        value = given.get(field) or ""
        errors = names.dns_1035_label(value.lower() if prefix else value) if value else []
        if errors:
            problems.invalid(f"{path}.{field}", value, prefix + ",".join(errors))
    _labels(problems, given.get("shortNames"), f"{path}.shortNames")
    kind, list_kind = given.get("kind") or "", given.get("listKind") or ""
    if kind and kind == list_kind:
        problems.invalid(f"{path}.listKind", list_kind, "kind and listKind may not be the same")
    _labels(problems, given.get("categories"), f"{path}.categories")


def _labels(problems: Problems, values: list[str] | None, path: str) -> None:
    for index, value in enumerate(values or ()):
        if errors := names.dns_1035_label(value):
            problems.invalid(f"{path}[{index}]", value, ",".join(errors))


def is_protected(group: str) -> bool:
    """Groups of the Kubernetes community: only for APIs that it has approved."""
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def approval(annotations: JSON) -> tuple[str, str]:
    """("missing", "bypassed", "approved" or "invalid", why) of the annotation `api-approved.kubernetes.io`."""
    given = annotations.get(APPROVED) or ""
    needed = f'protected groups must have approval annotation "{APPROVED}"'
    if not given:
        return "missing", f"{needed}, {_PROPOSALS}"
    if given.startswith("unapproved"):
        return "bypassed", f'not approved: "{given}"'
    try:
        url = urlsplit(given)
    except ValueError:
        url = urlsplit("")
    if url.scheme and url.netloc:
        return "approved", f"approved in {given}"
    return "invalid", f'{needed} with either a URL or a reason starting with "unapproved", {_PROPOSALS}'


def validate_approval(problems: Problems, obj: JSON, old: JSON | None) -> None:
    if not is_protected(obj["spec"].get("group") or ""):
        return
    annotations = obj["metadata"].get("annotations") or {}
    state, why = approval(annotations)
    if old is not None and approval(old["metadata"].get("annotations") or {})[0] == state:
        return
    path = f"metadata.annotations[{APPROVED}]"
    if state == "missing":
        problems.required(path, why)
    elif state == "invalid":
        problems.invalid(path, annotations.get(APPROVED), why)
