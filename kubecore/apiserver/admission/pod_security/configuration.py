"""Reads a PodSecurityConfiguration (pod-security.admission.config.k8s.io): defaults for namespaces without labels, and
who is exempt.

After upstream k8s.io/pod-security-admission `admission/api`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import configuration_file
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.api.errors import Cause, FieldError, aggregated
from kubecore.apiserver.admission.pod_security.policy import (
    LATEST,
    LEVEL_REFUSED,
    LEVELS,
    PRIVILEGED,
    VERSION_REFUSED,
    Policy,
    Standard,
    version_of,
)
from kubecore.apiserver.registry.validation import names

JSON = dict[str, Any]

KIND = "PodSecurityConfiguration"
_MODES = ("enforce", "warn", "audit")
_FIELDS: JSON = {
    "defaults": {key: str for mode in _MODES for key in (mode, f"{mode}-version")},
    "exemptions": {"usernames": [str], "namespaces": [str], "runtimeClasses": [str]},
}
VERSIONS = {f"pod-security.admission.config.k8s.io/{version}": _FIELDS for version in ("v1", "v1beta1", "v1alpha1")}


@dataclass(frozen=True, slots=True)
class PodSecurityConfiguration:
    """Without a file everything is privileged by default, and nobody exempt."""

    defaults: Policy = field(default_factory=Policy)
    usernames: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()


def load(text: str) -> PodSecurityConfiguration:
    """From YAML or JSON; an empty text is no configuration. Raises InvalidConfiguration."""
    if not text.strip():
        return PodSecurityConfiguration()
    given = configuration_file.read(text, KIND, VERSIONS)
    causes: list[Cause] = []
    defaults = given.get("defaults") or {}
    enforce, warn, audit = (_standard(defaults, mode, causes) for mode in _MODES)
    exemptions = given.get("exemptions") or {}
    namespaces = _exempt(exemptions, "namespaces", names.dns_label, causes)
    classes = _exempt(exemptions, "runtimeClasses", names.dns_subdomain, causes)
    usernames = _exempt(exemptions, "usernames", _username_errors, causes)
    if causes:
        told = list(dict.fromkeys(map(str, causes)))
        text = aggregated(told)
        raise InvalidConfiguration(f"PodSecurity invalid: {text}")
    return PodSecurityConfiguration(Policy(enforce, audit, warn), usernames, namespaces, classes)


def _standard(defaults: JSON, mode: str, causes: list[Cause]) -> Standard:
    level = defaults.get(mode) or PRIVILEGED
    version = defaults.get(f"{mode}-version") or "latest"
    if level not in LEVELS:
        causes.append(FieldError.invalid(f"defaults.{mode}", level, LEVEL_REFUSED))
    parsed = version_of(version)
    if parsed is None:
        causes.append(FieldError.invalid(f"defaults.{mode}-version", version, VERSION_REFUSED))
    return Standard(level, LATEST if parsed is None else parsed)


def _exempt(exemptions: JSON, field: str, wrong: Callable[[str], Sequence[str]], causes: list[Cause]) -> frozenset[str]:
    seen: set[str] = set()
    for index, one in enumerate(exemptions.get(field) or ()):
        path = f"exemptions.{field}[{index}]"
        if told := wrong(one):
            causes.append(FieldError.invalid(path, one, ", ".join(told)))
        elif one in seen:
            causes.append(FieldError.duplicate(path, one))
        else:
            seen.add(one)
    return frozenset(seen)


def _username_errors(name: str) -> list[str]:
    return [] if name else ["username must not be empty"]
