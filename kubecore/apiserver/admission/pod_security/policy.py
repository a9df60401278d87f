"""Which level of the Pod Security Standards a namespace asks for: from its labels, else from the configuration.

After upstream k8s.io/pod-security-admission `api/helpers.go`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kubecore.api.errors import Cause, FieldError

PREFIX = "pod-security.kubernetes.io/"
PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)

# A version is the minor one of Kubernetes 1; this one is newer than all.
LATEST = 1 << 64
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)", re.ASCII)
_GREATEST_INTEGER = (1 << 63) - 1

LEVEL_REFUSED = f"must be one of {', '.join(LEVELS)}"
VERSION_REFUSED = 'must be "latest" or "v1.x"'


@dataclass(frozen=True, slots=True)
class Standard:
    """A level as of a version of Kubernetes."""

    level: str = PRIVILEGED
    version: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.version == LATEST else f'v1.{self.version}'}"

    def equivalent(self, other: Standard) -> bool:
        return self == other or self.level == other.level == PRIVILEGED


@dataclass(frozen=True, slots=True)
class Policy:
    """What refuses pods, what the audit hears of, and what clients are warned of."""

    enforce: Standard = field(default_factory=Standard)
    audit: Standard = field(default_factory=Standard)
    warn: Standard = field(default_factory=Standard)

    @property
    def is_privileged(self) -> bool:
        return self.enforce.level == self.audit.level == self.warn.level == PRIVILEGED

    def equivalent(self, other: Policy) -> bool:
        return (
            self.enforce.equivalent(other.enforce)
            and self.audit.equivalent(other.audit)
            and self.warn.equivalent(other.warn)
        )


def stricter(one: str, other: str) -> bool:
    """Whether the first level forbids more than the second one."""
    return LEVELS.index(one) > LEVELS.index(other)


def version_of(text: str) -> int | None:
    """Of "latest" or "v1.x"; None where it is neither."""
    if text == "latest":
        return LATEST
    found = _VERSION.fullmatch(text)
    if found is None or (minor := int(found[1])) > _GREATEST_INTEGER:
        return None
    return minor


def asked_for(labels: Mapping[str, str], defaults: Policy) -> tuple[Policy, list[Cause]]:
    """What the labels of a namespace say, and what is wrong with them.

    There is a policy in any case: what refuses pods is the strictest where its label cannot be read, the others are
    off. Who asks to have pods refused without a word about warnings is warned by the same standard."""
    causes: list[Cause] = []
    enforce, _ = _standard(labels, "enforce", defaults.enforce, causes, unread=RESTRICTED)
    audit, _ = _standard(labels, "audit", defaults.audit, causes, unread=PRIVILEGED)
    warn, warned = _standard(labels, "warn", defaults.warn, causes, unread=PRIVILEGED)
    given = labels.get(f"{PREFIX}enforce")
    if not warned and given in LEVELS and stricter(given, warn.level):
        warn = replace(warn, level=given)
        if f"{PREFIX}warn-version" not in labels:
            warn = replace(warn, version=enforce.version)
    return Policy(enforce, audit, warn), causes


def _standard(
    labels: Mapping[str, str], mode: str, default: Standard, causes: list[Cause], *, unread: str
) -> tuple[Standard, bool]:
    """Of one mode, and whether there is a label that says its level."""
    label = f"{PREFIX}{mode}"
    level, version = labels.get(label), labels.get(f"{label}-version")
    found = default
    if level is not None:
        found = replace(found, level=level if level in LEVELS else unread)
        if level not in LEVELS:
            causes.append(FieldError.invalid(f"metadata.labels[{label}]", level, LEVEL_REFUSED))
    if version is not None:
        parsed = version_of(version)
        found = replace(found, version=LATEST if parsed is None else parsed)
        if parsed is None:
            causes.append(FieldError.invalid(f"metadata.labels[{label}-version]", version, VERSION_REFUSED))
    return found, level is not None
