"""References to objects of any kind."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


def validate_typed_reference(problems: Problems, reference: JSON, path: str) -> None:
    """A TypedLocalObjectReference: a kind and a name, which end up in URLs, and a group that may be left out."""
    if reference.get("apiGroup") is not None:
        problems.check(f"{path}.apiGroup", reference["apiGroup"], names.dns_subdomain)
    for field in ("kind", "name"):
        problems.check_needed(f"{path}.{field}", reference.get(field), names.path_segment)
